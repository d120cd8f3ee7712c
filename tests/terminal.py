"""A program in a terminal of its own: keys are written to it, and what it draws is read back, with the time."""

import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil


class Terminal:
    """A pseudo-terminal with a program of Python's in it."""

    def __init__(
        self,
        words: Sequence[str],
        home: Path,
        folder: Path,
        python_path: Path | None = None,
        size: tuple[int, int] = (120, 40),
    ) -> None:
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", size[1], size[0], 0, 0))
        known = {name: value for name, value in os.environ.items() if not name.startswith(("WILSON_", "TEXTUAL"))}
        if python_path is not None:
            known["PYTHONPATH"] = str(python_path)
        self.began = time.perf_counter()
        self.process = subprocess.Popen(
            [sys.executable, *words],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            cwd=folder,
            env={**known, "TERM": "xterm-256color", "COLORTERM": "truecolor", "WILSON_HOME": str(home)},
            start_new_session=True,
        )
        os.close(slave)
        self.drawn = 0
        """How many bytes the program has written."""
        self.last = b""
        """The last of them."""
        self._tail = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end(signal.SIGTERM)
        os.close(self._master)

    def end(self, number: signal.Signals) -> int:
        """Send a signal, read to the end, and tell the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.ended()

    def ended(self) -> int:
        """Read to the end, and tell the exit code."""
        while self.process.poll() is None:
            self._read(0.05)
        while self._read(0.0):
            pass
        return self.process.returncode

    def cpu_s(self) -> float:
        """Seconds of processor time so far."""
        times = psutil.Process(self.process.pid).cpu_times()
        return times.user + times.system

    def press(self, keys: str) -> float:
        """Write keys, and say when."""
        os.write(self._master, keys.encode())
        return time.perf_counter()

    def forget(self) -> None:
        """What has been drawn so far does not count for :meth:`until`."""
        while self._read(0.0):
            pass
        self._tail = b""

    def until(self, text: str, limit: float = 50.0) -> float:
        """Read until ``text`` is drawn, and say when that was."""
        wanted = text.encode()
        end = time.perf_counter() + limit
        while wanted not in self._tail:
            if time.perf_counter() > end:
                raise TimeoutError(f"{text!r} was not drawn within {limit:g} s; the end is {self._tail[-400:]!r}")
            self._read(0.5)
        self._tail = self._tail.partition(wanted)[2]
        return time.perf_counter()

    def for_seconds(self, seconds: float) -> None:
        """Go on reading for a while."""
        end = time.perf_counter() + seconds
        while (left := end - time.perf_counter()) > 0:
            self._read(left)

    def _read(self, patience: float) -> bool:
        """Whether something came."""
        if select.select([self._master], [], [], patience)[0]:
            try:
                data = os.read(self._master, 1 << 16)
            except OSError:  # The program has ended, and the terminal with it.
                return False
            self.drawn += len(data)
            self._tail = (self._tail + data)[-(1 << 16) :]
            self.last = (self.last + data)[-(1 << 12) :]
            return bool(data)
        return False
