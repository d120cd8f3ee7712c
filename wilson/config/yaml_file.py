"""A strict YAML file: every value knows its line, and nothing means more than it says.

Read by YAML 1.2's core rules, so that ``no`` is a word and not a falsehood. Refused are: duplicate keys, anchors,
aliases, tags, several documents, more than 1 MiB, more than 64 levels and more than 20,000 values.
"""

import re
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import yaml

from wilson.domain import schema
from wilson.domain.errors import ConfigError
from wilson.domain.schema import Schema
from wilson.domain.value import Struct

MOST_BYTES: Final = 1 << 20
MOST_LEVELS: Final = 64
MOST_VALUES: Final = 20_000

_INTEGER: Final = re.compile(r"[-+]?[0-9]{1,300}|0o[0-7]{1,300}|0x[0-9a-fA-F]{1,300}")
_FLOAT: Final = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_WORDS: Final[Mapping[str, bool | None]] = {
    "": None, "~": None, "null": None, "Null": None, "NULL": None,
    "true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False,
}  # fmt: skip

Value = Any


class Mark(Struct, frozen=True):
    """A place in a file; line and column count from 1."""

    line: int
    column: int


class Document(Struct, frozen=True):
    """A file's values, and where each of them stands; a value from elsewhere has a name and no lines."""

    file: str
    value: Value
    values: Mapping[schema.Path, Mark] | None = None
    keys: Mapping[schema.Path, Mark] | None = None

    def place(self, path: schema.Path, *, at_key: bool = False) -> str:
        """``FILE:LINE:COL`` of a value, or of what is nearest around it."""
        if self.values is None or self.keys is None:
            return self.file
        mark = self.keys.get(path) if at_key else self.values.get(path)
        while mark is None and path:
            path = path[:-1]
            mark = self.values.get(path)
        mark = mark or Mark(1, 1)
        return f"{self.file}:{mark.line}:{mark.column}"

    def problems(self, wanted: Schema) -> tuple[str, ...]:
        """The strays of the file, one line each, with its place."""
        found = schema.strays(self.value, wanted)
        return tuple(f"{self.place(stray.path, at_key=stray.at_key)}: {stray}" for stray in found)


def read(path: Path, shown: str | None = None) -> Document:
    """The file's content.

    Raises:
        ConfigError: it cannot be read, or is not the YAML that is allowed here.
    """
    name = shown or str(path)
    try:
        # A named pipe or a device would be waited for, or read without end.
        if not stat.S_ISREG(path.stat().st_mode):
            raise ConfigError((f"{name}:1:1: this is not a plain file",))
        with path.open("rb") as file:
            raw = file.read(MOST_BYTES + 1)
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise ConfigError((f"{name}:1:1: it cannot be read: {why}",)) from error
    return parse(raw, name)


def parse(raw: bytes | str, file: str) -> Document:
    """The document in ``raw``; an empty one is an empty mapping.

    Raises:
        ConfigError: it is not the YAML that is allowed here.
    """
    if len(raw) > MOST_BYTES:
        raise ConfigError((f"{file}:1:1: the file is larger than 1 MiB",))
    try:
        text = raw if isinstance(raw, str) else raw.decode("utf-8-sig")
        return _Reader(file, yaml.parse(text, Loader=yaml.CSafeLoader)).document()
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1 if isinstance(raw, bytes) else 1
        raise ConfigError((f"{file}:{line}:1: the file is not UTF-8",)) from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        raise ConfigError((f"{file}:{line}:{column}: {error.problem or error.context}",)) from error
    except yaml.reader.ReaderError as error:
        line, column = _line_and_column(raw, error.position)
        what = f"the character U+{error.character:04X}" if isinstance(error.character, int) else "a character"
        raise ConfigError((f"{file}:{line}:{column}: {what} is not allowed here",)) from error
    except yaml.YAMLError as error:
        raise ConfigError((f"{file}:1:1: {' '.join(str(error).split())}",)) from error


def _line_and_column(raw: bytes | str, position: int) -> tuple[int, int]:
    text = raw if isinstance(raw, str) else raw.decode("utf-8-sig", "replace")
    before = text[:position]
    return before.count("\n") + 1, position - before.rfind("\n")


def scalar(text: str) -> Value:
    """What an unquoted word means."""
    if text in _WORDS:
        return _WORDS[text]
    if _INTEGER.fullmatch(text):
        return int(text, 0) if text[:2] in {"0o", "0x"} else int(text)
    if _FLOAT.fullmatch(text):
        return float(text)
    return text


class _Reader:
    """Builds values from parse events, one pass, keeping every mark."""

    def __init__(self, file: str, events: Iterator[Any]) -> None:
        self._file = file
        self._events = events
        self._values: dict[schema.Path, Mark] = {}
        self._keys: dict[schema.Path, Mark] = {}

    def document(self) -> Document:
        value: Value = {}
        documents = 0
        for event in self._events:
            if isinstance(event, yaml.DocumentStartEvent):
                documents += 1
                if documents > 1:
                    raise self._refused(event, "a second document begins; one is enough")
            elif isinstance(event, yaml.NodeEvent):
                value = self._node(event, ())
        return Document(self._file, {} if value is None else value, self._values, self._keys)

    def _node(self, event: Any, path: schema.Path) -> Value:
        self._check_plain(event)
        if len(path) > MOST_LEVELS:
            raise self._refused(event, f"more than {MOST_LEVELS} levels")
        self._values[path] = _mark(event)
        if len(self._values) > MOST_VALUES:
            raise self._refused(event, f"more than {MOST_VALUES:,} values")
        match event:
            case yaml.ScalarEvent():
                return scalar(event.value) if event.implicit[0] and not event.style else event.value
            case yaml.SequenceStartEvent():
                return self._sequence(path)
            case _:
                return self._mapping(path)

    def _sequence(self, path: schema.Path) -> list[Value]:
        items: list[Value] = []
        while not isinstance(event := next(self._events), yaml.SequenceEndEvent):
            items.append(self._node(event, (*path, len(items))))
        return items

    def _mapping(self, path: schema.Path) -> dict[str, Value]:
        found: dict[str, Value] = {}
        while not isinstance(event := next(self._events), yaml.MappingEndEvent):
            self._check_plain(event)
            if not isinstance(event, yaml.ScalarEvent):
                raise self._refused(event, "a key that is not a word")
            inner = (*path, event.value)
            if event.value in found:
                first = self._keys[inner]
                raise self._refused(
                    event, f"the key stands here twice; the first is in line {first.line}", schema.key_path(inner)
                )
            self._keys[inner] = _mark(event)
            found[event.value] = self._node(next(self._events), inner)
        return found

    def _check_plain(self, event: Any) -> None:
        if isinstance(event, yaml.AliasEvent):
            raise self._refused(event, "an alias; write the value out")
        if event.anchor is not None:
            raise self._refused(event, "an anchor; write the value out where it is used")
        if event.tag is not None:
            raise self._refused(event, f"the tag {event.tag}; values have their type by how they look")

    def _refused(self, event: Any, what: str, key: str = "") -> ConfigError:
        mark = _mark(event)
        return ConfigError((f"{self._file}:{mark.line}:{mark.column}: {f'{key}: ' if key else ''}{what}",))


def _mark(event: Any) -> Mark:
    return Mark(event.start_mark.line + 1, event.start_mark.column + 1)
