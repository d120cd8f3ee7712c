"""The commands: each puts a window on the front door, and gives back an exit code."""

import argparse
import asyncio
import contextlib
import json
import logging
import logging.handlers
import os
import secrets
import select
import stat
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Final

from wilson import headless
from wilson.assistant.attached import Attached
from wilson.assistant.opening import front_door
from wilson.cli import profile_commands
from wilson.cli.running import Interruption, in_loop
from wilson.config.folders import Folders
from wilson.config.keys import KEYS
from wilson.config.settings import Settings, Sources, load
from wilson.domain.draft import draft, task_id
from wilson.domain.errors import OwnerGone, UsageError, WilsonError
from wilson.domain.front_door import FrontDoor
from wilson.domain.value import replace

_STDIN_S: Final = 3.0
"""How long piped input may take to begin."""
_MOST_STDIN: Final = 10 << 20
_MOST_OWNERS: Final = 20
"""A command asks so many owners in turn, when one after the other ends before it answers."""


def run(args: argparse.Namespace) -> int:
    """Carry out a parsed command line; a failure is one sentence on stderr and an exit code."""
    try:
        return _carried_out(args)
    except WilsonError as error:
        if _debugging(args):
            raise
        headless.complain(error)
        return headless.exit_code(error)
    except BrokenPipeError:
        # The reader has gone. Python would complain once more when it flushes stdout at the end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except KeyboardInterrupt:
        return headless.INTERRUPTED


def _carried_out(args: argparse.Namespace) -> int:
    match (args.command, getattr(args, "verb", None)):
        case ("config", "schema"):
            print(json.dumps(KEYS, indent=2, ensure_ascii=False))
            return headless.DONE
        case ("config", _):
            return headless.show_settings(_settings(args).values, origin=args.origin, as_json=args.json)
        case ("profile", _):
            return profile_commands.run(args, _sources(args))
        case ("task", _):
            return in_loop(lambda interruption: _task(args, interruption))
        case ("status" | "models", _):
            return in_loop(lambda _: _show(args))
    if args.prompt is not None:
        return in_loop(lambda _: _say(args))
    if args.plain:
        return in_loop(lambda _: _plain(args))
    return _window(args)


async def _task(args: argparse.Namespace, interruption: Interruption) -> int:
    settings = _settings(args)
    if args.verb == "add":
        return await _add_task(args, settings, interruption)
    return await _at_the_door(settings, lambda door: _about_a_task(args, door))


async def _about_a_task(args: argparse.Namespace, door: FrontDoor) -> int:
    if args.verb == "list":
        return await headless.list_tasks(door, as_json=args.json)
    if args.verb == "show":
        return await headless.show_task(door, task_id(args.task), as_json=args.json)
    return await headless.change_task(door, args.verb, task_id(args.task), as_json=args.json)


async def _add_task(args: argparse.Namespace, settings: Settings, interruption: Interruption) -> int:
    wanted = draft(
        " ".join(args.goal),
        settings.profile.agents,
        agent=args.agent,
        kind=args.type,
        priority=args.priority,
        depends_on=args.depends_on,
    )
    # Should the owner end before it answers, asking the next one again makes no second task.
    wanted = replace(wanted, key=secrets.token_hex(16))

    async def add(door: FrontDoor) -> int:
        task = await headless.add_task(door, wanted, as_json=args.json, quiet=args.wait)
        if not args.wait:
            return headless.DONE
        interruption.expected = True
        return await headless.wait_for_task(door, task.id, as_json=args.json, interrupted=interruption.happened)

    return await _at_the_door(settings, add, stays=args.wait)


async def _at_the_door(settings: Settings, deed: Callable[[FrontDoor], Awaitable[int]], *, stays: bool = False) -> int:
    """Do something that can be done again, until an owner has lived long enough to answer."""
    for _ in range(_MOST_OWNERS):
        async with front_door(settings, stays=stays) as door:
            with contextlib.suppress(OwnerGone):
                return await deed(door)
    raise OwnerGone("one Wilson after the other ended before it answered; look at wilson status, and try again")


async def _show(args: argparse.Namespace) -> int:
    show = headless.show_status if args.command == "status" else headless.show_models
    return await _at_the_door(_settings(args), lambda door: show(door, as_json=args.json))


async def _say(args: argparse.Namespace) -> int:
    settings = _settings(args)
    context = await asyncio.to_thread(_piped)
    prompt = f"{args.prompt}\n\n{context}" if context else args.prompt
    if not prompt.strip():
        raise UsageError('the prompt is empty; say something, for example: wilson -p "what is a mutex?"')

    async def ask(door: FrontDoor) -> int:
        return await headless.say(
            door, prompt, output=args.output, wait=args.wait, max_turns=args.max_turns, timeout=args.timeout
        )

    return await _at_the_door(settings, ask, stays=True)


async def _plain(args: argparse.Namespace) -> int:
    async with front_door(_settings(args), stays=True, runs_all=True) as door:
        return await headless.converse(door, _typed_lines())


def _window(args: argparse.Namespace) -> int:
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise UsageError("the window needs a terminal; use wilson -p PROMPT, or wilson --plain")
    return asyncio.run(_in_window(args))


async def _in_window(args: argparse.Namespace) -> int:
    # Textual takes its time to import, and no other command needs it.
    from wilson.tui.app import show_window

    settings = _settings(args, lenient=True)
    async with front_door(settings, stays=True, runs_all=True) as door:
        conversation = await door.last_conversation() if args.resume_last else args.resume
        return await show_window(
            door,
            banner=settings.problems,
            models_folder=str(settings.sources.folders.models),
            conversation=conversation,
            attached=isinstance(door, Attached),
        )


async def _typed_lines() -> AsyncIterator[str]:
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=_MOST_STDIN)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        yield line.decode("utf-8", "replace")


def _piped() -> str:
    """What was piped in, if anything was; a pipe that stays silent is not waited for without end."""
    try:
        kind = os.fstat(sys.stdin.fileno()).st_mode
    except (OSError, ValueError):
        return ""
    if stat.S_ISREG(kind):
        return sys.stdin.buffer.read(_MOST_STDIN).decode("utf-8", "replace").strip()
    if not (stat.S_ISFIFO(kind) or stat.S_ISSOCK(kind)):
        return ""
    if not select.select([sys.stdin], [], [], _STDIN_S)[0]:
        headless.put(f"wilson: nothing came on stdin within {_STDIN_S:g} s; going on without it", to=sys.stderr)
        return ""
    return sys.stdin.buffer.read(_MOST_STDIN).decode("utf-8", "replace").strip()


def _sources(args: argparse.Namespace) -> Sources:
    flags = {}
    if profile := getattr(args, "profile", None):
        flags["profile"] = profile
    if mode := getattr(args, "permissions", None):
        flags["permissions.mode"] = mode
    workspace: Path = getattr(args, "workspace", None) or Path.cwd()
    if not workspace.is_dir():
        raise UsageError(f"there is no folder {workspace}")
    config: Path | None = getattr(args, "config", None)
    if config is not None and not config.is_file():
        raise UsageError(f"there is no file {config}")
    return Sources(folders=Folders.here(), config=config, workspace=workspace, flags=flags)


def _settings(args: argparse.Namespace, *, lenient: bool = False) -> Settings:
    settings = load(_sources(args), lenient=lenient)
    for remark in settings.remarks:
        headless.put(f"wilson: {remark}", to=sys.stderr)
    _log_to_file(settings.sources.folders, debug=_debugging(args))
    return settings


def _log_to_file(folders: Folders, *, debug: bool) -> None:
    """Faults go into a file that only the user can read; nothing is ever logged to the terminal."""
    root = logging.getLogger()
    root.setLevel(logging.DEBUG if debug else logging.WARNING)
    with contextlib.suppress(OSError):  # A disk that takes no log must not keep anybody from talking.
        folders.make()
        path = folders.state / "wilson.log"
        os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600))
        handler = logging.handlers.RotatingFileHandler(path, maxBytes=1 << 20, backupCount=2, delay=True)
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
        root.addHandler(handler)


def _debugging(args: argparse.Namespace) -> bool:
    return bool(getattr(args, "debug", False) or os.environ.get("WILSON_DEBUG"))
