"""Wilson's figures beside those of a bare Textual app, measured in one run.

    python -m tests.bench

Everything happens in real pseudo-terminals on this machine. The seconds are this machine's and mean little elsewhere;
the ratios are what is compared.
"""

import asyncio
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.bench.words import REPLY
from tests.house import code, house, script
from tests.terminal import Terminal
from wilson.domain.script import Call, Pause, Rule, Say

Row = tuple[str, str, str, str]

ROUNDS = 7
KEYS = 100
ECHO = "\u00f8"
"""A character that no reply has, so that its echo cannot be mistaken."""
BARE = Path("tests/bench/bare.py").resolve()


def main() -> None:
    rows = [
        cold_start(),
        *echo(),
        *streaming(),
        *asyncio.run(delegation()),
    ]
    head = ("measure", "Wilson", "beside", "ratio")
    widths = [max(len(row[column]) for row in [head, *rows]) for column in range(4)]
    for row in [head, *rows]:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


@contextmanager
def wilson(tokens_per_second: float) -> Iterator[Terminal]:
    """The window on a script: the chat and two workers say the same reply, word by word."""
    with tempfile.TemporaryDirectory() as folder:
        home, workspace = Path(folder) / "home", Path(folder) / "workspace"
        (home / "config").mkdir(parents=True)
        workspace.mkdir()
        (home / "config" / "script.yaml").write_text(_script(tokens_per_second), "utf-8")
        (home / "config" / "config.yaml").write_text(
            "endpoints: [{name: here, provider: scripted, script: script.yaml}]\n"
            "llms:\n"
            "  chat: {provider: scripted, model: chat}\n"
            "  code: {provider: scripted, model: coder}\n",
            "utf-8",
        )
        with Terminal(["-m", "wilson"], home, workspace) as terminal:
            yield terminal


def _script(tokens_per_second: float) -> str:
    reply = "".join(REPLY).replace("\n", "\n      ")
    return (
        "models:\n"
        f"  - {{name: chat, tokens_per_second: {tokens_per_second}}}\n"
        "  - {name: coder, tokens_per_second: 30}\n"
        "replies:\n"
        f"  - purpose: chat\n    text: |2\n      {reply}\n\n      THE END\n"
        f"  - purpose: code\n    text: |2\n      {reply}\n"
    )


@contextmanager
def bare(*words: str) -> Iterator[Terminal]:
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        with Terminal([str(BARE), *words], home, home, python_path=Path.cwd()) as terminal:
            yield terminal


def cold_start() -> Row:
    """From the start of the process to the first frame with a prompt."""
    pairs = []
    for _ in range(ROUNDS):
        with wilson(100) as terminal:
            ours = terminal.until("Say something") - terminal.began
        with bare("start") as terminal:
            pairs.append((ours, terminal.until("Say something") - terminal.began))
    return _compared("cold start to the first frame, beside a bare app with the same widgets", pairs, 1000, "ms")


def echo() -> Iterator[Row]:
    """From a key to its echo, in an idle window, and while a reply streams with two workers busy."""
    with wilson(100) as terminal:
        terminal.until("/help")
        terminal.for_seconds(1)
        idle = _echoes(terminal)
        for _ in range(2):
            terminal.press("/task write the reply\r")
            terminal.for_seconds(0.3)
        terminal.press("go\r")
        terminal.for_seconds(1)
        busy = _echoes(terminal)
    for name, pick in (("median", statistics.median), ("p99", _p99)):
        ours, beside = pick(busy) * 1000, pick(idle) * 1000
        yield (
            f"key to echo, {name}: 100 tokens/s and two workers, beside idle",
            f"{ours:.1f} ms",
            f"{beside:.1f} ms",
            f"{ours / beside:.2f}",
        )


def _echoes(terminal: Terminal) -> list[float]:
    found: list[float] = []
    for number in range(KEYS):
        terminal.forget()
        pressed = terminal.press(ECHO)
        found.append(terminal.until(ECHO) - pressed)
        terminal.press("\x7f")
        # Uneven pauses, so that keys do not fall into step with the updates of the screen.
        terminal.for_seconds(0.04 + 0.007 * (number % 7))
    return found


def streaming() -> Iterator[Row]:
    """Processor time and bytes to the terminal for a reply of a thousand tokens at 100 a second."""
    pairs, drawn = [], []
    for _ in range(2):
        with wilson(100) as terminal:
            terminal.until("/help")
            terminal.for_seconds(1)
            ours = _cost(terminal, lambda terminal=terminal: terminal.press("go\r"))
        with bare("stream", "100") as terminal:
            terminal.until("Say something")
            terminal.for_seconds(1)
            beside = _cost(terminal, lambda terminal=terminal: terminal.press("g"))
        pairs.append((ours[0], beside[0]))
        drawn.append((ours[1], beside[1]))
    yield _compared("CPU for 1,000 streamed tokens, beside a stock Markdown stream", pairs, 1, "s")
    yield _compared("bytes to the terminal per token, beside the same", drawn, 1 / len(REPLY), "B")


def _cost(terminal: Terminal, begin: Callable[[], float]) -> tuple[float, float]:
    cpu, drawn = terminal.cpu_s(), terminal.drawn
    begin()
    terminal.until("THE END")
    terminal.for_seconds(0.5)
    return terminal.cpu_s() - cpu, terminal.drawn - drawn


async def delegation() -> list[Row]:
    """From the chat's tool call to the request with its answer, while the worker's model loads without end."""
    ask = Rule(purpose="chat", matches=r"\Ago", parts=(Call("delegate_task", {"goal": "write hello.py"}),))
    told = Rule(purpose="chat", parts=(Say("Done."),))
    slow = Rule(purpose="code", parts=(Pause("never"),))
    by_hand, by_chat = [], []
    for _ in range(20):
        with tempfile.TemporaryDirectory() as folder:
            async with house(Path(folder), script(ask, told, slow, pause_load=True)) as wilson:
                began = time.perf_counter()
                await wilson.assistant.delegate(code())
                by_hand.append(time.perf_counter() - began)
                await wilson.assistant.wake()
                saying = asyncio.create_task(wilson.assistant.say("go"))
                await wilson.provider.reached("stream chat")
                began = time.perf_counter()
                await wilson.provider.reached("stream chat", times=2)
                by_chat.append(time.perf_counter() - began)
                await saying
    return [
        (
            f"{name}, median beside the worst of {len(found)}",
            f"{statistics.median(found) * 1000:.1f} ms",
            f"{max(found) * 1000:.1f} ms",
            "",
        )
        for name, found in (("delegation by a command", by_hand), ("delegation by the chat's tool", by_chat))
    ]


def _compared(name: str, pairs: list[tuple[float, float]], factor: float, unit: str) -> Row:
    ours = statistics.median(one for one, _ in pairs) * factor
    beside = statistics.median(one for _, one in pairs) * factor
    ratio = statistics.median(one / other for one, other in pairs)
    digits = 0 if ours > 100 else 2
    return name, f"{ours:.{digits}f} {unit}", f"{beside:.{digits}f} {unit}", f"{ratio:.2f}"


def _p99(found: list[float]) -> float:
    return sorted(found)[max(0, round(len(found) * 0.99) - 1)]


if __name__ == "__main__":
    main()
