"""Machine profiles: those that ship, and the user's own."""

import os
from pathlib import Path

from wilson.config.folders import Folders, shipped
from wilson.domain.errors import UsageError
from wilson.domain.schema import nearest
from wilson.domain.value import Struct


class ProfileFile(Struct, frozen=True):
    """A profile in the list."""

    name: str
    path: Path
    own: bool
    """It is the user's, not a shipped one."""


def all_profiles(folders: Folders) -> tuple[ProfileFile, ...]:
    """Every profile that can be used by name; the user's own hide shipped ones of the same name."""
    found = {
        path.stem: ProfileFile(path.stem, path, own=False) for path in sorted((shipped() / "profiles").glob("*.yaml"))
    }
    if folders.profiles.is_dir():
        found |= {path.stem: ProfileFile(path.stem, path, own=True) for path in sorted(folders.profiles.glob("*.yaml"))}
    return tuple(found.values())


def find(name: str, folders: Folders, beside: Path) -> Path:
    """The file of a profile, given its name or the path of a file relative to ``beside``.

    Raises:
        UsageError: there is none.
    """
    if name.endswith((".yaml", ".yml")) or os.sep in name:
        try:
            path = beside / Path(name).expanduser()
            if path.is_file():
                return path
        except (OSError, RuntimeError, ValueError) as error:
            raise UsageError(f"there is no profile file {name[:200]!r}: {error}") from error
        raise UsageError(f"there is no profile file {path}")
    known = {profile.name: profile.path for profile in all_profiles(folders)}
    if name not in known:
        close = nearest(name, tuple(known))
        hint = f"; did you mean {close}?" if close else ""
        raise UsageError(f"there is no profile {name!r}; there are {', '.join(known)}{hint}")
    return known[name]
