"""A step: one part of a task, small enough to pass or fail."""

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from types import MappingProxyType
from typing import Final, Self

from wilson.domain.errors import IllegalMove
from wilson.domain.value import Struct, replace


class StepState(StrEnum):
    """Where a step is."""

    PENDING = "pending"
    IN_PROGRESS = "in_progress"
    PASSED = "passed"
    FAILED = "failed"
    SKIPPED = "skipped"
    """Not needed after all; counts as settled."""


_S = StepState
FOLLOWING: Final[Mapping[StepState, frozenset[StepState]]] = MappingProxyType({
    _S.PENDING: frozenset({_S.IN_PROGRESS, _S.SKIPPED}),
    _S.IN_PROGRESS: frozenset({_S.PASSED, _S.FAILED, _S.SKIPPED}),
    _S.PASSED: frozenset(),
    _S.FAILED: frozenset(),
    _S.SKIPPED: frozenset(),
})
"""The states that may follow each state."""

SETTLED: Final = frozenset({_S.PASSED, _S.FAILED, _S.SKIPPED})


class Step(Struct, frozen=True, kw_only=True):
    """One part of a task."""

    number: int
    """Counted from 1 within the task."""
    name: str
    description: str
    state: StepState = StepState.PENDING
    started_at: datetime | None = None
    completed_at: datetime | None = None
    output: str | None = None
    error: str | None = None

    @classmethod
    def numbered(cls, number: int, description: str) -> Self:
        return cls(number=number, name=f"Step {number}", description=description)

    def become(self, state: StepState, *, at: datetime, output: str | None = None, error: str | None = None) -> Self:
        """The same step in another state.

        Raises:
            IllegalMove: the state may not follow; the message lists those that may.
        """
        if state not in FOLLOWING[self.state]:
            legal = " ".join(sorted(FOLLOWING[self.state])) or "nothing"
            raise IllegalMove(f"step {self.number} is {self.state} and cannot become {state}; what may follow: {legal}")
        return replace(
            self,
            state=state,
            started_at=at if state is StepState.IN_PROGRESS else self.started_at,
            completed_at=at if state in SETTLED else self.completed_at,
            output=self.output if output is None else output,
            error=self.error if error is None else error,
        )


def share_settled(steps: tuple[Step, ...]) -> float:
    """The settled part of ``steps``, from 0 to 1; 0 when there are none."""
    return sum(step.state in SETTLED for step in steps) / len(steps) if steps else 0.0
