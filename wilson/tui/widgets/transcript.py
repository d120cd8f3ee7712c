"""The transcript: what has been said, by whom, from the top down."""

from typing import Final

from textual.app import ComposeResult
from textual.containers import Vertical, VerticalScroll
from textual.content import Content
from textual.timer import Timer
from textual.widget import Widget
from textual.widgets import Markdown, Static

from wilson.domain.text import safe
from wilson.tui.blocks import Block, BlockKind, BlockReader
from wilson.tui.widgets.code_block import CodeBlock
from wilson.tui.widgets.open_text import OpenText

UPDATES_PER_SECOND: Final = 12
"""A growing reply is drawn so often; more cannot be read, and costs the more."""
UPDATES_PER_GROWTH: Final = 3
"""With every third of them the reply takes the room that it needs."""


class Line(Static):
    """Some lines of text, shown as they are: nothing in them is markup."""

    def __init__(self, text: str, classes: str) -> None:
        super().__init__(Content(safe(text)), classes=classes)


class Reply(Vertical):
    """A reply as it grows. Finished blocks are drawn once; only the last one changes."""

    def __init__(self) -> None:
        super().__init__(classes="reply")
        self.source = ""
        """The reply, byte for byte as it came."""
        self._waiting: list[str] = []
        self._reader = BlockReader()
        self._code: dict[int, CodeBlock] = {}
        self._tail = OpenText()
        self._timer: Timer | None = None
        self._updates = 0

    def compose(self) -> ComposeResult:
        yield self._tail

    def on_mount(self) -> None:
        self._tail.display = False
        self._timer = self.set_interval(1 / UPDATES_PER_SECOND, self._update)

    def grow(self, text: str) -> None:
        """Some more has come; it is drawn with the next update."""
        self.source += text
        self._waiting.append(text)

    async def end(self) -> None:
        """Nothing more will come."""
        if self._timer is not None:
            self._timer.stop()
        await self._read()
        await self._show(self._reader.end())
        self._tail.display = False

    async def _update(self) -> None:
        self._updates += 1
        await self._read()
        if self._updates % UPDATES_PER_GROWTH == 0:
            for widget in (*self._code.values(), self._tail):
                if widget.display and widget.wants_room:
                    widget.take_room()

    async def _read(self) -> None:
        if self._waiting:
            text = "".join(self._waiting)
            self._waiting.clear()
            await self._show(self._reader.feed(text))
            self._show_tail()

    def _show_tail(self) -> None:
        """The open paragraph, and the line that is not whole yet."""
        blocks = self._reader.blocks
        open_prose = blocks[-1].text if blocks and not blocks[-1].done and blocks[-1].kind is BlockKind.PROSE else ""
        text = open_prose + self._reader.tail
        self._tail.show(text)
        self._tail.display = bool(text.strip())

    async def _show(self, changed: list[Block]) -> None:
        added: list[Widget] = []
        for block in changed:
            if block.kind is BlockKind.PROSE:
                if block.done:
                    added.append(Markdown(safe(block.text), open_links=False))
                continue
            widget = self._code.get(id(block))
            if widget is None:
                widget = self._code[id(block)] = CodeBlock(block.language)
                added.append(widget)
            widget.show(block.text, done=block.done)
            if block.done:
                del self._code[id(block)]
                widget.take_room()
        if added:
            await self.mount_all(added, before=self._tail)


class Transcript(VerticalScroll):
    """Prompts, replies, and what Wilson itself has to say."""

    can_focus = False

    def on_mount(self) -> None:
        # Stays at the end until the user scrolls away from it.
        self.anchor()

    async def add_prompt(self, text: str) -> None:
        await self.mount(Line(text, "prompt"))

    async def begin_reply(self) -> Reply:
        reply = Reply()
        await self.mount(reply)
        return reply

    async def add_reply(self, text: str) -> None:
        """A reply that is whole already."""
        reply = await self.begin_reply()
        reply.grow(text)
        await reply.end()

    async def add_notice(self, text: str) -> None:
        """Something that Wilson says, not the model and not the user."""
        await self.mount(Line(text, "notice"))

    async def add_problem(self, text: str) -> None:
        await self.mount(Line(text, "problem"))

    async def clear(self) -> None:
        await self.remove_children()
