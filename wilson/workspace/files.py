"""Files of the workspace: nothing outside it can be reached, and a write is whole or absent."""

import asyncio
import errno
import os
import secrets
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import Final

from wilson.domain.errors import PathRefused, WorkspaceError

PROTECTED: Final = frozenset({".git", ".wilson"})
"""Folders whose content makes other programs run code, or tells Wilson what it may do; never written to."""
_LONGEST_NAME: Final = 255


class Workspace:
    """The folder that the user works in."""

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()

    def relative(self, path: str) -> PurePosixPath:
        """``path`` as a plain relative path, judged by its letters alone.

        Raises:
            PathRefused: it leads, or may lead, out of the workspace.
        """
        name = path.replace("\\", "/")
        if PurePosixPath(name).is_absolute():
            inside = PurePosixPath(name)
            if not inside.is_relative_to(PurePosixPath(self.root)):
                raise PathRefused(f"{path} lies outside the workspace {self.root}; files are written inside it only")
            name = str(inside.relative_to(PurePosixPath(self.root)))
        parts = tuple(part for part in name.split("/") if part not in {"", "."})
        if not parts:
            raise PathRefused(f"{path!r} names no file")
        for part in parts:
            if part == ".." or part.startswith("~") or (len(part) > 1 and part[1] == ":"):
                raise PathRefused(f"{path} may lead out of the workspace; write it relative to {self.root}")
            if not part.isprintable() or part != part.strip() or len(part.encode()) > _LONGEST_NAME:
                raise PathRefused(f"{path!r} has a part that is no proper file name")
        if parts[0].casefold() in PROTECTED:
            raise PathRefused(f"{path} lies in {parts[0]}, which is never written to")
        return PurePosixPath(*parts)

    async def write_all(self, files: Mapping[str, str]) -> tuple[str, ...]:
        """Write files, each whole or not at all; none when one of the paths is refused. Their relative paths.

        Raises:
            PathRefused: a path leads out of the workspace, or to something that is no plain file.
            WorkspaceError: the disk says no.
        """
        targets = {self.relative(path): content for path, content in files.items()}
        # A thread finishes its write even if nobody waits for it any more.
        await asyncio.to_thread(self._write_all, targets)
        return tuple(str(path) for path in targets)

    def _write_all(self, targets: Mapping[PurePosixPath, str]) -> None:
        for path in targets:
            with self._folder(path, make=False) as folder:
                if folder is not None:
                    _checked(folder, path)
        for path, content in targets.items():
            with self._folder(path, make=True) as folder:
                assert folder is not None
                _write(folder, path, content.encode("utf-8", "replace"))

    @contextmanager
    def _folder(self, path: PurePosixPath, *, make: bool) -> Iterator[int | None]:
        """The open folder of a file, walked to without following any link; none when it is not there yet."""
        opened = []
        try:
            opened.append(_opened(path, str(self.root)))
            for part in path.parts[:-1]:
                if make:
                    with suppress(FileExistsError):
                        os.mkdir(part, dir_fd=opened[-1])
                try:
                    opened.append(_opened(path, part, opened[-1]))
                except FileNotFoundError:
                    yield None
                    return
            yield opened[-1]
        except OSError as error:
            raise WorkspaceError(f"{path} could not be written: {error.strerror}") from error
        finally:
            for folder in opened:
                os.close(folder)


def _opened(path: PurePosixPath, name: str, inside: int | None = None) -> int:
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | (os.O_NOFOLLOW if inside is not None else 0)
    try:
        return os.open(name, flags, dir_fd=inside)
    except NotADirectoryError as error:
        raise PathRefused(f"{path} is refused: {name} is a link, or no folder") from error
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise PathRefused(f"{path} is refused: {name} is a link") from error
        raise


def _checked(folder: int, path: PurePosixPath) -> int | None:
    """The mode of the file that stands there and may be replaced; none when there is no file yet."""
    try:
        old = os.stat(path.name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return None
    if not stat.S_ISREG(old.st_mode):
        raise PathRefused(f"{path} is refused: it is a link, a folder or a device")
    if old.st_nlink > 1:
        raise PathRefused(f"{path} is refused: the same file has another name, perhaps outside the workspace")
    return stat.S_IMODE(old.st_mode)


def _write(folder: int, path: PurePosixPath, content: bytes) -> None:
    mode = _checked(folder, path)
    temporary = f".{path.name[:200]}.{secrets.token_hex(4)}.tmp"
    file = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o666, dir_fd=folder)
    try:
        with os.fdopen(file, "wb") as stream:
            if mode is not None:
                os.fchmod(stream.fileno(), mode)
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        _checked(folder, path)
        os.rename(temporary, path.name, src_dir_fd=folder, dst_dir_fd=folder)
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary, dir_fd=folder)
        raise
    os.fsync(folder)
