"""A task: one piece of work, the eight states it can be in, and the moves between them."""

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Final, NewType, Self

from wilson.domain.artifact import Artifact
from wilson.domain.errors import IllegalMove, UsageError
from wilson.domain.review import Review
from wilson.domain.step import Step
from wilson.domain.text import one_line
from wilson.domain.value import Struct, field, replace

TaskId = NewType("TaskId", str)
"""``TASK-001``: counted up, never given twice, the same after a restart."""


class TaskState(StrEnum):
    """Where a task is."""

    NEW = "new"
    READY = "ready"
    ASSIGNED = "assigned"
    IN_PROGRESS = "in_progress"
    IN_REVIEW = "in_review"
    BLOCKED = "blocked"
    DONE = "done"
    FAILED = "failed"


class TaskType(StrEnum):
    """What kind of work a task is."""

    RESEARCH = "research"
    CODE = "code"
    TEST = "test"
    REVIEW = "review"
    ANALYSIS = "analysis"
    GENERAL = "general"


class OutcomeReason(StrEnum):
    """Why a task failed."""

    ERROR = "error"
    CANCELLED = "cancelled"
    INTERRUPTED = "interrupted"
    """Wilson ended while the task was at work."""
    TIMEOUT = "timeout"
    REJECTED = "rejected"


class Move(StrEnum):
    """A verb that changes a task's state."""

    MAKE_READY = "make_ready"
    BLOCK = "block"
    UNBLOCK = "unblock"
    ASSIGN = "assign"
    HAND_BACK = "hand_back"
    START = "start"
    SUBMIT = "submit"
    ACCEPT = "accept"
    REOPEN = "reopen"
    SEND_BACK = "send_back"
    FINISH = "finish"
    FAIL = "fail"
    RETRY = "retry"


_S, _M = TaskState, Move
MOVES: Final[Mapping[tuple[TaskState, Move], TaskState]] = MappingProxyType({
    (_S.NEW, _M.MAKE_READY): _S.READY,
    (_S.NEW, _M.BLOCK): _S.BLOCKED,
    (_S.READY, _M.ASSIGN): _S.ASSIGNED,
    (_S.READY, _M.BLOCK): _S.BLOCKED,
    (_S.ASSIGNED, _M.START): _S.IN_PROGRESS,
    (_S.ASSIGNED, _M.HAND_BACK): _S.READY,
    (_S.ASSIGNED, _M.BLOCK): _S.BLOCKED,
    (_S.IN_PROGRESS, _M.SUBMIT): _S.IN_REVIEW,
    (_S.IN_PROGRESS, _M.BLOCK): _S.BLOCKED,
    (_S.IN_PROGRESS, _M.FAIL): _S.FAILED,
    (_S.IN_PROGRESS, _M.FINISH): _S.DONE,
    (_S.IN_REVIEW, _M.ACCEPT): _S.DONE,
    (_S.IN_REVIEW, _M.REOPEN): _S.IN_PROGRESS,
    # A revision is a new worker with a clean head, so it queues like any other.
    (_S.IN_REVIEW, _M.SEND_BACK): _S.READY,
    (_S.IN_REVIEW, _M.FAIL): _S.FAILED,
    (_S.BLOCKED, _M.UNBLOCK): _S.READY,
    (_S.BLOCKED, _M.ASSIGN): _S.ASSIGNED,
    (_S.BLOCKED, _M.START): _S.IN_PROGRESS,
    (_S.BLOCKED, _M.FAIL): _S.FAILED,
    (_S.FAILED, _M.RETRY): _S.READY,
})
"""What each move makes of each state; a pair that is not here is illegal."""

ENDED: Final = frozenset({_S.DONE, _S.FAILED})
AT_WORK: Final = frozenset({_S.ASSIGNED, _S.IN_PROGRESS})
"""A worker exists, or is about to."""


class Tokens(Struct, frozen=True):
    """Tokens that a task has used."""

    prompt: int = 0
    completion: int = 0

    def __add__(self, other: "Tokens") -> "Tokens":
        return Tokens(self.prompt + other.prompt, self.completion + other.completion)


class Cost(Struct, frozen=True):
    """What a task has cost."""

    usd: float = 0.0
    seconds: float = 0.0
    """From the worker's start to its end."""


class Result(Struct, frozen=True, kw_only=True):
    """What came of a task."""

    summary: str
    steps_executed: int
    completed_at: datetime
    execution_mode: str
    """``dual_model``, ``single_model`` or ``manual_parse``."""
    files_created: tuple[str, ...] = ()
    """Relative to the workspace."""
    artifacts: tuple[Artifact, ...] = ()
    plan: Mapping[str, Any] = field(default_factory=dict)


class TaskDraft(Struct, frozen=True, kw_only=True):
    """A task as somebody asks for it, before it has a number."""

    goal: str
    type: TaskType
    agent: str
    priority: int = 0
    """Higher goes first."""
    depends_on: tuple[TaskId, ...] = ()
    parent: TaskId | None = None
    conversation: str | None = None
    """The conversation that asked for it, and hears of its end."""
    key: str | None = None
    """Asking again with the same key finds the task that the first time has made."""

    def __post_init__(self) -> None:
        if not self.title:
            raise UsageError('the goal is empty; say what to do, for example: wilson task add "write hello.py"')

    @property
    def title(self) -> str:
        return one_line(self.goal, 200)


class Task(Struct, frozen=True, kw_only=True):
    """One atomic piece of work, as it stands in the store."""

    id: TaskId
    title: str
    goal: str
    type: TaskType
    state: TaskState
    outcome_reason: OutcomeReason | None = None
    agent: str
    attempt: int = 0
    """How often the task has been assigned."""
    priority: int = 0
    depends_on: tuple[TaskId, ...] = ()
    blocks: tuple[TaskId, ...] = ()
    parent: TaskId | None = None
    children: tuple[TaskId, ...] = ()
    conversation: str | None = None
    model_requested: str | None = None
    model_used: str | None = None
    endpoint: str | None = None
    used_fallback: bool = False
    tier: str = "local"
    progress: float = 0.0
    message: str = ""
    error_kind: str | None = None
    """The name of the error that the task failed with, if it was one."""
    steps: tuple[Step, ...] = ()
    result: Result | None = None
    reviews: tuple[Review, ...] = ()
    tokens: Tokens = Tokens()
    cost: Cost = Cost()
    created_at: datetime
    started_at: datetime | None = None
    completed_at: datetime | None = None

    def move(self, move: Move, *, at: datetime, reason: OutcomeReason | None = None) -> Self:
        """The same task after ``move``.

        Raises:
            IllegalMove: the state does not allow it; the message lists the moves that it does.
        """
        state = MOVES.get((self.state, move))
        if state is None:
            raise IllegalMove(f"{self.id} is {self.state} and cannot {spoken(move)}; possible: {possible(self.state)}")
        changed = replace(self, state=state, completed_at=at if state in ENDED else None)
        match state:
            case TaskState.FAILED:
                return replace(changed, outcome_reason=reason or OutcomeReason.ERROR)
            case TaskState.DONE:
                return replace(changed, progress=1.0)
            case TaskState.ASSIGNED:
                return replace(changed, attempt=self.attempt + 1, progress=0.0, steps=(), result=None, error_kind=None)
            case TaskState.IN_PROGRESS:
                return replace(changed, started_at=at)
            case TaskState.READY if move is Move.RETRY:
                return replace(changed, outcome_reason=None, progress=0.0, message="")
        return changed

    @property
    def ended(self) -> bool:
        return self.state in ENDED

    @property
    def state_in_words(self) -> str:
        """``in progress``, or ``failed (cancelled)``."""
        words = self.state.replace("_", " ")
        return f"{words} ({self.outcome_reason})" if self.outcome_reason else words


def spoken(move: Move) -> str:
    return move.replace("_", " ")


def possible(state: TaskState) -> str:
    return ", ".join(spoken(move) for origin, move in MOVES if origin is state) or "nothing, it is over"


def moves_to_failure(state: TaskState) -> tuple[Move, ...]:
    """The shortest legal way from ``state`` to failed.

    A task that nobody has started cannot fail at work, so it is set aside first.
    """
    if state in ENDED:
        return ()
    return (Move.FAIL,) if (state, Move.FAIL) in MOVES else (Move.BLOCK, Move.FAIL)
