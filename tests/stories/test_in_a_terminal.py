"""The window in a real pseudo-terminal, as a person has it: keys, signals, kill -9 and a new start."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.terminal import Terminal

MODES = (b"\x1b[?1049l", b"\x1b[?1000l", b"\x1b[?2004l", b"\x1b[?25h")
"""Alternate screen, mouse and bracketed paste are off again, and the cursor is there."""


def started(home: Path, folder: Path, *words: str, size: tuple[int, int] = (100, 30)) -> Terminal:
    return Terminal(["-m", "wilson", *words], home, folder, size=size)


def configured(home: Path, text: str) -> None:
    (home / "config").mkdir(parents=True)
    (home / "config" / "config.yaml").write_text(text, "utf-8")


def tasks(home: Path, folder: Path) -> list[dict]:
    run = subprocess.run(
        [sys.executable, "-m", "wilson", "task", "list", "--json"],
        cwd=folder, env={"WILSON_HOME": str(home), "PATH": "/usr/bin:/bin"}, capture_output=True, check=True,
    )  # fmt: skip
    return json.loads(run.stdout)


def alive(process: psutil.Process) -> bool:
    """A process that has ended may wait for somebody to notice; it takes no memory any more."""
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.mark.parametrize("size", [(100, 30), (40, 12)], ids=["wide", "small"])
def test_one_talks_to_the_demo(tmp_path: Path, size: tuple[int, int]):
    with started(tmp_path / "home", tmp_path, "--profile", "demo", size=size) as terminal:
        terminal.until("DEMO")
        terminal.until("Say something")
        terminal.press("what's 2+2?\r")
        terminal.until("And as you see")
        terminal.press("/quit\r")
        assert terminal.ended() == 0, terminal.last.decode()


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129), (signal.SIGINT, 130)], ids=["term", "hup", "int"]
)
def test_the_terminal_is_as_it_was_after_a_signal(tmp_path: Path, number: signal.Signals, code: int):
    with started(tmp_path / "home", tmp_path, "--profile", "demo") as terminal:
        terminal.until("Say something")
        assert terminal.end(number) == code
        assert [mode for mode in MODES if mode not in terminal.last] == []


def test_without_a_server_the_ways_to_a_model_are_offered_and_one_key_starts_the_demo(tmp_path: Path):
    configured(tmp_path / "home", "endpoints: [{name: local, provider: ollama, url: 'http://127.0.0.1:9'}]\n")
    with started(tmp_path / "home", tmp_path) as terminal:
        terminal.until("No chat model was found")
        terminal.until("http://127.0.0.1:9")
        terminal.press("d")
        terminal.until("DEMO")
        terminal.until("Say something")
        terminal.press("what's 2+2?\r")
        terminal.until("And as you see")


def test_after_kill_9_no_engine_is_left_and_the_task_is_interrupted(tmp_path: Path, model_file):
    home = tmp_path / "home"
    configured(
        home,
        f"llms:\n  chat: {{provider: llamacpp, model: {model_file('tiny')}}}\n"
        f"  code: {{provider: llamacpp, model: {model_file('talkative')}, max_tokens: 1000000, num_ctx: 8192}}\n",
    )
    with started(home, tmp_path) as terminal:
        terminal.until("Say something")
        terminal.press("/task write it\r")
        terminal.until("writing")
        engines = psutil.Process(terminal.process.pid).children(recursive=True)
        assert len(engines) == 2
        terminal.end(signal.SIGKILL)
        psutil.wait_procs(engines, timeout=1)
        assert [engine for engine in engines if alive(engine)] == []
    assert [(task["state"], task["outcome_reason"]) for task in tasks(home, tmp_path)] == [("failed", "interrupted")]
    with started(home, tmp_path) as terminal:
        terminal.until("TASK-001 failed (interrupted)")


def test_a_second_window_says_that_it_is_attached_and_works(tmp_path: Path):
    home = tmp_path / "home"
    with started(home, tmp_path, "--profile", "demo") as first:
        first.until("Say something")
        with started(home, tmp_path, "--profile", "demo") as second:
            second.until("attached: another Wilson owns the store")
            second.press("what's 2+2?\r")
            second.until("And as you see")
            second.press("/task write it\r")
            first.until("1 at work")
