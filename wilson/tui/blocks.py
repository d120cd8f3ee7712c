"""A reply cut into blocks as it grows: what is finished never changes again, so it need be drawn only once."""

import re
from enum import StrEnum
from typing import Final

from wilson.domain.value import Struct

_FENCE: Final = re.compile(r"^ {0,3}(?P<fence>`{3,}|~{3,})(?P<info>[^`]*)$")
_LIST_ITEM: Final = re.compile(r"^\s{0,3}([-*+]|\d{1,9}[.)])\s")
_LONGEST_OPEN: Final = 4000
"""Characters of prose without an empty line; after so many a block ends anyway."""


class BlockKind(StrEnum):
    """How a block is drawn."""

    PROSE = "prose"
    CODE = "code"


class Block(Struct):
    """A part of a reply."""

    kind: BlockKind
    text: str = ""
    """Markdown, or code without its fences."""
    language: str = ""
    done: bool = False


class BlockReader:
    """Reads a growing reply. ``feed`` says which blocks are new or have changed."""

    def __init__(self) -> None:
        self.blocks: list[Block] = []
        self._line = ""
        self._fence = ""
        self._gap = ""
        """Empty lines that may belong to the block, if it goes on behind them."""

    def feed(self, text: str) -> list[Block]:
        """The blocks that ``text`` has changed, in order; a line counts when it is whole."""
        *lines, self._line = (self._line + text).split("\n")
        changed: list[Block] = []
        for line in lines:
            for block in self._read(f"{line}\n"):
                if not changed or changed[-1] is not block:
                    changed.append(block)
        return changed

    @property
    def tail(self) -> str:
        """The beginning of a line that is not whole yet."""
        return self._line

    def end(self) -> list[Block]:
        """The blocks that change because nothing more will come."""
        changed = self.feed("\n") if self._line else []
        if self.blocks and not self.blocks[-1].done:
            self._finish()
            if self.blocks[-1] not in changed:
                changed.append(self.blocks[-1])
        return changed

    def _read(self, line: str) -> list[Block]:
        fence = _FENCE.match(line.rstrip())
        if self._fence:
            if fence and not fence["info"].strip() and fence["fence"].startswith(self._fence):
                self._fence = ""
                return [self._finish()]
            return [self._add(line)]
        if fence:
            closed = self._close_prose()
            self._fence = fence["fence"]
            self.blocks.append(Block(BlockKind.CODE, language=fence["info"].strip().partition(" ")[0]))
            return [*closed, self.blocks[-1]]
        if not line.strip():
            self._gap += line
            return []
        closed = self._close_prose() if self._gap and not self._goes_on(line) else []
        if not self.blocks or self.blocks[-1].done:
            self.blocks.append(Block(BlockKind.PROSE))
        block = self._add(self._gap + line if self.blocks[-1].text else line)
        self._gap = ""
        if len(block.text) > _LONGEST_OPEN:
            self._finish()
        return [*closed, block]

    def _goes_on(self, line: str) -> bool:
        """Behind an empty line, an indented line or a list's next item still belongs to the block."""
        open_block = self.blocks[-1] if self.blocks and not self.blocks[-1].done else None
        if open_block is None:
            return False
        in_list = bool(_LIST_ITEM.match(open_block.text))
        return in_list and (line.startswith(("  ", "\t")) or bool(_LIST_ITEM.match(line)))

    def _close_prose(self) -> list[Block]:
        self._gap = ""
        return [self._finish()] if self.blocks and not self.blocks[-1].done else []

    def _add(self, text: str) -> Block:
        self.blocks[-1].text += text
        return self.blocks[-1]

    def _finish(self) -> Block:
        self.blocks[-1].done = True
        return self.blocks[-1]
