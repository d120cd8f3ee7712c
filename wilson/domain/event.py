"""Events: what has happened, in the only words there are for it."""

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import Any

from wilson.domain.step import Step
from wilson.domain.task import Move, OutcomeReason, Task, TaskId, TaskState
from wilson.domain.value import Struct


class Phase(StrEnum):
    """What a worker is busy with."""

    PLANNING = "planning"
    LOADING = "loading"
    WORKING = "working"
    TESTING = "testing"
    FALLBACK = "fallback"
    ENDING = "ending"
    """The work is done; its model is leaving memory."""


class PromptSaid(Struct, frozen=True, kw_only=True):
    """The user said something."""

    conversation: str
    text: str


class ReplyGrew(Struct, frozen=True, kw_only=True):
    """Some more of the chat model's reply."""

    conversation: str
    text: str


class ReplyEnded(Struct, frozen=True, kw_only=True):
    """The chat model's reply is whole, or was stopped."""

    conversation: str
    text: str
    model: str
    stopped: bool = False
    """The user stopped it."""
    cut: bool = False
    """It reached the token limit."""
    prompt_tokens: int | None = None
    completion_tokens: int | None = None


class ToolUsed(Struct, frozen=True, kw_only=True):
    """The chat model called a tool and got an answer."""

    conversation: str
    tool: str
    arguments: Mapping[str, Any]
    answer: str


class TaskCreated(Struct, frozen=True, kw_only=True):
    """A task is in the store."""

    task: Task


class TaskQueued(Struct, frozen=True, kw_only=True):
    """A task that could run has to wait."""

    task: TaskId
    reason: str


class TaskMoved(Struct, frozen=True, kw_only=True):
    """A task's state has changed."""

    task: TaskId
    move: Move
    state: TaskState
    reason: OutcomeReason | None = None
    message: str = ""


class TaskProgressed(Struct, frozen=True, kw_only=True):
    """A task at work has come further, or turned to something else."""

    task: TaskId
    progress: float
    """From 0 to 1."""
    message: str
    phase: Phase


class StepMoved(Struct, frozen=True, kw_only=True):
    """A step's state has changed."""

    task: TaskId
    step: Step


class WorkerStarted(Struct, frozen=True, kw_only=True):
    """A worker has begun its one task."""

    worker: str
    agent: str
    task: TaskId
    model: str
    """The one that the profile wants for it."""


class WorkerSeated(Struct, frozen=True, kw_only=True):
    """It is known where a worker's model is, and which one it really is."""

    worker: str
    model: str
    model_size: str
    """Parameters, such as ``14B``; empty when unknown."""
    endpoint: str


class WorkerEnded(Struct, frozen=True, kw_only=True):
    """A worker's life is over; what it held has been let go."""

    worker: str
    task: TaskId


class ChatSeated(Struct, frozen=True, kw_only=True):
    """The chat model has been chosen."""

    model: str
    endpoint: str


class ModelLoading(Struct, frozen=True, kw_only=True):
    """A model is on its way into memory."""

    endpoint: str
    model: str
    fraction: float | None = None
    """From 0 to 1; none when the server does not tell."""


class ModelLoaded(Struct, frozen=True, kw_only=True):
    """A model is in memory and answers."""

    endpoint: str
    model: str
    memory_mb: int | None
    seconds: float


class ModelMeasured(Struct, frozen=True, kw_only=True):
    """A loaded model takes another amount of memory than before."""

    endpoint: str
    model: str
    memory_mb: int | None


class ModelUnloading(Struct, frozen=True, kw_only=True):
    """A model has been asked to leave memory."""

    endpoint: str
    model: str


class ModelUnloaded(Struct, frozen=True, kw_only=True):
    """A model has left memory, or never got there."""

    endpoint: str
    model: str
    seconds: float


class NoticeGiven(Struct, frozen=True, kw_only=True):
    """Wilson itself has something to say in the conversation."""

    text: str
    task: TaskId | None = None


class ProfileChanged(Struct, frozen=True, kw_only=True):
    """Another profile is in force for everything that starts from now on."""

    name: str
    demo: bool
    chat_model: str
    max_memory_mb: int
    warn_threshold_mb: int


class Warned(Struct, frozen=True, kw_only=True):
    """Something is not as it should be, and work goes on."""

    text: str


class Erred(Struct, frozen=True, kw_only=True):
    """Something that was asked for could not be done."""

    text: str
    kind: str
    """The error's name."""
    conversation: str | None = None


Event = (
    PromptSaid
    | ReplyGrew
    | ReplyEnded
    | ToolUsed
    | TaskCreated
    | TaskQueued
    | TaskMoved
    | TaskProgressed
    | StepMoved
    | WorkerStarted
    | WorkerSeated
    | WorkerEnded
    | ChatSeated
    | ModelLoading
    | ModelLoaded
    | ModelMeasured
    | ModelUnloading
    | ModelUnloaded
    | NoticeGiven
    | ProfileChanged
    | Warned
    | Erred
)


class Happened(Struct, frozen=True):
    """An event, when it happened, and which one it was."""

    number: int
    """Counted from 1 since Wilson started; the order, whatever the clock does."""
    at: datetime
    event: Event
