"""A window of plain lines and JSON: the whole of Wilson for scripts, pipes and screen readers."""

import asyncio
import contextlib
import json
import sys
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any, Final, TextIO

from wilson.domain.agent import handed_over
from wilson.domain.errors import (
    AccessDenied,
    Busy,
    ConfigError,
    ContextExceeded,
    LimitReached,
    LoadFailed,
    ModelMissing,
    OwnerGone,
    StreamBroken,
    TaskError,
    Unreachable,
    UsageError,
    WilsonError,
)
from wilson.domain.event import (
    Erred,
    Event,
    Happened,
    ModelLoaded,
    ModelLoading,
    ModelUnloaded,
    NoticeGiven,
    PromptSaid,
    ReplyGrew,
    TaskMoved,
    TaskProgressed,
    TaskQueued,
    ToolUsed,
    Warned,
)
from wilson.domain.front_door import FrontDoor, Said
from wilson.domain.model import model_label
from wilson.domain.profile import Setting
from wilson.domain.status import StatusLine
from wilson.domain.tables import endpoint_lines, queue_lines, task_details, task_table
from wilson.domain.task import Task, TaskDraft, TaskId, TaskState
from wilson.domain.text import memory, safe
from wilson.domain.wire import event_to_plain, plain

DONE: Final = 0
TASK_FAILED: Final = 1
USAGE: Final = 2
NO_PROVIDER: Final = 3
PERMISSION_NEEDED: Final = 4
LIMIT: Final = 5
INTERRUPTED: Final = 130

_NO_PROVIDER: Final = (Unreachable, ModelMissing, AccessDenied, Busy, LoadFailed)
_USAGE: Final = (UsageError, ConfigError, TaskError)
_LIMIT: Final = (ContextExceeded, LimitReached)


def exit_code(error: WilsonError) -> int:
    """The exit code that tells a script what kind of failure it was."""
    match error:
        case _ if isinstance(error, _USAGE):
            return USAGE
        case _ if isinstance(error, _NO_PROVIDER):
            return NO_PROVIDER
        case _ if isinstance(error, _LIMIT):
            return LIMIT
    return TASK_FAILED


def task_exit_code(task: Task) -> int:
    """What the end of a task means for a script."""
    match task.state:
        case TaskState.DONE:
            return DONE
        case TaskState.IN_REVIEW:
            return PERMISSION_NEEDED
    if task.error_kind in {kind.__name__ for kind in _NO_PROVIDER}:
        return NO_PROVIDER
    return LIMIT if task.error_kind in {kind.__name__ for kind in _LIMIT} else TASK_FAILED


def put(text: str, *, to: TextIO | None = None, end: str = "\n") -> None:
    """Print text from anywhere, with nothing in it that a terminal obeys."""
    print(safe(text), file=to or sys.stdout, end=end, flush=True)


def put_json(value: Any) -> None:
    print(json.dumps(plain(value), ensure_ascii=False, indent=2), flush=True)


def complain(error: WilsonError) -> None:
    """One sentence on stderr with what was tried and what would help."""
    problems = error.problems if isinstance(error, ConfigError) else (str(error),)
    for problem in problems:
        put(f"wilson: {problem}" if not isinstance(error, ConfigError) else problem, to=sys.stderr)


async def say(
    door: FrontDoor, prompt: str, *, output: str, wait: bool, max_turns: int | None, timeout: float | None
) -> int:
    """One answer on stdout, progress on stderr; with ``wait``, also the end of the tasks that it started."""
    show: Callable[[Happened], None] = _show_event if output == "stream-json" else _Progress(answer=output == "text")
    begun = False

    def watch(happened: Happened) -> None:
        nonlocal begun
        begun = begun or isinstance(happened.event, PromptSaid)
        show(happened)

    async with _watching(door, watch):
        try:
            async with asyncio.timeout(timeout):
                said = await door.say(prompt, None, max_turns)
        except OwnerGone as error:
            if not begun:
                raise  # The prompt was not heard, so another owner can be asked.
            raise StreamBroken("the Wilson that was answering has ended in mid-reply; ask again") from error
        except TimeoutError as error:
            raise LimitReached(f"there was no whole answer within {timeout:g} s; allow more with --timeout") from error
        if output == "text":
            put("")
        tasks = [await (door.ended(task) if wait else door.task(task)) for task in said.tasks]
    if output == "json":
        put_json(_answer(said, tasks))
    elif output == "stream-json":
        print(json.dumps({"type": "result", **_answer(said, tasks)}, ensure_ascii=False), flush=True)
    if said.cut:
        put("wilson: the answer ended at the token limit; raise llms.chat.max_tokens or num_ctx", to=sys.stderr)
        return LIMIT
    return max((task_exit_code(task) for task in tasks), default=DONE) if wait else DONE


def _answer(said: Said, tasks: list[Task]) -> dict[str, Any]:
    tokens = {"prompt": said.prompt_tokens, "completion": said.completion_tokens}
    return {**plain(said), "tokens": tokens, "tasks": plain(tasks)}


async def add_task(door: FrontDoor, draft: TaskDraft, *, as_json: bool, quiet: bool) -> Task:
    """Store a task and, unless its end will be printed anyway, print it."""
    task = await door.delegate(draft)
    if quiet:
        put(f"{task.id} is stored", to=sys.stderr)
    elif as_json:
        put_json(task)
    else:
        put(await _handed_over(door, task))
    return task


async def wait_for_task(door: FrontDoor, task: TaskId, *, as_json: bool, interrupted: asyncio.Event) -> int:
    """Wait for a task's end and print it; when the user interrupts, the task is cancelled first."""
    async with _watching(door, _Progress(answer=False)):
        ending = asyncio.ensure_future(door.ended(task))
        interruption = asyncio.ensure_future(interrupted.wait())
        try:
            await asyncio.wait({ending, interruption}, return_when=asyncio.FIRST_COMPLETED)
            if interrupted.is_set() and not ending.done():
                with contextlib.suppress(TaskError):  # It has ended in the meantime.
                    await door.cancel(task)
            ended = await ending
        finally:
            interruption.cancel()
            ending.cancel()
    if as_json:
        put_json(ended)
    else:
        put(task_details(ended))
    return INTERRUPTED if interrupted.is_set() else task_exit_code(ended)


async def show_task(door: FrontDoor, task: TaskId, *, as_json: bool) -> int:
    known = await door.task(task)
    if as_json:
        put_json(known)
    else:
        put(task_details(known))
    return DONE


async def list_tasks(door: FrontDoor, *, as_json: bool) -> int:
    tasks = await door.tasks()
    if as_json:
        put_json(tasks)
    elif not tasks:
        put('no tasks yet; add one: wilson task add "write hello.py"')
    else:
        put(task_table(tasks))
    return DONE


async def change_task(door: FrontDoor, verb: str, task: TaskId, *, as_json: bool) -> int:
    """``cancel``, ``accept`` or ``retry`` a task, and print what it is now."""
    change = {"cancel": door.cancel, "accept": door.accept, "retry": door.retry}[verb]
    changed = await change(task)
    if as_json:
        put_json(changed)
    else:
        put(f"{changed.id} is {changed.state_in_words}{f': {changed.message}' if changed.message else ''}")
    return DONE


async def show_status(door: FrontDoor, *, as_json: bool) -> int:
    status = await door.status()
    if as_json:
        put_json(_public(status))
    else:
        put("\n".join([f"profile {status.profile}", *status.lines(), *queue_lines(status)]))
    return DONE


async def show_models(door: FrontDoor, *, as_json: bool) -> int:
    reports = await door.models()
    if as_json:
        put_json({"endpoints": reports})
    else:
        put("\n".join(endpoint_lines(reports)))
    return DONE


def show_settings(settings: Iterable[Setting], *, origin: bool, as_json: bool) -> int:
    """``path = value``, and with ``origin`` where each comes from."""
    if as_json:
        put_json([plain(each) if origin else {"path": each.path, "value": each.value} for each in settings])
        return DONE
    rows = [(f"{each.path} = {json.dumps(each.value, ensure_ascii=False)}", each.origin) for each in settings]
    width = min(72, max((len(text) for text, _ in rows), default=0))
    for text, place in rows:
        put(f"{text:<{width}}  # {place}" if origin else text)
    return DONE


async def converse(door: FrontDoor, lines: AsyncIterator[str]) -> int:
    """The plain window: a prompt a line, answers and news as lines."""
    conversation: str | None = None
    async with _watching(door, _Progress(answer=True, news_to=sys.stdout)):
        async for line in lines:
            prompt = line.strip()
            if prompt in {"/quit", "/exit", "exit", "quit", ":q"}:
                break
            if prompt:
                try:
                    said = await door.say(prompt, conversation)
                    conversation = said.conversation
                    put("")
                except WilsonError as error:
                    complain(error)
    return DONE


@asynccontextmanager
async def _watching(door: FrontDoor, show: Callable[[Happened], None]) -> AsyncIterator[None]:
    """Everything that happens while the block lasts is shown, what came last included."""
    async with door.events() as events:
        watch = asyncio.create_task(_each(events, show), name="events to show")
        try:
            yield
            await events.caught_up()
        finally:
            watch.cancel()
            await asyncio.wait({watch})


async def _each(events: AsyncIterator[Happened], show: Callable[[Happened], None]) -> None:
    async for happened in events:
        show(happened)


def _show_event(happened: Happened) -> None:
    print(json.dumps(event_to_plain(happened), ensure_ascii=False), flush=True)


class _Progress:
    """The answer on stdout as it grows, and everything else in short lines, each said once."""

    def __init__(self, *, answer: bool, news_to: TextIO | None = None) -> None:
        self._answer = answer
        self._news_to = news_to
        self._last = ""

    def __call__(self, happened: Happened) -> None:
        if isinstance(happened.event, ReplyGrew):
            if self._answer:
                put(happened.event.text, end="")
            return
        line = _news(happened.event)
        if line and line != self._last:
            self._last = line
            put(line, to=self._news_to or sys.stderr)


def _news(event: Event) -> str:
    match event:
        case ModelLoading(model=model, fraction=None):
            return f"loading {model_label(model)}…"
        case ModelLoaded(model=model, memory_mb=mb, seconds=seconds):
            return f"loaded {model_label(model)} in {seconds:.1f} s, {memory(mb)} RAM"
        case ModelUnloaded(model=model):
            return f"unloaded {model_label(model)}"
        case TaskQueued(task=task, reason=reason):
            return f"{task} queued ({reason})"
        case TaskMoved(task=task, state=TaskState.IN_PROGRESS):
            return f"{task} is at work"
        case TaskProgressed(task=task, progress=progress, message=message):
            return f"{task} {progress:.0%} {message}"
        case ToolUsed(tool="delegate_task", answer=answer):
            return answer
        case NoticeGiven(text=text) | Warned(text=text):
            return text
        case Erred(text=text, conversation=None):
            return text
    return ""


async def _handed_over(door: FrontDoor, task: Task) -> str:
    status = await door.status()
    return handed_over(task, next((queued.reason for queued in status.queue if queued.task == task.id), None))


def _public(status: StatusLine) -> dict[str, Any]:
    shown: dict[str, Any] = plain(status)
    del shown["left"], shown["happened"]
    return shown
