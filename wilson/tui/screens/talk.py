"""The screen where one talks: transcript, status, prompt."""

from textual.app import ComposeResult
from textual.screen import Screen
from textual.widgets import Static

from wilson.tui.widgets.demo_mark import DemoMark
from wilson.tui.widgets.prompt_input import PromptInput
from wilson.tui.widgets.status_bar import StatusBar
from wilson.tui.widgets.transcript import Transcript

HINT = "Enter sends · Ctrl+J new line · Esc stops the reply · /help"


class TalkScreen(Screen[None]):
    """Everything of the main window; what it means is the app's business."""

    AUTO_FOCUS = "PromptInput"

    def __init__(self) -> None:
        super().__init__()
        # Kept by name: what is still under way when the window closes finds its widgets all the same.
        self.transcript = Transcript()
        self.prompt = PromptInput()
        self._hint = Static(HINT, id="hint", markup=False)

    def compose(self) -> ComposeResult:
        yield DemoMark()
        yield self.transcript
        yield StatusBar()
        yield self.prompt
        yield self._hint

    def hint(self, text: str = HINT) -> None:
        """Show something short below the prompt."""
        self._hint.update(text)
