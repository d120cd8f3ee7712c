"""A review: somebody read the work, and this is what they found."""

from datetime import datetime
from enum import StrEnum

from wilson.domain.value import Struct


class Verdict(StrEnum):
    """What the reviewer says of the whole."""

    PENDING = "pending"
    APPROVED = "approved"
    NEEDS_CHANGES = "needs_changes"
    REJECTED = "rejected"


class ReviewType(StrEnum):
    """What the reviewer looks for."""

    CODE = "code_review"
    SECURITY = "security_review"
    QUALITY = "quality_review"


class Severity(StrEnum):
    """How much a finding matters."""

    CRITICAL = "critical"
    MAJOR = "major"
    MINOR = "minor"
    INFO = "info"


class Finding(Struct, frozen=True, kw_only=True):
    """One thing that the reviewer noticed."""

    severity: Severity
    category: str
    location: str
    """File and line as far as known, ``todo.py:12``."""
    text: str


class Review(Struct, frozen=True, kw_only=True):
    """One reading of one attempt at a task."""

    type: ReviewType
    verdict: Verdict
    attempt: int
    reviewer: str
    """The agent, or ``user``."""
    findings: tuple[Finding, ...] = ()
    at: datetime
