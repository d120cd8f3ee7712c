"""A worker: one life of an agent, spent on one task."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from time import monotonic
from typing import Any, Final

from wilson.domain.agent import Agent
from wilson.domain.artifact import Artifact, ArtifactKind
from wilson.domain.chat import ChatRequest, Finish, FinishReason, Message, Role, TextPiece, ThoughtPiece
from wilson.domain.errors import AnswerCut, NothingProduced, StreamBroken, WilsonError
from wilson.domain.event import Phase, StepMoved, TaskProgressed, WorkerEnded, WorkerSeated, WorkerStarted
from wilson.domain.model import ModelChoice, parameter_count
from wilson.domain.profile import PermissionMode, Profile
from wilson.domain.step import Step, StepState
from wilson.domain.task import Cost, Move, OutcomeReason, Result, Task, Tokens
from wilson.domain.text import listed, one_line
from wilson.domain.value import Struct, replace
from wilson.engine.bus import Clock, Emit
from wilson.engine.endpoints import Endpoints, Found
from wilson.engine.herald import Herald
from wilson.engine.model_pool import ModelLease, ModelPool
from wilson.engine.prompts import prompt_of
from wilson.engine.waiting import see_through
from wilson.store.opening import Store
from wilson.workspace.files import Workspace
from wilson.workspace.markers import MarkedFiles, marked_files

log = logging.getLogger(__name__)

ANSWERING_SHARE: Final = 0.9
"""The part of the progress that is reached when the model's answer is whole."""
_PIECES_BETWEEN_REPORTS: Final = 32


class Surroundings(Struct, frozen=True, kw_only=True):
    """What every worker finds when it comes into being."""

    store: Store
    pool: ModelPool
    endpoints: Endpoints
    workspace: Workspace
    herald: Herald
    emit: Emit
    clock: Clock


class _Outcome(Struct, frozen=True, kw_only=True):
    """What came of the work, before the task is told."""

    move: Move
    message: str
    summary: str
    files: tuple[str, ...] = ()
    kept: tuple[Artifact, ...]


class Worker:
    """Begins with a task that is assigned to it, and ends with the task, however that ends."""

    def __init__(
        self,
        task: Task,
        agent: Agent,
        choice: ModelChoice,
        profile: Profile,
        around: Surroundings,
        why_cancelled: Callable[[], OutcomeReason],
    ) -> None:
        again = f"-{task.attempt}" if task.attempt > 1 else ""
        self.id = f"{agent.name}-{task.id}{again}"
        self._task = task
        self._agent = agent
        self._choice = choice
        self._profile = profile
        self._around = around
        self._why_cancelled = why_cancelled
        self._began = monotonic()
        self._answer: list[str] = []
        """What the model has said so far."""
        self._cut = False
        """The answer ended at the token limit."""

    async def live(self) -> None:
        """Do the task. Nothing escapes but cancellation: every failure is the task's."""
        self._around.emit(
            WorkerStarted(worker=self.id, agent=self._agent.name, task=self._task.id, model=self._choice.model)
        )
        try:
            await self._move(Move.START, message="loading model…")
            found = await self._around.endpoints.find(self._profile, self._choice)
            await self._take_seat(found)
            async with self._around.pool.lease(found.provider, found.spec) as lease:
                try:
                    await self._work(lease)
                except (Exception, asyncio.CancelledError) as error:
                    # A task ends before its model leaves, so this is told here and not below.
                    await see_through(self._fail(error))
                self._tell(self._task.progress, "unloading model", Phase.ENDING)
        except (Exception, asyncio.CancelledError) as error:
            await see_through(self._fail(error))
            if isinstance(error, asyncio.CancelledError):
                raise
        finally:
            self._around.emit(WorkerEnded(worker=self.id, task=self._task.id))

    async def _take_seat(self, found: Found) -> None:
        size = found.facts.parameters or parameter_count(found.spec.name)
        self._around.emit(
            WorkerSeated(worker=self.id, model=found.spec.name, model_size=size, endpoint=found.spec.endpoint)
        )
        await self._note(model_used=found.spec.name, endpoint=found.spec.endpoint)

    async def _work(self, lease: ModelLease) -> None:
        first = Step.numbered(1, f"Answer by {lease.spec.label}")
        second = Step.numbered(2, "Write the files" if self._agent.writes_files else "Keep the answer")
        await self._around.store.tasks.put_steps(self._task, (first, second))
        async with self._passing(first):
            answer = await self._asked(lease)
        await self._report(ANSWERING_SHARE, second.description.lower(), Phase.WORKING)
        async with self._passing(second):
            outcome = await (self._keep_files(answer) if self._agent.writes_files else self._keep_answer(answer))
        result = Result(
            summary=outcome.summary,
            steps_executed=2,
            completed_at=self._around.clock(),
            execution_mode="single_model",
            files_created=outcome.files,
            artifacts=outcome.kept,
        )
        await self._move(outcome.move, message=outcome.message, result=result, progress=1.0, cost=self._cost())

    async def _asked(self, lease: ModelLease) -> str:
        """The model's whole answer to the task's goal."""
        request = ChatRequest(
            messages=(
                Message(role=Role.SYSTEM, content=prompt_of(self._agent)),
                Message(role=Role.USER, content=self._task.goal),
            ),
            temperature=self._choice.temperature,
            max_tokens=self._choice.max_tokens,
            purpose=self._choice.purpose.value,
        )
        await self._report(0.0, "reading the goal", Phase.WORKING)
        files = MarkedFiles()
        finish: Finish | None = None
        async with lease.chat(request) as chunks:
            async for chunk in chunks:
                match chunk:
                    case TextPiece(text):
                        self._answer.append(text)
                        files.feed(text)
                        await self._report_answer(files)
                    case ThoughtPiece() if not self._answer:
                        await self._report(0.0, "thinking", Phase.WORKING)
                    case Finish():
                        finish = chunk
        if finish is None:
            raise StreamBroken(f"{lease.spec.label} gave no end to its answer")
        spent = Tokens(finish.prompt_tokens or 0, finish.completion_tokens or 0)
        await self._note(tokens=self._task.tokens + spent)
        self._cut = finish.reason is FinishReason.LENGTH
        if self._cut and self._agent.writes_files:
            # The end of a file is missing, and perhaps more files; a part of them is worse than none.
            raise AnswerCut(f"the answer of {lease.spec.label} {self._about_the_cut}")
        return "".join(self._answer)

    @property
    def _about_the_cut(self) -> str:
        return (
            "ended at the token limit; "
            f"raise llms.{self._choice.purpose}.max_tokens or num_ctx, or ask for less at once"
        )

    async def _report_answer(self, files: MarkedFiles) -> None:
        if self._agent.writes_files:
            known = max(files.announced, len(files.files) + (files.current is not None))
            share = len(files.files) / known if files.announced else 0.0
            counted = f" ({len(files.files)}/{known} files)" if files.announced else ""
            doing = f"writing {one_line(files.current, 40)}" if files.current else "writing"
            await self._report(ANSWERING_SHARE * share, f"{doing}{counted}", Phase.WORKING)
        elif len(self._answer) % _PIECES_BETWEEN_REPORTS == 1:
            await self._report(0.0, f"answering, {len(self._answer)} tokens so far", Phase.WORKING)

    async def _keep_files(self, answer: str) -> _Outcome:
        marked = marked_files(answer)
        if not marked:
            raise NothingProduced(
                "the answer holds no file: no block begins with '# filepath:'. "
                "It is kept; try again, or try a larger model"
            )
        files = {str(self._around.workspace.relative(path)): content for path, content in marked.items()}
        kept = tuple([await self._keep(ArtifactKind.FILE, content, path) for path, content in files.items()])
        names = listed(tuple(files))
        if self._profile.permissions in {PermissionMode.ASK, PermissionMode.PLAN}:
            count = f"{len(files)} file{'s' if len(files) > 1 else ''}"
            return _Outcome(move=Move.SUBMIT, message=f"{count} to accept: {names}", summary=f"made {names}", kept=kept)
        written = await self._around.workspace.write_all(files)
        return _Outcome(move=Move.FINISH, message=f"wrote {names}", summary=f"wrote {names}", files=written, kept=kept)

    async def _keep_answer(self, answer: str) -> _Outcome:
        if not answer.strip():
            raise NothingProduced("the model answered with nothing; try again, or try another model")
        kept = await self._keep(ArtifactKind.ANSWER, answer, None)
        message = f"answered, but the answer {self._about_the_cut}" if self._cut else "answered"
        return _Outcome(move=Move.FINISH, message=message, summary=answer.strip(), kept=(kept,))

    async def _keep(self, kind: ArtifactKind, content: str, path: str | None) -> Artifact:
        return await self._around.store.artifacts.keep(self._task, kind, content, path=path, at=self._around.clock())

    def _cost(self) -> Cost:
        return Cost(self._task.cost.usd, round(self._task.cost.seconds + monotonic() - self._began, 3))

    async def _fail(self, error: BaseException) -> None:
        """Fail the task, unless it has ended already or waits for the user."""
        match error:
            case asyncio.CancelledError():
                reason = self._why_cancelled()
                message = "cancelled" if reason is OutcomeReason.CANCELLED else "Wilson ended while this was at work"
            case WilsonError():
                reason, message = OutcomeReason.ERROR, str(error)
            case _:
                log.error("a worker stopped", exc_info=error)
                reason = OutcomeReason.ERROR
                message = f"a fault in Wilson itself: {type(error).__name__}: {one_line(str(error), 200)}"
        kind = None if isinstance(error, asyncio.CancelledError) else type(error).__name__
        moved = await self._around.store.tasks.fail_at_work(
            self._task, at=self._around.clock(), reason=reason, message=message, error_kind=kind, cost=self._cost()
        )
        if moved and self._answer:
            await self._keep(ArtifactKind.RAW_ANSWER, "".join(self._answer), None)
        if moved:
            await self._around.herald.tell(moved, message)

    async def _move(self, move: Move, *, message: str, **changes: Any) -> None:
        moved = await self._around.store.tasks.move(
            self._task, move, at=self._around.clock(), message=message, **changes
        )
        self._task = moved[0].task
        await self._around.herald.tell(moved, message)

    async def _report(self, progress: float, message: str, phase: Phase) -> None:
        """Tell how far the work is, if that has changed, and store it."""
        if (message, f"{progress:.2f}") == (self._task.message, f"{self._task.progress:.2f}"):
            return
        self._tell(progress, message, phase)
        await self._note(progress=progress, message=message)

    def _tell(self, progress: float, message: str, phase: Phase) -> None:
        self._around.emit(TaskProgressed(task=self._task.id, progress=progress, message=message, phase=phase))

    async def _note(self, **changes: Any) -> None:
        self._task = replace(self._task, **changes)
        await self._around.store.tasks.note(self._task, **changes)

    @asynccontextmanager
    async def _passing(self, step: Step) -> AsyncIterator[None]:
        """The step passes if the block does."""
        step = await self._become(step, StepState.IN_PROGRESS)
        try:
            yield
        except (Exception, asyncio.CancelledError) as error:
            why = "cancelled" if isinstance(error, asyncio.CancelledError) else str(error)
            await see_through(self._become(step, StepState.FAILED, error=why))
            raise
        await self._become(step, StepState.PASSED)

    async def _become(self, step: Step, state: StepState, error: str | None = None) -> Step:
        changed = step.become(state, at=self._around.clock(), error=error)
        await self._around.store.tasks.put_steps(self._task, (changed,))
        self._around.emit(StepMoved(task=self._task.id, step=changed))
        return changed
