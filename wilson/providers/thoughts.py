"""Thoughts that a server leaves in the text, between ``<think>`` and ``</think>``, told apart from the answer."""

from typing import Final

from wilson.domain.chat import TextPiece, ThoughtPiece

_OPEN: Final = "<think>"
_CLOSE: Final = "</think>"


class ThoughtSplitter:
    """Sorts a growing text; only thoughts at the very beginning count, later tags are part of the answer."""

    def __init__(self) -> None:
        self._held = ""
        self._state = "start"

    def feed(self, text: str) -> list[TextPiece | ThoughtPiece]:
        if self._state == "answer":
            return [TextPiece(text)] if text else []
        self._held += text
        if self._state == "start":
            begun = self._held.lstrip()
            if _OPEN.startswith(begun[: len(_OPEN)]) and len(begun) < len(_OPEN):
                return []
            if not begun.startswith(_OPEN):
                return self._answer(self._held)
            self._held = begun.removeprefix(_OPEN)
            self._state = "thinking"
        thought, tag, rest = self._held.partition(_CLOSE)
        if tag:
            return [*_thought(thought), *self._answer(rest.lstrip("\n"))]
        # The last characters may be the beginning of the closing tag.
        sure = max(0, len(self._held) - len(_CLOSE))
        thought, self._held = self._held[:sure], self._held[sure:]
        return list(_thought(thought))

    def end(self) -> list[TextPiece | ThoughtPiece]:
        """What was still in doubt when the text ended."""
        held, self._held = self._held, ""
        if not held:
            return []
        return [ThoughtPiece(held)] if self._state == "thinking" else [TextPiece(held)]

    def _answer(self, text: str) -> list[TextPiece | ThoughtPiece]:
        self._held = ""
        self._state = "answer"
        return [TextPiece(text)] if text else []


def _thought(text: str) -> list[TextPiece | ThoughtPiece]:
    return [ThoughtPiece(text)] if text else []
