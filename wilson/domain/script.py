"""A script: models that do not exist and what they say, so that a conversation can be played again without one."""

import re
from typing import Any

from wilson.domain.value import Struct


class ScriptedModel(Struct, frozen=True, kw_only=True):
    """A model that takes room and time, but thinks nothing."""

    name: str
    size_mb: int = 0
    load_seconds: float = 0.0
    unload_seconds: float = 0.0
    tokens_per_second: float | None = None
    """Words per second, roughly; none for all at once."""
    context: int = 8192
    parameters: str = ""
    tools: bool = True
    pause_load: bool = False
    """The load waits at the pause ``load NAME``."""
    load_error: str = ""
    """The load fails, with these words."""


class Say(Struct, frozen=True):
    """A part of a reply that is text; ``\\1`` stands for the first group of the rule's expression."""

    text: str


class Call(Struct, frozen=True):
    """A part of a reply that calls a tool."""

    name: str
    arguments: dict[str, Any]


class Pause(Struct, frozen=True):
    """The reply stands still here until a test lets it go on."""

    name: str


class Stumble(Struct, frozen=True):
    """The reply ends in an error of this kind."""

    kind: str
    text: str


class CutShort(Struct, frozen=True):
    """The reply ends here as if the token limit were reached."""


Part = Say | Call | Pause | Stumble | CutShort


class Rule(Struct, frozen=True, kw_only=True):
    """When a reply is due; every condition that is given must hold."""

    parts: tuple[Part, ...]
    purpose: str | None = None
    model: str | None = None
    contains: str | None = None
    """A part of the last message, whatever its case."""
    matches: str | None = None
    """A regular expression found in the last message, whatever its case."""
    times: int | None = None
    """Only so often; afterwards the rules below get their turn."""

    def fits(self, purpose: str, model: str, last: str, used: int) -> re.Match[str] | None:
        """The match that lends its groups to the reply, or nothing when the rule does not apply."""
        if (self.purpose, self.model) not in {(p, m) for p in (None, purpose) for m in (None, model)}:
            return None
        if self.times is not None and used >= self.times:
            return None
        if self.contains is not None and self.contains.casefold() not in last.casefold():
            return None
        return re.search(self.matches or "", last, re.IGNORECASE)


class Script(Struct, frozen=True, kw_only=True):
    """Everything that a scripted endpoint knows."""

    models: tuple[ScriptedModel, ...]
    rules: tuple[Rule, ...]
