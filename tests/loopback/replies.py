"""What a loopback model says: the pieces of a reply, well-formed or not, and what is said when nobody has a script."""

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Thought:
    """Some of what the model thinks before it answers."""

    text: str


@dataclass(frozen=True)
class Call:
    """The model calls a tool."""

    name: str
    arguments: Any = field(default_factory=dict)
    """An object as a mapping; a text goes out as it is, so it may be no JSON at all."""
    id: str | None = None
    """None for the server's own numbering; empty for a server that gives no id."""


@dataclass(frozen=True)
class Hold:
    """The reply stands still here until the test releases it by this name."""

    name: str


@dataclass(frozen=True)
class Raw:
    """Exactly these bytes, in one chunk, whatever they mean."""

    data: bytes


@dataclass(frozen=True)
class Fail:
    """An error in the middle of the stream, whose status was 200 long ago; the stream ends with it."""

    text: str


@dataclass(frozen=True)
class Drop:
    """The connection closes here, as if the server were killed."""


@dataclass(frozen=True)
class NoEnd:
    """The stream closes properly, but without the line that says that the reply is whole."""


@dataclass(frozen=True)
class Silence:
    """Nothing more is sent, and the connection stays open until the client closes it."""


@dataclass(frozen=True)
class End:
    """The end of the reply; added to every script that has no other ending."""

    reason: str = "stop"
    prompt_tokens: int | None = None
    """None for what the server counts."""
    tokens: int | None = None
    last: tuple["str | Thought | Call", ...] = ()
    """What comes in the very line that says that the reply is over."""


@dataclass(frozen=True)
class Refusal:
    """An error status instead of a stream; only as the first piece."""

    status: int
    body: Any = ""
    """A text is the server's usual error with these words; bytes go out as they are; anything else as JSON."""
    kind: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)


Piece = str | Thought | Call | Hold | Raw | Fail | Drop | NoEnd | Silence | End | Refusal
Reply = Sequence[Piece]
ENDINGS = (Fail, Drop, NoEnd, Silence, End, Refusal)


def whole(reply: Reply) -> list[Piece]:
    """The reply, with the usual end if it has none."""
    return [*reply] if any(isinstance(piece, ENDINGS) for piece in reply) else [*reply, End()]


def uncut(data: bytes) -> Iterable[bytes]:
    return (data,)


def every(size: int) -> Callable[[bytes], Iterable[bytes]]:
    """Chunks of this many bytes, wherever that cuts."""
    return lambda data: (data[at : at + size] for at in range(0, len(data), size))


@dataclass
class Framing:
    """How lines are put on the wire; well-formed unless a test wants otherwise."""

    line_end: bytes = b"\n"
    first: bytes = b""
    """Sent before everything else, such as a byte order mark."""
    between: bytes = b""
    """Sent before every line, such as an empty one, or a comment as a heartbeat."""
    cut: Callable[[bytes], Iterable[bytes]] = uncut
    """How the bytes of a line are shared out to chunks."""


FILES = '''Files: hello.py, tests/test_hello.py

```python
# filepath: hello.py
def hello(name: str = "world") -> str:
    """A greeting."""
    return f"Hello, {name}!"


if __name__ == "__main__":
    print(hello())
```

```python
# filepath: tests/test_hello.py
from hello import hello


def test_it_greets_by_name():
    assert hello("Wilson") == "Hello, Wilson!"
```
'''


def usual_reply(messages: Sequence[Mapping[str, Any]], schema: Mapping[str, Any] | None = None) -> list[Piece]:
    """Two files for whoever asks for files, something that fits a schema, and otherwise an echo of the last line."""
    last_line = (said(messages[-1]).splitlines() or [""])[-1] if messages else ""
    if schema is not None:
        return [*words(json.dumps(fitting(schema, last_line)))]
    system = next((said(message) for message in messages if message.get("role") == "system"), "")
    return [*words(FILES if "# filepath:" in system else last_line)]


def said(message: Mapping[str, Any]) -> str:
    return str(message.get("content") or "")


def words(text: str) -> list[str]:
    """The text in pieces of a word, each with the space around it."""
    return re.findall(r"\s*\S+\s*", text)


def tokens(text: str) -> int:
    """About as many as a real tokenizer finds: four characters each."""
    return (len(text) + 3) // 4


def fitting(schema: Mapping[str, Any], text: str = "text") -> Any:
    """A value that fits the schema; its strings are ``text`` where that is allowed."""
    if choices := schema.get("anyOf"):
        return fitting(choices[0], text)
    if "enum" in schema:
        return schema["enum"][0]
    kind = schema.get("type", "object")
    match kind if isinstance(kind, str) else kind[0]:
        case "object":
            return {key: fitting(inner, text) for key, inner in schema.get("properties", {}).items()}
        case "array":
            count = max(schema.get("minItems", 0), min(1, schema.get("maxItems", 1)))
            return [fitting(schema.get("items", {"type": "string"}), text) for _ in range(count)]
        case "string":
            candidates = (text, "a", "a.py", "1", "TASK-001", "")
            pattern = schema.get("pattern", "")
            fit = next((each for each in candidates if re.search(pattern, each)), "")
            return fit.ljust(schema.get("minLength", 0), "-")[: schema.get("maxLength")]
        case "integer" | "number":
            return schema.get("minimum", min(0, schema.get("maximum", 0)))
        case "boolean":
            return False
    return None
