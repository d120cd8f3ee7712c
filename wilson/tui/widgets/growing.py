"""Text that grows at its end: only what is new is drawn, and its height changes now and then, not with every word.

Whenever a widget grows, Textual lays out the whole screen and draws it again, which costs a hundred times what a word
costs. So a growing widget paints into the room that it has, and its owner says when it may have more.
"""

from textual.geometry import Region, Size
from textual.strip import Strip
from textual.widget import Widget


class Growing(Widget):
    """Lines of which those at the end change."""

    def __init__(self, classes: str) -> None:
        super().__init__(classes=classes)
        self._strips: list[Strip] = []
        self._drawn_width = 0
        self._height = 0

    def draw(self, width: int, first: int) -> list[Strip]:
        """The lines from number ``first`` on, drawn for this width."""
        raise NotImplementedError

    def line_count(self, width: int) -> int:
        """How many lines there are at this width."""
        raise NotImplementedError

    @property
    def wants_room(self) -> bool:
        """There are lines that cannot be seen, because the widget is too low for them."""
        return self.line_count(self._width) != self._height

    def take_room(self) -> None:
        """Become as high as there are lines; the whole screen is laid out for it."""
        self._height = self.line_count(self._width)
        self.refresh(layout=True)

    def changed_from(self, first: int) -> None:
        """The lines from number ``first`` on are others than before."""
        del self._strips[first:]
        if first < self.size.height:
            self.refresh(Region(0, first, self.size.width, self.size.height - first))

    def get_content_width(self, container: Size, viewport: Size) -> int:
        return container.width

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        self._height = self.line_count(width)
        return self._height

    def notify_style_update(self) -> None:
        super().notify_style_update()
        self._strips.clear()

    def render_line(self, y: int) -> Strip:
        width = self.size.width
        if width != self._drawn_width:
            self._strips.clear()
            self._drawn_width = width
        if y >= len(self._strips):
            self._strips += self.draw(width, len(self._strips))
        return self._strips[y] if y < len(self._strips) else Strip.blank(width, self.visual_style.rich_style)

    @property
    def _width(self) -> int:
        return self.size.width or self.container_size.width
