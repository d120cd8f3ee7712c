"""A block of code: lines are added at its end, and none is drawn again because of it."""

from typing import Final

from textual.content import Content
from textual.highlight import highlight
from textual.strip import Strip
from textual.visual import Visual

from wilson.domain.text import safe
from wilson.tui.widgets.growing import Growing

_MOST_COLOURED: Final = 60_000
"""Characters; a longer block stays plain, because colouring it would hold everything up."""
_LONGEST_LINE: Final = 2_000
"""Characters of one line that are shown; the whole of it stays in ``source``."""


class CodeBlock(Growing):
    """Code as it is written, without wrapping."""

    def __init__(self, language: str) -> None:
        super().__init__(classes="code")
        self.language = language
        self.source = ""
        """The code, byte for byte as it came."""
        self._lines: list[str] = []
        self._coloured: Content | None = None

    def show(self, source: str, *, done: bool) -> None:
        """Show ``source``, which begins with what was shown before; colours come when it is done."""
        new = source[len(self.source) :].splitlines()
        first = len(self._lines)
        self.source = source
        self._lines += map(_shown, new)
        if done and self.language and len(source) <= _MOST_COLOURED:
            self._coloured = highlight("\n".join(self._lines), language=self.language)
            first = 0
        self.changed_from(first)

    def line_count(self, width: int) -> int:
        return max(1, len(self._lines))

    def draw(self, width: int, first: int) -> list[Strip]:
        whole = self._coloured if first == 0 else None
        content = Content("\n".join(self._lines[first:])) if whole is None else whole
        return Visual.to_strips(self, content, width, len(self._lines) - first, self.visual_style, pad=True)


def _shown(line: str) -> str:
    line = safe(line).expandtabs(4)
    return line if len(line) <= _LONGEST_LINE else f"{line[:_LONGEST_LINE]}… ({len(line)} characters)"
