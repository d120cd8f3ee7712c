"""Layers of settings, laid over one another, each value remembering where it comes from."""

from collections.abc import Iterator, Mapping
from typing import Any

from wilson.config.yaml_file import Document
from wilson.domain.schema import Path
from wilson.domain.value import Struct, field

_BOUND_TO_PROVIDER = ("model", "endpoint", "fallback", "tools", "threads")
"""What a purpose's lower layers said for another provider means nothing to the new one."""


class Origin(Struct, frozen=True):
    """Where a value comes from."""

    layer: str
    document: Document
    path: Path

    def __str__(self) -> str:
        return self.document.place(self.path)

    def inside(self, *more: str | int) -> str:
        """The place of something within the value."""
        return self.document.place((*self.path, *more))


class Merged(Struct):
    """All layers so far, as one tree."""

    tree: dict[str, Any] = field(default_factory=dict)
    origins: dict[Path, Origin] = field(default_factory=dict)
    """Of every leaf; a list is one leaf."""

    def lay(self, layer: str, document: Document, *, without: frozenset[str] = frozenset()) -> None:
        """Lay ``document`` on top: mappings are merged, everything else is replaced; some keys may be left out."""
        kept = {key: value for key, value in document.value.items() if key not in without}
        self._lay(self.tree, kept, (), layer, document)

    def _lay(self, below: dict[str, Any], above: Mapping[str, Any], path: Path, layer: str, document: Document) -> None:
        chooses_model = len(path) == 2 and path[0] == "llms"
        if chooses_model and above.get("provider", below.get("provider")) != below.get("provider"):
            for key in _BOUND_TO_PROVIDER:
                below.pop(key, None)
                self.origins.pop((*path, key), None)
        for key, value in above.items():
            here = (*path, key)
            if isinstance(value, Mapping):
                inner = below.setdefault(key, {})
                self._lay(inner, value, here, layer, document)
            else:
                below[key] = value
                self.origins[here] = Origin(layer, document, here)

    def leaves(self) -> Iterator[tuple[Path, Any, Origin]]:
        """Every value with its path and origin, in the tree's order."""
        yield from self._leaves(self.tree, ())

    def _leaves(self, tree: Mapping[str, Any], path: Path) -> Iterator[tuple[Path, Any, Origin]]:
        for key, value in tree.items():
            here = (*path, key)
            if isinstance(value, Mapping):
                yield from self._leaves(value, here)
            else:
                yield here, value, self.origins[here]

    def place(self, *path: str) -> str:
        """``FILE:LINE:COL: `` of a value, or of something that stands beside it; nothing when nobody has said any."""
        for known, origin in self.origins.items():
            if known == path:
                return f"{origin}: "
        # The layer that spoke last of the group is the one to look into.
        near = [origin for known, origin in self.origins.items() if known[: len(path) - 1] == path[:-1]]
        return f"{near[-1].document.place(path[:-1])}: " if near else ""
