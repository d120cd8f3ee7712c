"""Where the user writes; nothing ever blocks it, and no draft is ever lost."""

from textual import events
from textual.message import Message
from textual.widgets import TextArea


class PromptInput(TextArea):
    """Several lines; Enter sends, Ctrl+J begins a new line, Up and Down at the edge go through the history."""

    class Sent(Message):
        """The user has sent what they wrote."""

        def __init__(self, text: str) -> None:
            super().__init__()
            self.text = text

    def __init__(self) -> None:
        super().__init__(
            placeholder="Say something, or /help",
            soft_wrap=True,
            show_line_numbers=False,
            highlight_cursor_line=False,
            tab_behavior="focus",
            compact=True,
        )
        self._history: list[str] = []
        self._at = 0
        """The entry that is shown; one behind the last is the draft."""
        self._draft = ""

    def remember(self, text: str) -> None:
        """Keep ``text`` as the newest entry of the history."""
        if text.strip() and (not self._history or self._history[-1] != text):
            self._history.append(text)
        self._at = len(self._history)

    def put_back(self, text: str) -> None:
        """Give a prompt back that got no answer, unless the user has begun another one."""
        if not self.text.strip():
            self.load(text)

    def stash(self) -> None:
        """Clear the draft; Up brings it back."""
        self.remember(self.text)
        self.load("")

    def load(self, text: str) -> None:
        self.text = text
        self.move_cursor(self.document.end)

    async def _on_key(self, event: events.Key) -> None:
        match event.key:
            case "enter":
                self._send()
            case "ctrl+j" | "shift+enter" | "alt+enter":
                self.insert("\n")
            case "up" if self.cursor_at_first_line and self._at > 0:
                self._browse(-1)
            case "down" if self.cursor_at_last_line and self._at < len(self._history):
                self._browse(1)
            case _:
                await super()._on_key(event)
                return
        event.stop()
        event.prevent_default()

    def _send(self) -> None:
        text = self.text
        if text.strip():
            self.remember(text)
            self.load("")
            self.post_message(self.Sent(text))

    def _browse(self, step: int) -> None:
        if self._at == len(self._history):
            self._draft = self.text
        self._at += step
        self.load(self._draft if self._at == len(self._history) else self._history[self._at])
