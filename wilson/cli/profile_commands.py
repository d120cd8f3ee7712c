"""``wilson profile``: which machine profiles there are, what they say, and whether they suit this machine."""

import argparse
import asyncio
import json
from typing import Any

from wilson import headless
from wilson.assistant.opening import front_door, somebody_owns
from wilson.config import profiles
from wilson.config.settings import Settings, Sources, load
from wilson.config.sources import anchored
from wilson.config.user_file import set_value
from wilson.domain.errors import ConfigError
from wilson.domain.value import replace


def run(args: argparse.Namespace, sources: Sources) -> int:
    match args.verb:
        case "list":
            return _list(sources, as_json=args.json)
        case "show":
            return _show(args.name, sources)
        case "use":
            return _use(args.name, sources)
        case _:
            return _check(args.name, sources)


def _list(sources: Sources, *, as_json: bool) -> int:
    current = load(sources, lenient=True).profile.name
    rows: list[dict[str, Any]] = [
        {
            "name": profile.name,
            "current": profile.name == current,
            "own": profile.own,
            "path": str(profile.path),
            "description": _description(profile),
        }
        for profile in profiles.all_profiles(sources.folders)
    ]
    if as_json:
        headless.put_json(rows)
        return headless.DONE
    width = max(len(row["name"]) for row in rows)
    for row in rows:
        headless.put(f"{'*' if row['current'] else ' '} {row['name']:<{width}}  {row['description']}")
    return headless.DONE


def _show(name: str | None, sources: Sources) -> int:
    wanted = name or load(sources, lenient=True).profile.name
    path = profiles.find(wanted, sources.folders, sources.workspace)
    headless.put(f"# {path}\n{path.read_text('utf-8')}", end="")
    return headless.DONE


def _use(name: str, sources: Sources) -> int:
    settings = _loaded(name, sources)
    path = profiles.find(name, sources.folders, sources.workspace)
    known = {profile.name for profile in profiles.all_profiles(sources.folders)}
    set_value(sources.user_config, "profile", name if name in known else json.dumps(str(path.resolve())))
    headless.put(f"{settings.profile.name} is your profile now, in {sources.user_config}")
    if somebody_owns(sources.folders):
        asyncio.run(_tell_owner(settings, name))
        headless.put("the Wilson that is running has switched too; running tasks end on the models they have")
    return headless.DONE


async def _tell_owner(settings: Settings, name: str) -> None:
    async with front_door(settings) as door:
        await door.use_profile(name)


def _check(name: str | None, sources: Sources) -> int:
    from wilson.providers.machine import machine_memory

    settings = _loaded(name, sources)
    profile = settings.profile
    machine = machine_memory()
    wanted = profile.resources.warn_threshold_mb
    if profile.resources.warn_threshold_mb > profile.resources.max_memory_mb:
        raise ConfigError((f"{profile.name}: resources.warn_threshold_mb is above resources.max_memory_mb",))
    if not profile.is_demo and wanted > machine.total_mb:
        raise ConfigError((
            f"{profile.name} does not suit this machine: its models may take {profile.resources.max_memory_mb} MB, "
            f"and the machine has {machine.total_mb} MB in all; try a smaller profile, see: wilson profile list",
        ))
    headless.put(
        f"{profile.name} is sound: up to {profile.resources.max_memory_mb} MB for models, "
        f"{profile.workers.max_concurrent} workers; this machine has {machine.total_mb} MB, "
        f"{machine.available_mb} MB of them available now"
    )
    return headless.DONE


def _loaded(name: str | None, sources: Sources) -> Settings:
    """The settings with another profile.

    Raises:
        ConfigError, UsageError: there is none of that name, or it is broken.
    """
    if name is not None:
        profiles.find(name, sources.folders, sources.workspace)
        sources = replace(sources, flags={**sources.flags, "profile": name})
    return load(sources)


def _description(profile: profiles.ProfileFile) -> str:
    try:
        return str(anchored(profile.path).value.get("description", ""))
    except ConfigError as error:
        return f"broken: {error.problems[0]}"
