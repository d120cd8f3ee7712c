"""The mark of the demo, on every screen, so that nobody takes a script for a model."""

from textual.widgets import Static

from wilson.domain.status import StatusLine


class DemoMark(Static):
    """One line at the top, while the chat is played from a script."""

    def __init__(self) -> None:
        super().__init__("DEMO · scripted replies, no model", markup=False)

    def on_mount(self) -> None:
        self.watch(self.app, "status", self._show)

    def _show(self, status: StatusLine) -> None:
        self.display = status.demo
