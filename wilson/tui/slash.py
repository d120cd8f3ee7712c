"""Slash commands: what may follow a ``/``, and what it does. Near misses are named, never run."""

import difflib
from collections.abc import Awaitable, Callable
from typing import Final

from wilson.domain.agent import handed_over
from wilson.domain.draft import draft_from_line, task_id
from wilson.domain.errors import UsageError
from wilson.domain.front_door import FrontDoor
from wilson.domain.tables import endpoint_lines, queue_lines, task_details, task_table
from wilson.domain.task import AT_WORK, TaskId
from wilson.domain.value import Struct

Action = Callable[[FrontDoor, str], Awaitable[str]]


class Slash(Struct, frozen=True):
    """One command."""

    usage: str
    help: str
    action: Action | None = None
    """What it answers; none for those that the window itself carries out."""


async def _task(door: FrontDoor, rest: str) -> str:
    if not rest:
        raise UsageError("say what is to be done: /task [--agent A] [--type T] GOAL")
    if rest.split()[0].upper().startswith("TASK-") and len(rest.split()) == 1:
        return task_details(await door.task(task_id(rest)))
    task = await door.delegate(draft_from_line(rest, door.agents))
    status = await door.status()
    return handed_over(task, next((queued.reason for queued in status.queue if queued.task == task.id), None))


async def _tasks(door: FrontDoor, rest: str) -> str:
    if rest:
        return task_details(await door.task(task_id(rest)))
    tasks = await door.tasks()
    return task_table(tasks) if tasks else "no tasks yet; begin one with /task GOAL"


async def _models(door: FrontDoor, rest: str) -> str:
    return "\n".join(endpoint_lines(await door.models()))


async def _status(door: FrontDoor, rest: str) -> str:
    status = await door.status()
    return "\n".join([f"profile {status.profile}", *status.lines(), *queue_lines(status)])


async def _profile(door: FrontDoor, rest: str) -> str:
    if not rest:
        now = (await door.status()).profile
        names = await door.profiles()
        return f"profile {now}; switch with /profile NAME: {', '.join(names)}"
    await door.use_profile(rest)
    return f"profile {(await door.status()).profile} from now on; running tasks end on the models they have"


async def _cancel(door: FrontDoor, rest: str) -> str:
    task = await door.cancel(task_id(rest) if rest else await _only_one(door))
    return f"{task.id} is {task.state_in_words}"


async def _accept(door: FrontDoor, rest: str) -> str:
    waiting = (await door.status()).approvals
    if not rest and len(waiting) != 1:
        raise UsageError(f"say which one: /accept TASK-001; waiting: {', '.join(waiting) or 'none'}")
    task = await door.accept(task_id(rest) if rest else waiting[0])
    return f"{task.id} is accepted: {task.message}"


async def _retry(door: FrontDoor, rest: str) -> str:
    if not rest:
        raise UsageError("say which one: /retry TASK-001")
    task = await door.retry(task_id(rest))
    return f"{task.id} is {task.state_in_words} again"


async def _only_one(door: FrontDoor) -> TaskId:
    active = [task.id for task in await door.tasks() if task.state in AT_WORK]
    if len(active) != 1:
        raise UsageError(f"say which one: /cancel TASK-001; at work: {', '.join(active) or 'none'}")
    return active[0]


async def _help(door: FrontDoor, rest: str) -> str:
    width = max(len(slash.usage) for slash in SLASHES.values())
    commands = [f"{slash.usage:<{width}}  {slash.help}" for name, slash in SLASHES.items() if name not in ALIASES]
    return "\n".join([*commands, "", *KEYS])


KEYS: Final = (
    "Enter       send                      Ctrl+J     new line",
    "Up, Down    history, at the edges     Page Up/Down  scroll",
    "Esc         stop the reply            Ctrl+C     stop, or put the draft aside; twice: quit",
    "Ctrl+D      quit, on an empty prompt  Ctrl+P     themes and more",
)

SLASHES: Final = {
    "accept": Slash("/accept [TASK-001]", "write the files of a finished task", _accept),
    "cancel": Slash("/cancel [TASK-001]", "end a task", _cancel),
    "clear": Slash("/clear", "a new conversation; the old one is kept"),
    "help": Slash("/help", "this list", _help),
    "models": Slash("/models", "endpoints and their models", _models),
    "profile": Slash("/profile [NAME]", "show or switch the machine profile", _profile),
    "quit": Slash("/quit", "leave; running tasks are marked interrupted"),
    "retry": Slash("/retry TASK-001", "let a failed task run again", _retry),
    "status": Slash("/status", "chat model, workers, memory, queue", _status),
    "task": Slash("/task [--agent A] [--type T] GOAL", "give work to a worker", _task),
    "tasks": Slash("/tasks [TASK-001]", "every task, or one with its steps", _tasks),
}
ALIASES: Final = {"exit": "quit", "new": "clear", "reset": "clear", "ps": "tasks", "?": "help"}
BARE_WORDS: Final = frozenset({"exit", "quit", ":q"})


def read_slash(text: str) -> tuple[str, str] | None:
    """The command's name and what follows it, or nothing when ``text`` is for the model.

    Raises:
        UsageError: there is no such command; the two nearest are named.
    """
    line = text.strip()
    if line in BARE_WORDS:
        return "quit", ""
    if line == "?":
        return "help", ""
    name, _, rest = line.removeprefix("/").partition(" ")
    # A path, such as /etc/hosts, is no command.
    if not line.startswith("/") or "/" in name or "\n" in name:
        return None
    name = ALIASES.get(name, name)
    if name not in SLASHES:
        close = difflib.get_close_matches(name, SLASHES, n=2, cutoff=0.3) or ["help"]
        raise UsageError(f"there is no /{name}; did you mean {' or '.join(f'/{one}' for one in close)}?")
    return name, rest.strip()
