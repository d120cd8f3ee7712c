"""The worker manager: gives a task a worker when it may run, and ends the worker when it must."""

import asyncio
import logging
from collections.abc import Callable
from types import TracebackType
from typing import Final, Self

from wilson.domain.artifact import ArtifactKind
from wilson.domain.errors import ConfigError, IllegalMove, StoreError, TaskChanged, WilsonError
from wilson.domain.event import Erred, TaskCreated, TaskQueued
from wilson.domain.profile import Profile
from wilson.domain.status import Queued
from wilson.domain.task import Move, OutcomeReason, Task, TaskDraft, TaskId, TaskState
from wilson.domain.text import listed
from wilson.domain.value import replace
from wilson.engine.scheduler import Hold, Scene, Start, Waiting, decide
from wilson.engine.waiting import Pulse, see_through
from wilson.engine.worker import Surroundings, Worker

log = logging.getLogger(__name__)

NOBODY_RUNS_IT: Final = "runs as soon as a window is open, or somebody waits for it"


class WorkerManager:
    """Every worker of this program.

    ``runs_all``: a window runs every task there is, a one-shot command only those that somebody waits for.
    """

    def __init__(self, around: Surroundings, profile: Callable[[], Profile], *, runs_all: bool) -> None:
        self._around = around
        self._profile = profile
        self._runs_all = runs_all
        self._wanted: set[TaskId] = set()
        self._workers: dict[TaskId, asyncio.Task[None]] = {}
        self._running: dict[TaskId, Waiting] = {}
        self._held: dict[TaskId, str] = {}
        self._cancelling: set[TaskId] = set()
        self._changing = asyncio.Lock()
        """Held while workers are started or ended."""
        self._wake = asyncio.Event()
        self._asked = self._looked = 0
        self._after_look = Pulse()
        self._closing = False
        self._watcher: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._watcher = asyncio.create_task(self._watch(), name="worker manager")
        self.look_soon()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await see_through(self._close())

    def look_soon(self) -> None:
        """Something has changed that may let a task start."""
        self._wake.set()

    def queue_reason(self, task: TaskId) -> str | None:
        """Why a task that could run does not."""
        return self._held.get(task)

    async def queue(self) -> tuple[Queued, ...]:
        """Every task that could run and does not, with the reason."""
        ready = await self._around.store.tasks.in_states(TaskState.READY)
        return tuple(Queued(task=task.id, reason=self._held.get(task.id, NOBODY_RUNS_IT)) for task in ready)

    @property
    def busy(self) -> bool:
        """Some worker is alive."""
        return bool(self._workers)

    async def delegate(self, draft: TaskDraft) -> Task:
        """Store a task, and assign it if there is room; nothing is loaded before this returns."""
        model = _wanted_model(draft.agent, self._profile()) or None
        task = await self._around.store.tasks.add(draft, at=self._around.clock(), model=model)
        self._around.emit(TaskCreated(task=task))
        if task.state is TaskState.BLOCKED:
            self._hold(task.id, f"waits for {listed(task.depends_on)}")
        await self._look_now()
        return await self._around.store.tasks.get(task.id)

    async def want(self, task: TaskId) -> None:
        """Run this task, and whatever it depends on, even where other tasks are left alone."""
        known = await self._around.store.tasks.get(task)
        if task not in self._wanted:
            self._wanted.add(task)
            for need in known.depends_on:
                await self.want(need)
            self.look_soon()

    async def ended(self, task: TaskId) -> Task:
        """The task once it has ended or waits for the user, and its worker has let go of everything."""
        while True:
            seen = self._around.herald.changes
            known = await self._around.store.tasks.get(task)
            if (known.ended or known.state is TaskState.IN_REVIEW) and task not in self._workers:
                return known
            await self._around.herald.change_after(seen)

    async def cancel(self, task: TaskId) -> Task:
        """End a task wherever it stands; returns when its worker has let go of everything.

        Raises:
            IllegalMove: it has ended already.
        """
        known = await self._around.store.tasks.get(task)
        if known.ended:
            raise IllegalMove(f"{task} is {known.state_in_words} already")
        self._cancelling.add(task)
        try:
            async with self._changing:
                if worker := self._workers.get(task):
                    worker.cancel()
                else:
                    await self._fail(task, OutcomeReason.CANCELLED, "cancelled")
            if worker:
                await asyncio.wait({worker})
        finally:
            self._cancelling.discard(task)
        return await self._around.store.tasks.get(task)

    async def accept(self, task: TaskId) -> Task:
        """Write the files that a task has made into the workspace.

        Raises:
            IllegalMove: there is nothing to accept.
            WorkspaceError: a file could not be written; the task still waits.
        """
        known = await self._around.store.tasks.get(task)
        if known.state is not TaskState.IN_REVIEW or known.result is None:
            raise IllegalMove(f"{task} is {known.state_in_words}; there is nothing to accept")
        kept = await self._around.store.artifacts.contents(known, ArtifactKind.FILE)
        files = {artifact.path: content for artifact, content in kept if artifact.path}
        written = await self._around.workspace.write_all(files)
        wrote = f"wrote {listed(written)}"
        now = self._around.clock()
        result = replace(known.result, files_created=written, summary=wrote, completed_at=now)
        moved = await self._around.store.tasks.move(known, Move.ACCEPT, at=now, message=wrote, result=result)
        await self._around.herald.tell(moved, wrote)
        self.look_soon()
        return moved[0].task

    async def retry(self, task: TaskId) -> Task:
        """Let a failed task run again.

        Raises:
            IllegalMove: it has not failed.
        """
        known = await self._around.store.tasks.get(task)
        moved = await self._around.store.tasks.move(known, Move.RETRY, at=self._around.clock())
        await self._around.herald.tell(moved)
        await self._look_now()
        return await self._around.store.tasks.get(task)

    async def _look_now(self) -> None:
        """Have the watcher look, and wait until it has; whoever waits may be cancelled, the look may not."""
        self._asked += 1
        mine = self._asked
        self.look_soon()
        await self._after_look.until(lambda: self._looked >= mine or self._closing)

    async def _watch(self) -> None:
        while True:
            await self._wake.wait()
            # Cleared before looking, so that a change while we look makes us look again.
            self._wake.clear()
            asked = self._asked
            try:
                async with self._changing:
                    await self._look()
            except StoreError as error:
                self._around.emit(Erred(text=str(error), kind=type(error).__name__))
            self._looked = asked
            self._after_look.beat()

    async def _look(self) -> None:
        """Ask the scheduler, and do as it says."""
        profile = self._profile()
        ready = await self._runnable()
        scene = Scene(
            waiting=tuple(_waiting(task, profile) for task in ready.values()),
            running=tuple(self._running.values()),
            max_concurrent=profile.workers.max_concurrent,
        )
        for action in decide(scene):
            match action:
                case Start(task):
                    await self._start(ready[task], profile)
                case Hold(task, reason):
                    self._hold(task, reason)

    async def _runnable(self) -> dict[TaskId, Task]:
        ready = await self._around.store.tasks.in_states(TaskState.READY)
        ours = {task.id: task for task in ready if self._runs_all or task.id in self._wanted}
        for task in ready:
            if task.id not in ours:
                self._hold(task.id, NOBODY_RUNS_IT)
        return ours

    def _hold(self, task: TaskId, reason: str) -> None:
        if self._held.get(task) != reason:
            self._held[task] = reason
            self._around.emit(TaskQueued(task=task, reason=reason))

    async def _start(self, task: Task, profile: Profile) -> None:
        self._held.pop(task.id, None)
        try:
            agent = profile.agents.get(task.agent)
            if agent is None:
                raise IllegalMove(f"{task.id} is for the agent {task.agent}, which this profile does not have")
            choice = profile.choice(agent.purpose)
            moved = await self._around.store.tasks.move(
                task, Move.ASSIGN, at=self._around.clock(), model_requested=choice.model
            )
        except TaskChanged:
            return  # Somebody was quicker; the next look sees what it is now.
        except StoreError:
            raise
        except WilsonError as error:
            await self._fail(task.id, OutcomeReason.ERROR, str(error))
            return
        await self._around.herald.tell(moved)
        worker = Worker(
            moved[0].task,
            agent,
            choice,
            profile,
            self._around,
            lambda: OutcomeReason.CANCELLED if task.id in self._cancelling else OutcomeReason.INTERRUPTED,
        )
        self._running[task.id] = _waiting(task, profile)
        begun = asyncio.Event()
        life = asyncio.create_task(self._life(worker, task.id, begun), name=f"worker {worker.id}")
        self._workers[task.id] = life
        # A coroutine that is cancelled before its first step never runs, not even its end.
        await begun.wait()

    async def _life(self, worker: Worker, task: TaskId, begun: asyncio.Event) -> None:
        begun.set()
        try:
            await worker.live()
        except asyncio.CancelledError:
            pass  # Whoever cancelled it waits for its end, which is here.
        except Exception as error:
            log.error("the end of a worker could not be told", exc_info=error)
            self._around.emit(Erred(text=f"{task}: {error}", kind=type(error).__name__))
        finally:
            del self._workers[task]
            del self._running[task]
            self._around.herald.stir()
            self.look_soon()

    async def _fail(self, task: TaskId, reason: OutcomeReason, message: str) -> None:
        self._held.pop(task, None)
        moved = await self._around.store.tasks.fail(task, at=self._around.clock(), reason=reason, message=message)
        if moved:
            await self._around.herald.tell(moved, message)

    async def _close(self) -> None:
        async with self._changing:
            self._closing = True
            self._after_look.beat()
            if self._watcher is not None:
                self._watcher.cancel()
            workers = set(self._workers.values())
            for worker in workers:
                worker.cancel()
        if workers:
            await asyncio.wait(workers)
        if self._watcher is not None:
            await asyncio.wait({self._watcher})


def _waiting(task: Task, profile: Profile) -> Waiting:
    return Waiting(task.id, task.priority, _wanted_model(task.agent, profile))


def _wanted_model(agent: str, profile: Profile) -> str:
    """The model for an agent; empty where the profile has none, which the start of the task will tell."""
    known = profile.agents.get(agent)
    try:
        return profile.choice(known.purpose).model if known else ""
    except ConfigError:
        return ""
