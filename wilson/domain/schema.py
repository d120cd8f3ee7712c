"""A small JSON Schema: what a file, a tool call or a plan may say, and exactly where one strays.

The words understood are those that Wilson's own schemas use: ``type``, ``enum``, ``properties``,
``required``, ``additionalProperties``, ``items``, ``anyOf``, ``minimum``, ``maximum``, ``minLength``,
``maxLength``, ``minItems``, ``maxItems`` and ``pattern``, with the meaning of JSON Schema 2020-12, except that 1.0 is
no integer and that ``anyOf`` stands alone. Unlike the general libraries this one reports all strays at once, with what
would have been allowed.
"""

import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, Final

from wilson.domain.value import Struct

type_names: Final[Mapping[str, tuple[type, ...]]] = {
    "object": (dict,),
    "array": (list, tuple),
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "null": (type(None),),
}

MOST_STRAYS: Final = 50
"""More are not read by anybody."""

Schema = Mapping[str, Any]
Path = tuple[str | int, ...]


class Stray(Struct, frozen=True):
    """One value that is not what the schema allows."""

    path: Path
    """Keys and indices from the top."""
    problem: str
    allowed: str = ""
    nearest: str = ""
    """The allowed name that looks most like the one given."""
    at_key: bool = False
    """The key itself is at fault, not its value."""

    @property
    def key_path(self) -> str:
        return key_path(self.path)

    def __str__(self) -> str:
        hint = f"; did you mean {self.nearest!r}?" if self.nearest else ""
        allowed = f"; allowed: {self.allowed}" if self.allowed else ""
        where = f"{self.key_path}: " if self.path else ""
        return f"{where}{self.problem}{allowed}{hint}"


def key_path(path: Path) -> str:
    """``("endpoints", 0, "url")`` as ``endpoints[0].url``."""
    text = ""
    for part in path:
        part = part if isinstance(part, int) or part.isprintable() else repr(part)
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def strays(value: Any, schema: Schema, path: Path = ()) -> tuple[Stray, ...]:
    """The places where ``value`` differs from ``schema``, the first ``MOST_STRAYS``; empty when it fits."""
    return tuple(islice(_strays(value, schema, path), MOST_STRAYS))


def nearest(name: str, names: Sequence[str]) -> str:
    """The one of ``names`` that looks most like ``name``, or nothing when none does."""
    by_fold = {known.casefold(): known for known in names}
    close = difflib.get_close_matches(name.casefold(), by_fold, n=1, cutoff=0.6)
    return by_fold[close[0]] if close else ""


def _strays(value: Any, schema: Schema, path: Path) -> Iterator[Stray]:
    if choices := schema.get("anyOf"):
        tried = [strays(value, choice, path) for choice in choices]
        if all(tried):
            yield Stray(path, f"{_shown(value)} is not allowed", " or ".join(map(_wanted, choices)))
        return
    if "enum" in schema and not any(value == known and type(value) is type(known) for known in schema["enum"]):
        names = _names(schema)
        yield Stray(path, f"{_shown(value)} is not allowed", " ".join(names), nearest(str(value), names))
        return
    if not _has_type(value, schema.get("type")):
        yield Stray(path, f"{_shown(value)} is {_article(value)}", _wanted(schema))
        return
    if isinstance(value, Mapping):
        yield from _object(value, schema, path)
    elif isinstance(value, str):
        yield from _string(value, schema, path)
    elif isinstance(value, (list, tuple)):
        yield from _array(value, schema, path)
    elif isinstance(value, (int, float)):
        yield from _number(value, schema, path)


def _object(value: Mapping[str, Any], schema: Schema, path: Path) -> Iterator[Stray]:
    properties: Mapping[str, Schema] = schema.get("properties", {})
    others = schema.get("additionalProperties", True)
    for key, inner in value.items():
        if key in properties:
            yield from _strays(inner, properties[key], (*path, key))
        elif others is False:
            known = list(properties)
            yield Stray((*path, key), "unknown key", " ".join(known), nearest(str(key), known), at_key=True)
        elif isinstance(others, Mapping):
            yield from _strays(inner, others, (*path, key))
    for key in schema.get("required", ()):
        if key not in value:
            yield Stray(path, f"the key {key!r} is missing")


def _array(value: Sequence[Any], schema: Schema, path: Path) -> Iterator[Stray]:
    if len(value) < schema.get("minItems", 0):
        yield Stray(path, f"{len(value)} items are too few", f"at least {schema['minItems']}")
    if "maxItems" in schema and len(value) > schema["maxItems"]:
        yield Stray(path, f"{len(value)} items are too many", f"at most {schema['maxItems']}")
    if "items" in schema:
        for index, item in enumerate(value):
            yield from _strays(item, schema["items"], (*path, index))


def _string(value: str, schema: Schema, path: Path) -> Iterator[Stray]:
    if len(value) < schema.get("minLength", 0):
        yield Stray(path, "the text is empty" if not value else "the text is too short")
    if "maxLength" in schema and len(value) > schema["maxLength"]:
        yield Stray(path, f"{len(value)} characters are too many", f"at most {schema['maxLength']}")
    if "pattern" in schema and not re.search(schema["pattern"], value):
        yield Stray(path, f"{_shown(value)} is not allowed", schema.get("pattern_in_words", ""))


def _number(value: float, schema: Schema, path: Path) -> Iterator[Stray]:
    if ("minimum" in schema and value < schema["minimum"]) or ("maximum" in schema and value > schema["maximum"]):
        yield Stray(path, f"{value} is out of range", _wanted(schema))


def _has_type(value: Any, wanted: str | Sequence[str] | None) -> bool:
    if wanted is None:
        return True
    names = (wanted,) if isinstance(wanted, str) else wanted
    if isinstance(value, bool):
        return "boolean" in names
    return any(isinstance(value, type_names[name]) for name in names)


def _names(schema: Schema) -> list[str]:
    return [str(known).lower() if isinstance(known, bool) else str(known) for known in schema["enum"]]


def _wanted(schema: Schema) -> str:
    if "enum" in schema:
        return " ".join(_names(schema))
    wanted = schema.get("type", "anything")
    name = wanted if isinstance(wanted, str) else " or ".join(wanted)
    match schema:
        case {"minimum": low, "maximum": high}:
            return f"{name} from {low} to {high}"
        case {"minimum": low}:
            return f"{name}, at least {low}"
        case {"maximum": high}:
            return f"{name}, at most {high}"
    return name


def _article(value: Any) -> str:
    for name, types in type_names.items():
        if isinstance(value, types) and not (isinstance(value, bool) and name != "boolean"):
            return f"an {name}" if name[0] in "aeiou" else f"a {name}"
    return type(value).__name__


def _shown(value: Any) -> str:
    if value is None:
        return "nothing"
    text = repr(value) if not isinstance(value, bool) else str(value).lower()
    return text if len(text) <= 60 else f"{text[:57]}…"
