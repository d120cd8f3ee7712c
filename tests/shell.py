"""Wilson's commands as a shell runs them: processes of their own, in a folder, with a home."""

import asyncio
import os
import sys
from asyncio.subprocess import PIPE, Process
from dataclasses import dataclass
from pathlib import Path


@dataclass
class Shell:
    """A folder to work in, and a home of Wilson's."""

    workspace: Path
    home: Path

    @property
    def config(self) -> Path:
        return self.home / "config" / "config.yaml"

    def configure(self, text: str) -> None:
        self.config.parent.mkdir(parents=True, exist_ok=True)
        self.config.write_text(text, "utf-8")

    async def start(self, *words: str, **environment: str) -> Process:
        known = {name: value for name, value in os.environ.items() if not name.startswith("WILSON_")}
        return await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "wilson",
            *words,
            cwd=self.workspace,
            env={**known, "WILSON_HOME": str(self.home), **environment},
            stdin=PIPE,
            stdout=PIPE,
            stderr=PIPE,
        )

    async def run(self, *words: str, stdin: str = "", **environment: str) -> tuple[int, str, str]:
        """Exit code, stdout, stderr."""
        process = await self.start(*words, **environment)
        out, err = await process.communicate(stdin.encode())
        assert process.returncode is not None
        return process.returncode, out.decode(), err.decode()


async def first_line(process: Process, words: str) -> None:
    """Wait for a line on stderr that has these words."""
    assert process.stderr is not None
    async with asyncio.timeout(30):
        while words not in (await process.stderr.readline()).decode():
            pass
