"""Tool calls as servers send them: whole or in pieces, as objects or as text, with or without a name for the call."""

import json
from collections.abc import Iterable, Mapping
from typing import Any

from wilson.domain.chat import ToolCall, ToolSpec
from wilson.domain.value import Struct


def described(tools: Iterable[ToolSpec]) -> list[dict[str, Any]]:
    """Tools as both Ollama and OpenAI-compatible servers want to hear of them."""
    return [
        {
            "type": "function",
            "function": {"name": tool.name, "description": tool.description, "parameters": tool.parameters},
        }
        for tool in tools
    ]


def tool_call(id_: str, name: str, arguments: Any) -> ToolCall:
    """A call whose arguments come as an object or as text; what cannot be read is said in ``problem``."""
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments or "{}")
        except (ValueError, RecursionError) as error:
            return ToolCall(id_, name, {}, f"the arguments are not JSON: {error}")
    if arguments is None:
        arguments = {}
    if not isinstance(arguments, dict):
        return ToolCall(id_, name, {}, "the arguments are not an object")
    return ToolCall(id_, name, arguments)


class _Growing(Struct):
    id: str = ""
    name: str = ""
    text: str = ""
    whole: Any = None


class CallBuilder:
    """Puts streamed pieces together.

    Pieces belong together by their index; but some servers give every call the index 0 and only another id, so a new
    id begins a new call.
    """

    def __init__(self) -> None:
        self._calls: list[_Growing] = []
        self._by_index: dict[int, _Growing] = {}

    def add(self, pieces: Iterable[Mapping[str, Any]]) -> None:
        for piece in pieces:
            call = self._growing(piece)
            function = piece.get("function") or {}
            call.name = call.name or str(function.get("name") or "")
            arguments = function.get("arguments")
            if isinstance(arguments, str):
                call.text += arguments
            elif arguments is not None:
                call.whole = arguments

    def whole(self) -> tuple[ToolCall, ...]:
        return tuple(
            tool_call(call.id or f"call-{number}", call.name, call.text if call.whole is None else call.whole)
            for number, call in enumerate(self._calls, start=1)
        )

    def _growing(self, piece: Mapping[str, Any]) -> _Growing:
        index, id_ = piece.get("index"), str(piece.get("id") or "")
        known = self._by_index.get(index) if index is not None else None
        if known is not None and (not id_ or id_ == known.id):
            return known
        call = _Growing(id_)
        self._calls.append(call)
        if index is not None:
            self._by_index[index] = call
        return call
