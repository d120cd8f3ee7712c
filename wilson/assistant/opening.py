"""Opening the front door: in this process if nobody owns the store yet, otherwise in the owner's."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from wilson.assistant.attached import Attached
from wilson.assistant.control import LONGEST_LINE
from wilson.config.folders import Folders
from wilson.config.settings import Settings
from wilson.domain.errors import StoreError
from wilson.domain.front_door import FrontDoor
from wilson.store.ownership import Ownership, owner

Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]

_OPENING_S: Final = 30.0
"""How long a command waits for another one that is only passing through."""


@asynccontextmanager
async def front_door(settings: Settings, *, stays: bool = False, runs_all: bool = False) -> AsyncIterator[FrontDoor]:
    """Wilson, in this process if nobody owns the store yet, otherwise in the owner's.

    ``stays``: long enough to be asked by others; they wait for the end of a command that is only passing through.

    Raises:
        StoreError: the store cannot be opened, or its owner does not answer.
    """
    try:
        async with asyncio.timeout(_OPENING_S):
            found = await _owned_or_connected(settings)
    except TimeoutError as error:
        raise StoreError(
            "another Wilson owns the store and does not answer; end it, or set WILSON_HOME to another folder"
        ) from error
    if isinstance(found, Ownership):
        # Whoever only asks another Wilson need not wait for the whole house to be imported.
        from wilson.assistant.here import Assistant
        from wilson.assistant.server import Server

        async with Assistant.open(settings, found, runs_all=runs_all) as assistant:
            if not stays:
                yield assistant
                return
            async with Server.listening(assistant, settings.sources.folders.state) as server:
                yield assistant
                if not runs_all:
                    await server.drained()
    else:
        async with Attached.over(*found, settings.profile.agents) as attached:
            yield attached


async def _owned_or_connected(settings: Settings) -> Ownership | Connection:
    pause = 0.005
    while True:
        if (ownership := claim(settings)) is not None:
            return ownership
        if socket := owner_socket(settings):
            # An owner that has just ended leaves its socket behind for a moment.
            with contextlib.suppress(OSError):
                return await asyncio.open_unix_connection(socket, limit=LONGEST_LINE)
        await asyncio.sleep(pause)
        pause = min(pause * 1.5, 0.2)


def claim(settings: Settings) -> Ownership | None:
    """The right to be the one Wilson that owns the store, or none when another process has it.

    Raises:
        StoreError: Wilson's folders cannot be written to.
    """
    folders = settings.sources.folders
    try:
        folders.make()
    except OSError as error:
        raise StoreError(
            f"the folder {error.filename} cannot be made: {error.strerror}; set WILSON_HOME to one that can"
        ) from error
    return Ownership.claim(folders.state)


def somebody_owns(folders: Folders) -> bool:
    """Another Wilson is running and can be asked."""
    known = owner(folders.state)
    return known is not None and known.socket is not None


def owner_socket(settings: Settings) -> Path | None:
    """Where the owner can be asked, if it has said so."""
    known = owner(settings.sources.folders.state)
    return Path(known.socket) if known and known.socket else None
