"""The start-up budget: what a command imports before it does anything, watched by Python's own list."""

import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = {"textual", "pydantic", "mcp", "acp", "huggingface_hub", "xllamacpp", "numpy"}
"""Imported by whoever uses them, when they use them."""


def imported_by(*words: str, cwd: Path) -> set[str]:
    """The top-level packages that ``wilson`` with these words imports."""
    run = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "wilson", *words],
        cwd=cwd, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
    )  # fmt: skip
    lines = (line.rpartition("|")[2].strip() for line in run.stderr.splitlines() if line.startswith("import time:"))
    return {name.partition(".")[0] for name in lines}


def test_the_version_costs_next_to_nothing(tmp_path: Path):
    found = imported_by("--version", cwd=tmp_path)
    assert found & (HEAVY | {"asyncio", "msgspec", "yaml", "httpx", "aiosqlite", "argparse", "rich"}) == set()


@pytest.mark.parametrize(
    ("words", "spared"),
    [
        (("config", "show"), {"httpx", "aiosqlite", "psutil"}),
        (("--profile", "demo", "-p", "what's 2+2?"), {"httpx"}),
        (("--profile", "demo", "task", "add", "x", "--json"), {"httpx"}),
        (("-p", "hello"), set()),
    ],
    ids=["config", "demo", "task", "ollama"],
)
def test_a_command_imports_only_what_it_uses(tmp_path: Path, words: tuple[str, ...], spared: set[str]):
    assert imported_by(*words, cwd=tmp_path) & (HEAVY | {"rich"} | spared) == set()
