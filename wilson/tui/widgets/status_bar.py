"""Who is at work, on what, with which model and how much memory."""

import os

from textual.content import Content
from textual.widget import Widget

from wilson.domain.status import MARKS, WORDS, StatusLine
from wilson.domain.text import safe


class StatusBar(Widget):
    """One line for the whole, and one for each worker."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: tuple[str, ...] = ()

    def on_mount(self) -> None:
        self.watch(self.app, "status", self._show)

    def _show(self, status: StatusLine) -> None:
        lines = tuple(map(safe, status.lines(MARKS if draws_emoji() else WORDS)))
        if lines != self.lines:
            # The whole screen is laid out anew only when a line comes or goes.
            layout = len(lines) != len(self.lines)
            self.lines = lines
            self.refresh(layout=layout)

    def render(self) -> Content:
        return Content("\n".join(self.lines))


def draws_emoji() -> bool:
    """The Linux console has no emoji, and other character sets cannot say them."""
    locale = os.environ.get("LC_ALL") or os.environ.get("LC_CTYPE") or os.environ.get("LANG") or ""
    return os.environ.get("TERM") not in {"linux", "dumb"} and "utf" in locale.casefold()
