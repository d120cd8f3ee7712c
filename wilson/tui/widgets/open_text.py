"""The end of a reply, as plain text, until it is known what becomes of it."""

from textual.content import Content
from textual.strip import Strip
from textual.visual import Visual

from wilson.domain.text import safe
from wilson.tui.widgets.growing import Growing


class OpenText(Growing):
    """A paragraph that is not whole yet; words are wrapped, and only the lines that change are drawn."""

    def __init__(self) -> None:
        super().__init__(classes="tail")
        self._text = ""
        self._wrapped: list[str] = []
        self._wrapped_width = 0

    def show(self, text: str) -> None:
        """Show ``text`` instead of what was shown before."""
        self._text = safe(text).rstrip("\n")
        before, width = self._wrapped, self._width
        self._wrapped_width = 0
        after = self._lines(width)
        same = next((at for at, pair in enumerate(zip(before, after, strict=False)) if pair[0] != pair[1]), len(before))
        self.changed_from(min(same, len(after)))

    def line_count(self, width: int) -> int:
        return max(1, len(self._lines(width)))

    def draw(self, width: int, first: int) -> list[Strip]:
        lines = self._lines(width)[first:]
        content = Content("\n".join(lines))
        return Visual.to_strips(self, content, width, len(lines), self.visual_style, pad=True)

    def _lines(self, width: int) -> list[str]:
        if width != self._wrapped_width:
            self._wrapped_width = width
            self._wrapped = [line.plain for line in Content(self._text).wrap(max(1, width))]
        return self._wrapped
