"""Driving the window: keys go in, and what is on the screen comes out."""

import asyncio
import html
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from textual import events
from textual.content import Content
from textual.pilot import Pilot

from wilson.domain.front_door import FrontDoor
from wilson.tui.app import WilsonApp
from wilson.tui.screens.talk import TalkScreen
from wilson.tui.widgets.status_bar import StatusBar
from wilson.tui.widgets.transcript import Line, Reply

_CELL_WIDTH = 12.2
"""Of Textual's pictures."""


class Window:
    """A window on a screen of its own."""

    def __init__(self, app: WilsonApp, pilot: Pilot[None]) -> None:
        self.app = app
        self.pilot = pilot

    async def type(self, text: str) -> None:
        """Write into whatever has the focus, without sending; the first character by its key, the rest at once."""
        first, rest = text[0], text[1:]
        await self.pilot.press(_key(first))
        if rest:
            self.app.post_message(events.Paste(rest))
        await self.pilot.pause()

    async def send(self, text: str) -> None:
        await self.type(text)
        await self.pilot.press("enter")

    async def until(self, is_true: Callable[[], bool]) -> None:
        """Go on until something is to be seen."""
        async with asyncio.timeout(20):
            while not is_true():
                await self.pilot.pause()

    @property
    def talk(self) -> TalkScreen:
        return next(screen for screen in self.app.screen_stack if isinstance(screen, TalkScreen))

    @property
    def said(self) -> list[tuple[str, str]]:
        """Everything in the transcript: what kind of thing, and its text."""
        found = []
        for child in self.talk.transcript.children:
            match child:
                case Reply():
                    found.append(("reply", child.source))
                case Line():
                    content = child.content
                    text = content.plain if isinstance(content, Content) else str(content)
                    found.append((next(name for name in child.classes), text))
        return found

    @property
    def draft(self) -> str:
        return self.talk.prompt.text

    @property
    def status(self) -> list[str]:
        """The lines of the status bar."""
        return list(self.talk.query_one(StatusBar).lines)

    @property
    def screen(self) -> str:
        """The screen as it is drawn, line by line."""
        return screen_text(self.app)


def screen_text(app: WilsonApp) -> str:
    """The characters on the screen, taken from Textual's own picture of it."""
    rows: dict[float, str] = {}
    found = re.findall(r'<text[^>]* x="([\d.]+)" y="([\d.]+)"[^>]*>(.*?)</text>', app.export_screenshot())
    for x, y, text in sorted(((float(x), float(y), text) for x, y, text in found), key=lambda one: one[:2]):
        column = round(x / _CELL_WIDTH)
        rows[y] = rows.get(y, "").ljust(column) + html.unescape(text).replace("\xa0", " ")
    return "\n".join(rows[y].rstrip() for y in sorted(rows))


@asynccontextmanager
async def window(
    door: FrontDoor,
    *,
    size: tuple[int, int] = (100, 30),
    banner: tuple[str, ...] = (),
    conversation: str | None = None,
    attached: bool = False,
) -> AsyncIterator[Window]:
    app = WilsonApp(door, banner=banner, models_folder="/models", conversation=conversation, attached=attached)
    async with app.run_test(size=size) as pilot:
        await pilot.pause()
        yield Window(app, pilot)


def _key(character: str) -> str:
    names = {"/": "slash", "[": "left_square_bracket", "~": "tilde"}
    return names.get(character, character)
