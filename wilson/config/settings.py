"""The effective settings: all layers read, checked, merged and turned into a profile.

Order, low to high: built-in defaults, profile, user's ``config.yaml``, project's ``.wilson/config.yaml`` (trusted
folders only), ``WILSON_*`` variables, flags. A sealed profile keeps its endpoints, models and agents for itself,
whatever the files say: the demo must be the demo.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from wilson.config import profiles
from wilson.config.decode import profile_of
from wilson.config.folders import shipped
from wilson.config.keys import KEYS
from wilson.config.layers import Merged
from wilson.config.sources import Found, Sources, anchored, read_sources
from wilson.config.yaml_file import Document
from wilson.domain.errors import ConfigError, UsageError
from wilson.domain.profile import PermissionMode, Profile, Setting
from wilson.domain.schema import key_path
from wilson.domain.value import Struct

__all__ = ["Settings", "Sources", "load"]

_SEALED_KEYS: Final = frozenset({"endpoints", "llms", "agents"})
_NARROW_TO_WIDE: Final = (PermissionMode.PLAN, PermissionMode.ASK, PermissionMode.ACCEPT_EDITS, PermissionMode.AUTO)


class Settings(Struct, frozen=True, kw_only=True):
    """What the configuration says, and everything that is wrong with it."""

    profile: Profile
    values: tuple[Setting, ...]
    problems: tuple[str, ...] = ()
    """Layers with problems were left out."""
    remarks: tuple[str, ...] = ()
    """Things to know that are no problem."""
    sources: Sources


def load(sources: Sources, *, lenient: bool = False) -> Settings:
    """Read all layers.

    With ``lenient`` a broken layer is left out and its problems are kept in the result, so that the window can start.

    Raises:
        ConfigError: a layer is broken.
    """
    found = read_sources(sources)
    try:
        if found.problems and not lenient:
            raise ConfigError(())
        return _merged(found, sources)
    except ConfigError as error:
        found.problems += error.problems
    if not lenient:
        raise ConfigError(tuple(found.problems))
    return _merged(Found(problems=found.problems, remarks=found.remarks), sources)


def _merged(found: Found, sources: Sources) -> Settings:
    """
    Raises:
        ConfigError: the profile is broken, or the layers contradict each other.
    """
    merged = Merged()
    merged.lay("built-in", anchored(shipped() / "config.yaml"))
    name = _lay_profile(merged, found, sources)
    kept = _SEALED_KEYS if merged.tree.get("sealed") else frozenset()
    if found.user:
        merged.lay("user", found.user, without=kept)
    if found.project:
        merged.lay("project", found.project, without=kept | _widening(merged, found))
    for variable in found.variables:
        merged.lay("environment", variable)
    for flag in found.flags:
        merged.lay("command line", flag)
    merged.tree["profile"] = name
    return Settings(
        profile=profile_of(name, merged, KEYS, sources.environ),
        values=tuple(
            Setting(key_path(path), value, origin.layer, str(origin)) for path, value, origin in merged.leaves()
        ),
        problems=tuple(found.problems),
        remarks=tuple(found.remarks),
        sources=sources,
    )


def _lay_profile(merged: Merged, found: Found, sources: Sources) -> str:
    """Lay the profile that the highest layer names; its name.

    Raises:
        ConfigError: there is none of that name, or it is broken.
    """
    for document in _from_the_top(found):
        if name := document.value.get("profile"):
            beside = sources.user_config.parent if document is found.user else Path.cwd()
            try:
                path = profiles.find(str(name), sources.folders, beside)
            except UsageError as error:
                key = " profile:" if document is found.user else ""
                raise ConfigError((f"{document.place(('profile',))}:{key} {error}",)) from error
            break
    else:
        # Not the user's own profile of that name, which may be what is broken.
        path = shipped() / "profiles" / f"{merged.tree['profile']}.yaml"
        if found.user is not None or not found.problems:
            path = profiles.find(merged.tree["profile"], sources.folders, Path.cwd())
    document = anchored(path)
    if wrong := document.problems(KEYS):
        raise ConfigError(wrong)
    merged.lay("profile", document)
    return path.stem


def _from_the_top(found: Found) -> Iterator[Document]:
    yield from reversed(found.flags)
    yield from reversed(found.variables)
    if found.user is not None:
        yield found.user


def _widening(merged: Merged, found: Found) -> frozenset[str]:
    """A project may take permissions away, and not give any."""
    wanted = found.project.value.get("permissions", {}).get("mode") if found.project else None
    if wanted is None:
        return frozenset()
    below = PermissionMode(merged.tree["permissions"]["mode"])
    if _NARROW_TO_WIDE.index(PermissionMode(wanted)) <= _NARROW_TO_WIDE.index(below):
        return frozenset()
    found.remarks.append(f"the project's permissions.mode {wanted} is wider than {below} and was left out")
    return frozenset({"permissions"})
