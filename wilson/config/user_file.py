"""The files that Wilson itself writes for the user: never without a copy of what was there."""

import os
import re
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import yaml

from wilson.config.yaml_file import parse
from wilson.domain.errors import ConfigError

_HEAD: Final = """# Written by Wilson; yours to change.
# While it is sealed, the endpoints, llms and agents of config.yaml do not apply to it.
"""
_PLAIN_LINE: Final = r"{key}:(?:[ \t]+[^\s#{{\[|>&*!][^#\r\n]*?)?(?P<rest>(?:[ \t]+#[^\r\n]*)?[ \t]*)(?=\r?$)"
"""A key with a value of one plain word or line, or with none, and a comment behind it."""


def set_value(path: Path, key: str, value: str) -> None:
    """Set one top-level value of a configuration file; everything else stays as it is, comments included.

    Raises:
        ConfigError: the file cannot be read or written, or cannot be changed without harm.
    """
    try:
        text = path.read_bytes().decode("utf-8") if path.exists() else ""
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError((f"{path}:1:1: it cannot be read: {error}",)) from error
    try:
        changed = with_value(text, key, value)
    except ConfigError as error:
        by_hand = f"Wilson cannot change this file without harm; write {key}: {value} by hand"
        raise ConfigError((f"{path}:1:1: {by_hand}",)) from error
    _write(path.resolve(), changed)


def write_profile(path: Path, content: Mapping[str, Any]) -> None:
    """Write a profile of the user's own.

    Raises:
        ConfigError: the file cannot be written.
    """
    _write(path, _HEAD + yaml.safe_dump(dict(content), sort_keys=False, allow_unicode=True, width=120))


def with_value(text: str, key: str, value: str) -> str:
    """A file's text with one top-level value set, everything else left as it is, comments included.

    Raises:
        ConfigError: that cannot be done by changing one line.
    """
    before = parse(text, "config.yaml").value
    line_end = "\r\n" if "\r\n" in text else "\n"
    pattern = re.compile("^" + _PLAIN_LINE.format(key=re.escape(key)), re.MULTILINE)
    if isinstance(before, dict) and key in before:
        changed = pattern.sub(lambda found: f"{key}: {value}{found['rest']}", text, count=1)
    else:
        head = "" if not text or text.endswith("\n") else line_end
        changed = f"{text}{head}{key}: {value}{line_end}"
    # Whatever the layout of the file, the change must mean what it was meant to, and nothing else.
    if not isinstance(before, dict) or parse(changed, "config.yaml").value != {**before, key: yaml.safe_load(value)}:
        raise ConfigError((f"config.yaml:1:1: {key} cannot be set by changing one line",))
    return changed


def _write(path: Path, text: str) -> None:
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if path.exists():
            _replace(path.with_name(f"{path.name}.bak"), path.read_bytes())
        _replace(path, text.encode("utf-8"))
    except OSError as error:
        raise ConfigError((f"{path}:1:1: it cannot be written: {error.strerror}",)) from error


def _replace(path: Path, content: bytes) -> None:
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(content)
    temporary.replace(path)
