"""An artifact: what a worker leaves behind."""

from enum import StrEnum

from wilson.domain.value import Struct


class ArtifactKind(StrEnum):
    """What sort of thing it is."""

    FILE = "file"
    """A file for the workspace."""
    ANSWER = "answer"
    """Text that is the result itself, such as an analysis."""
    RAW_ANSWER = "raw_answer"
    """What the model said, kept because nothing better could be made of it."""


class Artifact(Struct, frozen=True, kw_only=True):
    """What a worker leaves behind, without its content, which stays in the store."""

    kind: ArtifactKind
    path: str | None
    """Relative to the workspace; none for text that belongs to no file."""
    size: int
    """Bytes in UTF-8."""
    sha256: str
