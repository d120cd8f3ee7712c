"""What Wilson is compared with: Textual apps that do one thing and nothing else.

python tests/bench/bare.py start     the same widgets as Wilson's window, and no assistant behind them
python tests/bench/bare.py stream N  a stock Markdown stream of N tokens a second, then "THE END"
"""

import asyncio
import sys

from textual.app import App, ComposeResult
from textual.containers import VerticalScroll
from textual.widgets import Markdown, Static, TextArea

from tests.bench.words import REPLY


class Start(App[None]):
    """Wilson's window without Wilson."""

    CSS = "VerticalScroll { height: 1fr; } TextArea { height: 3; } Static { height: 1; }"

    def compose(self) -> ComposeResult:
        yield VerticalScroll()
        yield Static("no chat model")
        yield TextArea(placeholder="Say something, or /help")
        yield Static("Enter sends")

    def on_mount(self) -> None:
        self.query_one(TextArea).focus()


class Stream(App[None]):
    """A reply in a stock Markdown widget, written piece by piece as Textual's own documentation does."""

    CSS = "VerticalScroll { height: 1fr; }"

    def compose(self) -> ComposeResult:
        with VerticalScroll():
            yield Markdown()
        yield Static("Say something")

    async def on_key(self) -> None:
        self.run_worker(self._play())

    async def _play(self) -> None:
        scroll = self.query_one(VerticalScroll)
        scroll.anchor()
        stream = Markdown.get_stream(self.query_one(Markdown))
        for piece in REPLY:
            await asyncio.sleep(1 / float(sys.argv[2]))
            await stream.write(piece)
        await stream.stop()
        self.query_one(Static).update("THE END")


if __name__ == "__main__":
    {"start": Start, "stream": Stream}[sys.argv[1]]().run()
