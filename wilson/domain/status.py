"""The status line: what all events so far add up to."""

from collections.abc import Mapping
from typing import Final, assert_never

from wilson.domain.agent import agent_title
from wilson.domain.event import (
    ChatSeated,
    Erred,
    Event,
    Happened,
    ModelLoaded,
    ModelLoading,
    ModelMeasured,
    ModelUnloaded,
    ModelUnloading,
    NoticeGiven,
    Phase,
    ProfileChanged,
    PromptSaid,
    ReplyEnded,
    ReplyGrew,
    StepMoved,
    TaskCreated,
    TaskMoved,
    TaskProgressed,
    TaskQueued,
    ToolUsed,
    Warned,
    WorkerEnded,
    WorkerSeated,
    WorkerStarted,
)
from wilson.domain.model import model_label
from wilson.domain.task import TaskId, TaskState
from wilson.domain.text import memory
from wilson.domain.value import Struct, replace

MARKS: Final = {
    Phase.PLANNING: "📋",
    Phase.LOADING: "⏳",
    Phase.WORKING: "⚙️",
    Phase.TESTING: "🧪",
    Phase.FALLBACK: "⚠️",
    Phase.ENDING: "✓",
}


WORDS: Final = {
    Phase.PLANNING: "[planning]",
    Phase.LOADING: "[loading]",
    Phase.WORKING: "[working]",
    Phase.TESTING: "[testing]",
    Phase.FALLBACK: "[fallback]",
    Phase.ENDING: "[ending]",
}
"""The same for terminals that draw no emoji."""


class ChatSeat(Struct, frozen=True, kw_only=True):
    """The model that chats."""

    model: str | None = None
    endpoint: str | None = None
    loaded: bool = False
    memory_mb: int | None = None


class WorkerSeat(Struct, frozen=True, kw_only=True):
    """A worker, as people see it."""

    id: str
    agent: str
    task: TaskId
    model: str
    model_size: str
    endpoint: str
    state: Phase
    message: str
    progress: float
    memory_mb: int | None

    def __str__(self) -> str:
        return self.line(MARKS)

    def line(self, marks: Mapping[Phase, str]) -> str:
        """``Code Agent (qwen2.5-coder:14b, 8GB RAM): writing auth.py (60%) ⚙️``."""
        room = f", {memory(self.memory_mb)} RAM" if self.memory_mb is not None else ""
        what = f"{agent_title(self.agent)} ({model_label(self.model)}{room})"
        return f"{what}: {self.message} ({self.progress:.0%}) {marks[self.state]}"


class Queued(Struct, frozen=True, kw_only=True):
    """A task that waits, and what for."""

    task: TaskId
    reason: str


class ModelSeat(Struct, frozen=True, kw_only=True):
    """A model that Wilson has loaded, is loading, or is sending away."""

    endpoint: str
    model: str
    state: str
    """``loading``, ``loaded`` or ``unloading``."""
    fraction: float | None = None
    memory_mb: int | None = None


class MemoryUse(Struct, frozen=True, kw_only=True):
    """What Wilson's models take of what they may take, in units of 2**20 bytes."""

    used_mb: int = 0
    max_mb: int = 0
    warn_mb: int = 0


class StatusLine(Struct, frozen=True, kw_only=True):
    """Who is at work, on what, with which model and how much memory."""

    happened: int = 0
    """How many events the line is made of."""
    profile: str = ""
    demo: bool = False
    chat: ChatSeat = ChatSeat()
    workers: tuple[WorkerSeat, ...] = ()
    queue: tuple[Queued, ...] = ()
    approvals: tuple[TaskId, ...] = ()
    """Tasks whose files wait for the user's word."""
    models: tuple[ModelSeat, ...] = ()
    memory: MemoryUse = MemoryUse()
    loads: int = 0
    swaps: int = 0
    """Loads that began at an endpoint after some model had left it."""
    unloads: int = 0
    left: tuple[str, ...] = ()
    """Endpoints that a model has left."""

    def after(self, happened: Happened) -> "StatusLine":
        """The line once that has happened too; nothing is counted twice."""
        if happened.number <= self.happened:
            return self
        return replace(self._after(happened.event), happened=happened.number)

    def _after(self, event: Event) -> "StatusLine":
        match event:
            case WorkerStarted():
                return self._with_worker(event)
            case WorkerSeated(worker=worker, model=model, model_size=size, endpoint=endpoint):
                workers = (
                    replace(seat, model=model, model_size=size, endpoint=endpoint) if seat.id == worker else seat
                    for seat in self.workers
                )
                return replace(self, workers=tuple(workers))._recounted()
            case WorkerEnded(worker=worker):
                return replace(self, workers=tuple(seat for seat in self.workers if seat.id != worker))
            case TaskQueued(task=task, reason=reason):
                waiting = tuple(queued for queued in self.queue if queued.task != task)
                return replace(self, queue=(*waiting, Queued(task=task, reason=reason)))
            case TaskMoved():
                return self._after_move(event)
            case TaskProgressed():
                return self._after_progress(event)
            case ModelLoading() | ModelLoaded() | ModelMeasured() | ModelUnloading() | ModelUnloaded():
                return self._after_model(event)
            case ChatSeated(model=model, endpoint=endpoint):
                return replace(self, chat=ChatSeat(model=model, endpoint=endpoint))._recounted()
            case ProfileChanged():
                return self._with_profile(event)
            case PromptSaid() | ReplyGrew() | ReplyEnded() | ToolUsed() | TaskCreated() | StepMoved():
                return self
            case NoticeGiven() | Warned() | Erred():
                return self
        assert_never(event)

    def _with_profile(self, event: ProfileChanged) -> "StatusLine":
        chat = self.chat if self.chat.loaded else ChatSeat(model=event.chat_model)
        memory = replace(self.memory, max_mb=event.max_memory_mb, warn_mb=event.warn_threshold_mb)
        return replace(self, profile=event.name, demo=event.demo, chat=chat, memory=memory)

    def _with_worker(self, event: WorkerStarted) -> "StatusLine":
        seat = WorkerSeat(
            id=event.worker,
            agent=event.agent,
            task=event.task,
            model=event.model,
            model_size="",
            endpoint="",
            state=Phase.LOADING,
            message="loading model…",
            progress=0.0,
            memory_mb=None,
        )
        return replace(self, workers=(*self.workers, seat))._recounted()

    def _after_move(self, event: TaskMoved) -> "StatusLine":
        waits = event.state is TaskState.IN_REVIEW
        others = tuple(task for task in self.approvals if task != event.task)
        queue = self.queue
        if event.state is not TaskState.READY:
            queue = tuple(queued for queued in queue if queued.task != event.task)
        return replace(self, queue=queue, approvals=(*others, event.task) if waits else others)

    def _after_progress(self, event: TaskProgressed) -> "StatusLine":
        return replace(
            self,
            workers=tuple(
                replace(seat, state=event.phase, message=event.message, progress=event.progress)
                if seat.task == event.task
                else seat
                for seat in self.workers
            ),
        )

    def _after_model(
        self, event: ModelLoading | ModelLoaded | ModelMeasured | ModelUnloading | ModelUnloaded
    ) -> "StatusLine":
        here = (event.endpoint, event.model)
        others = tuple(seat for seat in self.models if (seat.endpoint, seat.model) != here)
        known = next((seat for seat in self.models if (seat.endpoint, seat.model) == here), None)
        line = self
        match event:
            case ModelLoading(fraction=fraction):
                now = ModelSeat(endpoint=event.endpoint, model=event.model, state="loading", fraction=fraction)
                if known is None:
                    line = replace(self, loads=self.loads + 1, swaps=self.swaps + (event.endpoint in self.left))
            case ModelLoaded(memory_mb=mb):
                now = ModelSeat(endpoint=event.endpoint, model=event.model, state="loaded", memory_mb=mb)
            case ModelMeasured(memory_mb=mb) if known is not None:
                now = replace(known, memory_mb=mb)
            case ModelUnloading() if known is not None:
                now = replace(known, state="unloading")
            case ModelMeasured() | ModelUnloading():
                return self
            case ModelUnloaded():
                left = tuple(sorted({*self.left, event.endpoint}))
                return replace(self, models=others, unloads=self.unloads + 1, left=left)._recounted()
            case _:
                assert_never(event)
        return replace(line, models=(*others, now))._recounted()

    def _recounted(self) -> "StatusLine":
        """Every figure that depends on which models are loaded, worked out again."""
        taken = {(seat.endpoint, seat.model): seat for seat in self.models}
        chat = taken.get((self.chat.endpoint or "", self.chat.model or ""))
        return replace(
            self,
            chat=replace(
                self.chat,
                loaded=chat is not None and chat.state == "loaded",
                memory_mb=chat.memory_mb if chat else None,
            ),
            workers=tuple(
                replace(seat, memory_mb=model.memory_mb if (model := taken.get((seat.endpoint, seat.model))) else None)
                for seat in self.workers
            ),
            memory=replace(self.memory, used_mb=sum(seat.memory_mb or 0 for seat in self.models)),
        )

    def lines(self, marks: Mapping[Phase, str] = MARKS) -> tuple[str, ...]:
        """What the status bar shows: one line for the whole, one for each worker."""
        return (self.summary(), *(worker.line(marks) for worker in self.workers))

    def summary(self) -> str:
        """Chat model, memory and queue on one line."""
        parts = []
        if self.chat.model:
            room = f" {memory(self.chat.memory_mb)}" if self.chat.memory_mb is not None else ""
            parts.append(f"chat {model_label(self.chat.model)}{room}{'' if self.chat.loaded else self._chat_wait()}")
        else:
            parts.append("no chat model")
        parts.append(f"RAM {memory(self.memory.used_mb)} of {memory(self.memory.max_mb)}")
        if self.workers:
            parts.append(f"{len(self.workers)} at work")
        if self.queue:
            parts.append(f"{len(self.queue)} queued ({self.queue[0].reason})")
        if self.approvals:
            parts.append(f"{len(self.approvals)} to accept")
        return " · ".join(parts)

    def _chat_wait(self) -> str:
        for seat in self.models:
            if (seat.endpoint, seat.model) == (self.chat.endpoint, self.chat.model) and seat.state == "loading":
                return f" loading {seat.fraction:.0%} ⏳" if seat.fraction is not None else " loading ⏳"
        return " not loaded"
