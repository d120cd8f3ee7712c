"""Who owns the store: the one process with a lock that the kernel takes back when it ends, in whatever way it ends."""

import fcntl
import json
import os
from pathlib import Path
from typing import Self

from wilson.domain.errors import StoreError
from wilson.domain.value import Struct


class Owner(Struct, frozen=True):
    """What the owner tells other processes about itself."""

    pid: int
    socket: str | None
    """Where it can be asked; none while it is only passing through."""


class Ownership:
    """The lock, held until :meth:`give_up`, or until the process ends."""

    def __init__(self, file: int, path: Path) -> None:
        self._file = file
        self._path = path

    @classmethod
    def claim(cls, folder: Path) -> Self | None:
        """The lock in ``folder``, or none when another process holds it.

        Raises:
            StoreError: the folder cannot be written to.
        """
        path = folder / "owner.lock"
        try:
            file = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StoreError(f"the lock {path} cannot be opened: {error.strerror}; is the folder writable?") from error
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(file)
            return None
        ownership = cls(file, path)
        ownership.announce(None)
        return ownership

    def announce(self, socket: str | None) -> None:
        """Tell other processes where the owner can be asked."""
        # Written in place: replacing the file would leave the lock on one that nobody finds any more.
        raw = json.dumps({"pid": os.getpid(), "socket": socket}).encode()
        os.pwrite(self._file, raw, 0)
        os.ftruncate(self._file, len(raw))

    def give_up(self) -> None:
        os.ftruncate(self._file, 0)
        os.close(self._file)


def owner(folder: Path) -> Owner | None:
    """What the present owner says of itself, as far as it has said anything yet."""
    try:
        said = json.loads((folder / "owner.lock").read_text("utf-8"))
        return Owner(said["pid"], said["socket"])
    except (OSError, ValueError, KeyError):
        return None
