"""Files in a model's answer: fenced blocks whose first line says ``# filepath: name``."""

import re
from typing import Final

from wilson.domain.value import Struct, field

_FENCE: Final = re.compile(r"^ {0,3}(?P<fence>`{3,}|~{3,})(?P<info>[^`]*)$")
_MARKER: Final = re.compile(
    r"^\s*(?:#|//|--|;|%|/\*|<!--|\"|')*\s*filepath:\s*(?P<path>.+?)\s*(?:\*/|-->)?\s*$", re.IGNORECASE
)
_ANNOUNCED: Final = re.compile(r"^\s*\**files\**\s*:\**\s*(?P<names>\S.*)$", re.IGNORECASE)


class MarkedFiles(Struct):
    """Reads an answer as it grows.

    A block inside the block of a Markdown file is part of that file, as long as its opening fence names a language.
    """

    files: dict[str, str] = field(default_factory=dict)
    """Path to content, in the order of the answer; a path that comes twice has its last content."""
    current: str | None = None
    """The file that is being written."""
    announced: int = 0
    """How many files the answer says it will have, if it says so."""
    _line: str = ""
    _fences: list[str] = field(default_factory=list)
    _content: list[str] | None = None
    _expects_marker: bool = False

    def feed(self, text: str) -> None:
        *lines, self._line = (self._line + text).split("\n")
        for line in lines:
            self._read(line.removesuffix("\r"))

    def end(self) -> dict[str, str]:
        """All files, once the answer is whole; a last block that was not closed counts."""
        if self._line:
            self._read(self._line)
            self._line = ""
        self._close()
        return self.files

    def _read(self, line: str) -> None:
        fence = _FENCE.match(line)
        if not self._fences:
            self._outside(line, fence)
        elif fence and not fence["info"].strip() and self._closes(fence["fence"]):
            self._fences.pop()
            if self._fences:
                self._keep(line)
            else:
                self._close()
        elif self._expects_marker:
            self._expects_marker = False
            if marker := _MARKER.match(line):
                self.current = marker["path"].strip().strip("`\"'")
                self._content = []
        else:
            if fence and fence["info"].strip() and self._content is not None:
                self._fences.append(fence["fence"])
            self._keep(line)

    def _outside(self, line: str, fence: re.Match[str] | None) -> None:
        if fence:
            self._fences.append(fence["fence"])
            self._expects_marker = True
        elif not self.announced and (names := _ANNOUNCED.match(line)):
            self.announced = len([name for name in re.split(r"[,;]", names["names"]) if name.strip()])

    def _closes(self, fence: str) -> bool:
        opened = self._fences[-1]
        return fence[0] == opened[0] and len(fence) >= len(opened)

    def _keep(self, line: str) -> None:
        if self._content is not None:
            self._content.append(line)

    def _close(self) -> None:
        if self.current is not None and self._content is not None:
            self.files.pop(self.current, None)
            self.files[self.current] = "".join(f"{line}\n" for line in self._content)
        self.current = self._content = None
        self._expects_marker = False
        self._fences.clear()


def marked_files(answer: str) -> dict[str, str]:
    """Path to content of every marked file in a whole answer."""
    reader = MarkedFiles()
    reader.feed(answer)
    return reader.end()
