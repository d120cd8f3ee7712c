"""The first-run screen: no chat model was found, and these are the ways to one."""

from enum import Enum, auto
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Input, OptionList, Static

from wilson.domain.text import safe
from wilson.domain.value import Struct
from wilson.tui.widgets.demo_mark import DemoMark


class Way(Enum):
    """What the user chose."""

    LOOK_AGAIN = auto()
    ENDPOINT = auto()
    FILE = auto()
    DEMO = auto()
    LATER = auto()


class Choice(Struct, frozen=True):
    """A way, and what was typed for it: an address, or a file."""

    way: Way
    text: str = ""


class FirstRunScreen(ModalScreen[Choice]):
    """Says what was looked for, and offers one key each."""

    BINDINGS: ClassVar = [
        Binding("l", "choose('LOOK_AGAIN')", "look again"),
        Binding("e", "ask('ENDPOINT')", "name an endpoint"),
        Binding("f", "ask('FILE')", "use a model file"),
        Binding("d", "choose('DEMO')", "the demo"),
        Binding("escape", "back", "back"),
    ]
    QUESTIONS: ClassVar = {
        Way.ENDPOINT: ("The server's address", "http://127.0.0.1:11434"),
        Way.FILE: ("The path of a GGUF file", "~/models/llama-3.2-3b.Q4_K_M.gguf"),
    }

    def __init__(self, looked_for: str, models_folder: str) -> None:
        super().__init__()
        self._looked_for = looked_for
        self._models_folder = models_folder
        self._asking: Way | None = None

    def compose(self) -> ComposeResult:
        yield DemoMark()
        with VerticalScroll(id="box"):
            yield Static("No chat model was found", id="title", markup=False)
            yield Static(safe(self._looked_for), id="looked", markup=False)
            yield Static(
                "l  look again, once a server is running\n"
                "e  name an endpoint: Ollama, or any OpenAI-compatible server\n"
                "f  use a model file (GGUF); Wilson runs it itself\n"
                "d  the demo: scripted replies, no model, everything else is real\n"
                "Esc  go on without a model",
                id="ways",
                markup=False,
            )
            yield Static(
                "To get a model: with Ollama, `ollama pull llama3.2:3b`. Without a server, download a GGUF file of two "
                f"or three GB, for example Llama 3.2 3B Instruct as Q4_K_M, into {self._models_folder}, and press f.",
                id="get",
                markup=False,
            )
            yield Input(id="answer")

    def on_mount(self) -> None:
        self.query_one("#answer").display = False

    def action_choose(self, way: str) -> None:
        if self._asking is None:
            self.dismiss(Choice(Way[way]))

    def action_ask(self, way: str) -> None:
        if self._asking is None:
            self._asking = Way[way]
            question, example = self.QUESTIONS[self._asking]
            answer = self.query_one("#answer", Input)
            answer.border_title = question
            answer.placeholder = example
            answer.display = True
            answer.focus()

    def action_back(self) -> None:
        if self._asking is None:
            self.dismiss(Choice(Way.LATER))
        else:
            self._asking = None
            self.query_one("#answer", Input).display = False
            self.set_focus(None)

    @on(Input.Submitted)
    def answered(self, event: Input.Submitted) -> None:
        if self._asking is not None and event.value.strip():
            self.dismiss(Choice(self._asking, event.value.strip()))


class PickScreen(ModalScreen[str | None]):
    """One of several names."""

    BINDINGS: ClassVar = [Binding("escape", "dismiss(None)", "back")]
    DEFAULT_CSS = """
    PickScreen { align: center middle; }
    PickScreen #box { width: 80%; max-width: 80; height: auto; max-height: 80%; padding: 1 2;
                      border: round $primary; background: $surface; }
    """

    def __init__(self, question: str, names: tuple[str, ...]) -> None:
        super().__init__()
        self._question = question
        self._names = names

    def compose(self) -> ComposeResult:
        yield DemoMark()
        with VerticalScroll(id="box"):
            yield Static(safe(self._question), markup=False)
            yield OptionList(*(safe(name) for name in self._names), markup=False)

    def on_mount(self) -> None:
        self.query_one(OptionList).focus()

    @on(OptionList.OptionSelected)
    def picked(self, event: OptionList.OptionSelected) -> None:
        self.dismiss(self._names[event.option_index])
