"""Bytes into lines, however the network has cut them."""

from typing import Final

from wilson.domain.errors import BadReply

LONGEST_LINE: Final = 8 << 20
"""Bytes; Ollama's own client has the same limit."""


class LineReader:
    """Collects bytes and gives out whole lines, decoded, without their ends.

    A line ends at LF only: Unicode has more line separators, and JSON text may hold any of them. A cut inside a UTF-8
    sequence or between CR and LF does no harm, because only whole lines are decoded.
    """

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._size = 0

    def feed(self, data: bytes) -> list[str]:
        """The lines that ``data`` completes.

        Raises:
            BadReply: a line is longer than ``LONGEST_LINE``.
        """
        *ends, rest = data.split(b"\n")
        lines = []
        for end in ends:
            self._keep(end)
            lines.append(self._take())
        self._keep(rest)
        return lines

    def end(self) -> list[str]:
        """What is left when the stream ends without a last line end."""
        return [self._take()] if self._size else []

    def _keep(self, part: bytes) -> None:
        self._size += len(part)
        if self._size > LONGEST_LINE:
            raise BadReply(f"the server sent a line of more than {LONGEST_LINE >> 20} MB; that is no chat")
        self._parts.append(part)

    def _take(self) -> str:
        line = b"".join(self._parts)
        self._parts.clear()
        self._size = 0
        return line.removesuffix(b"\r").decode("utf-8", "replace")
