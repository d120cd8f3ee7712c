"""The engine file: a YAML script that the scripted provider plays."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from wilson.config.folders import shipped
from wilson.config.yaml_file import read
from wilson.domain import errors
from wilson.domain.errors import ConfigError, ProviderError
from wilson.domain.schema import Schema
from wilson.domain.script import Call, CutShort, Part, Pause, Rule, Say, Script, ScriptedModel, Stumble

_FAILURES: Final = tuple(
    name for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, ProviderError)
)
_NUMBER: Final[Schema] = {"type": "number", "minimum": 0}
_WORD: Final[Schema] = {"type": "string", "minLength": 1}
_CALL: Final[Schema] = {
    "type": "object",
    "additionalProperties": False,
    "required": ["name"],
    "properties": {"name": _WORD, "arguments": {"type": "object"}},
}
_ERROR: Final[Schema] = {
    "type": "object",
    "additionalProperties": False,
    "required": ["kind", "text"],
    "properties": {"kind": {"enum": list(_FAILURES)}, "text": _WORD},
}
_PARTS: Final[Mapping[str, Schema]] = {
    "text": {"type": "string"},
    "json": {},
    "call": _CALL,
    "pause": _WORD,
    "error": _ERROR,
    "cut": {"enum": [True]},
}
SCRIPT: Final[Schema] = {
    "type": "object",
    "additionalProperties": False,
    "required": ["models", "replies"],
    "properties": {
        "models": {
            "type": "array",
            "minItems": 1,
            "items": {
                "type": "object",
                "additionalProperties": False,
                "required": ["name"],
                "properties": {
                    "name": _WORD,
                    "size_mb": {"type": "integer", "minimum": 0},
                    "load_seconds": _NUMBER,
                    "unload_seconds": _NUMBER,
                    "tokens_per_second": _NUMBER,
                    "context": {"type": "integer", "minimum": 1},
                    "parameters": _WORD,
                    "tools": {"type": "boolean"},
                    "pause_load": {"type": "boolean"},
                    "load_error": _WORD,
                },
            },
        },
        "replies": {
            "type": "array",
            "items": {
                "type": "object",
                "additionalProperties": False,
                "properties": {
                    "purpose": _WORD,
                    "model": _WORD,
                    "contains": _WORD,
                    "matches": _WORD,
                    "times": {"type": "integer", "minimum": 0},
                    "parts": {
                        "type": "array",
                        "items": {"type": "object", "additionalProperties": False, "properties": _PARTS},
                    },
                    **_PARTS,
                },
            },
        },
    },
}


def read_script(path: Path) -> Script:
    """The script in a file.

    Raises:
        ConfigError: it cannot be read, or is no script.
    """
    document = read(path, shown(path))
    if wrong := document.problems(SCRIPT):
        raise ConfigError(wrong)
    models = tuple(ScriptedModel(**model) for model in document.value["models"])
    rules = tuple(map(_rule, document.value["replies"]))
    for index, rule in enumerate(rules):
        try:
            pattern = re.compile(rule.matches or "")
            for part in rule.parts:
                if isinstance(part, Say) and pattern.groups:
                    pattern.sub(part.text, "")  # Python looks at the groups that are named before it looks for any.
        except re.error as error:
            place = document.place(("replies", index))
            raise ConfigError((f"{place}: replies[{index}]: the expression makes no sense: {error}",)) from error
    return Script(models=models, rules=rules)


def shown(path: Path) -> str:
    """How a file is named in messages: shipped ones without the place where they are installed."""
    try:
        return str(path.relative_to(shipped()))
    except ValueError:
        return str(path)


def _rule(said: Mapping[str, Any]) -> Rule:
    parts = [*said.get("parts", ()), {key: said[key] for key in _PARTS if key in said}]
    conditions = {key: said[key] for key in ("purpose", "model", "contains", "matches", "times") if key in said}
    return Rule(parts=tuple(part for group in parts for part in _parts(group)), **conditions)


def _parts(said: Mapping[str, Any]) -> list[Part]:
    found: list[Part] = []
    for key, value in said.items():
        match key:
            case "text":
                found.append(Say(value))
            case "json":
                found.append(Say(json.dumps(value, ensure_ascii=False)))
            case "call":
                found.append(Call(value["name"], value.get("arguments", {})))
            case "pause":
                found.append(Pause(value))
            case "error":
                found.append(Stumble(value["kind"], value["text"]))
            case "cut":
                found.append(CutShort())
    return found
