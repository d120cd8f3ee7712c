"""Tasks on disk: every change of state is compared, set, and written into the history, in one transaction."""

import json
import sqlite3
from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, Final

from wilson.domain.draft import task_name
from wilson.domain.errors import NoSuchTask, TaskChanged
from wilson.domain.event import TaskMoved
from wilson.domain.review import Review
from wilson.domain.step import Step
from wilson.domain.task import (
    AT_WORK,
    Cost,
    Move,
    OutcomeReason,
    Result,
    Task,
    TaskDraft,
    TaskId,
    TaskState,
    Tokens,
    moves_to_failure,
)
from wilson.domain.value import Struct, replace
from wilson.domain.wire import parsed, plain
from wilson.store.database import Database


class Moved(Struct, frozen=True, kw_only=True):
    """A change of state that is on disk."""

    move: Move
    task: Task
    """As it is afterwards."""

    def event(self, message: str = "") -> TaskMoved:
        """What there is to tell of it."""
        task = self.task
        return TaskMoved(
            task=task.id, move=self.move, state=task.state, reason=task.outcome_reason, message=message or task.message
        )


_CHANGEABLE: Final = (
    "model_requested",
    "model_used",
    "endpoint",
    "used_fallback",
    "progress",
    "message",
    "result",
    "prompt_tokens",
    "completion_tokens",
    "cost_usd",
    "cost_seconds",
    "error_kind",
)


class TaskStore:
    """All tasks, with their steps and their history."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, draft: TaskDraft, *, at: datetime, model: str | None = None) -> Task:
        """Store a new task: ready, or blocked while it depends on tasks that are not done.

        ``model`` is the one that the profile wants for it now.

        Raises:
            NoSuchTask: it depends on a task that does not exist.
        """
        return await self._database.write(_add, draft, at, model)

    async def move(
        self,
        task: Task,
        move: Move,
        *,
        at: datetime,
        reason: OutcomeReason | None = None,
        message: str = "",
        **changes: Any,
    ) -> tuple[Moved, ...]:
        """Make ``move``, if the task still stands as given, together with ``changes`` of its other fields.

        The first of the result is the move itself; the others are tasks that it has unblocked.

        Raises:
            IllegalMove: the state does not allow it.
            TaskChanged: somebody else moved the task first.
        """
        return await self._database.write(_move, task, move, at, reason, message, changes)

    async def fail(self, task: TaskId, *, at: datetime, reason: OutcomeReason, message: str) -> tuple[Moved, ...]:
        """Fail a task from wherever it stands; nothing happens when it has ended."""
        return await self._database.write(_fail, _number(task), at, reason, message)

    async def fail_at_work(
        self, task: Task, *, at: datetime, reason: OutcomeReason, message: str, **changes: Any
    ) -> tuple[Moved, ...]:
        """Fail the attempt that ``task`` shows, if it is still at work; otherwise nothing happens."""
        return await self._database.write(_fail_at_work, task, at, reason, message, changes)

    async def interrupt_orphans(self, *, at: datetime) -> tuple[Moved, ...]:
        """Fail every task that was at work when the last owner of the store ended."""
        return await self._database.write(_interrupt_orphans, at)

    async def take_unseen(self) -> tuple[Task, ...]:
        """Interrupted tasks that the user has not been told of; from now on they have."""
        return await self._database.write(_take_unseen)

    async def note(self, task: Task, **changes: Any) -> None:
        """Change fields other than the state, if the task is still in the same attempt."""
        await self._database.write(_note, task, changes)

    async def put_steps(self, task: Task, steps: Iterable[Step]) -> None:
        """Store steps of the task's present attempt, new ones and changed ones."""
        await self._database.write(_put_steps, task, tuple(steps))

    async def get(self, task: TaskId) -> Task:
        """
        Raises:
            NoSuchTask: there is none of that name.
        """
        return await self._database.read(_get, _number(task))

    async def all(self) -> tuple[Task, ...]:
        """Every task, oldest first."""
        return await self._database.read(_select, "")

    async def in_states(self, *states: TaskState) -> tuple[Task, ...]:
        """Tasks in any of these states, the most urgent first, then the oldest."""
        return await self._database.read(_in_states, states)

    async def open_or_ended_since(self, since: datetime) -> tuple[Task, ...]:
        """Tasks that have not ended, or not before ``since``, oldest first."""
        return await self._database.read(
            _select, "WHERE state NOT IN ('done', 'failed') OR completed_at >= ?", (_time(since),)
        )

    async def history(self, task: TaskId) -> tuple[tuple[Move, TaskState], ...]:
        """Every move the task has made, and the state it led to, in order."""
        return await self._database.read(_history, _number(task))


def _add(connection: sqlite3.Connection, draft: TaskDraft, at: datetime, model: str | None) -> Task:
    if draft.key is not None:
        known = connection.execute("SELECT number FROM tasks WHERE key = ?", (draft.key,)).fetchone()
        if known is not None:
            return _get(connection, known["number"])
    cursor = connection.execute(
        "INSERT INTO tasks"
        " (key, goal, title, type, state, agent, priority, parent, conversation, model_requested, created_at)"
        " VALUES (?, ?, ?, ?, 'new', ?, ?, ?, ?, ?, ?)",
        (
            draft.key,
            draft.goal,
            draft.title,
            draft.type.value,
            draft.agent,
            draft.priority,
            _number(draft.parent) if draft.parent else None,
            draft.conversation,
            model,
            plain(at),
        ),
    )
    number = cursor.lastrowid
    assert number is not None
    for need in dict.fromkeys(draft.depends_on):
        _get(connection, _number(need))
        connection.execute("INSERT INTO dependencies (task, needs) VALUES (?, ?)", (number, _number(need)))
    task = _get(connection, number)
    move = Move.MAKE_READY if _needs_are_done(connection, number) else Move.BLOCK
    return _moved(connection, task, move, at).task


def _move(
    connection: sqlite3.Connection,
    task: Task,
    move: Move,
    at: datetime,
    reason: OutcomeReason | None,
    message: str,
    changes: dict[str, Any],
) -> tuple[Moved, ...]:
    moved = _moved(connection, task, move, at, reason, message, changes)
    return (moved, *_unblocked(connection, moved.task, at))


def _moved(
    connection: sqlite3.Connection,
    task: Task,
    move: Move,
    at: datetime,
    reason: OutcomeReason | None = None,
    message: str = "",
    changes: dict[str, Any] | None = None,
) -> Moved:
    after = task.move(move, at=at, reason=reason)
    columns: dict[str, Any] = {
        "state": after.state.value,
        "attempt": after.attempt,
        "outcome_reason": after.outcome_reason and after.outcome_reason.value,
        "progress": after.progress,
        "message": message or after.message,
        "result": None if after.result is None else json.dumps(plain(after.result), ensure_ascii=False),
        "started_at": _time(after.started_at),
        "completed_at": _time(after.completed_at),
        "error_kind": after.error_kind,
        **_columns(changes or {}),
    }
    settings = ", ".join(f"{column} = ?" for column in columns)
    number = _number(task.id)
    cursor = connection.execute(
        f"UPDATE tasks SET {settings} WHERE number = ? AND state = ? AND attempt = ?",
        (*columns.values(), number, task.state.value, task.attempt),
    )
    if cursor.rowcount != 1:
        now = _get(connection, number)
        raise TaskChanged(
            f"{task.id} was {task.state} in attempt {task.attempt} and is now {now.state} in attempt {now.attempt}; "
            f"it did not {move.replace('_', ' ')}"
        )
    connection.execute(
        "INSERT INTO moves (task, attempt, move, from_state, to_state, reason, message, at)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (
            number,
            after.attempt,
            move.value,
            task.state.value,
            after.state.value,
            reason and reason.value,
            message,
            plain(at),
        ),
    )
    return Moved(move=move, task=_get(connection, number))


def _unblocked(connection: sqlite3.Connection, task: Task, at: datetime) -> tuple[Moved, ...]:
    if task.state is not TaskState.DONE:
        return ()
    waiting = connection.execute(
        "SELECT task FROM dependencies JOIN tasks ON number = task WHERE needs = ? AND state = 'blocked' ORDER BY task",
        (_number(task.id),),
    ).fetchall()
    return tuple(
        _moved(connection, _get(connection, row["task"]), Move.UNBLOCK, at)
        for row in waiting
        if _needs_are_done(connection, row["task"])
    )


def _needs_are_done(connection: sqlite3.Connection, number: int) -> bool:
    open_needs = connection.execute(
        "SELECT 1 FROM dependencies JOIN tasks ON number = needs WHERE task = ? AND state <> 'done' LIMIT 1", (number,)
    )
    return open_needs.fetchone() is None


def _fail_at_work(
    connection: sqlite3.Connection,
    task: Task,
    at: datetime,
    reason: OutcomeReason,
    message: str,
    changes: dict[str, Any],
) -> tuple[Moved, ...]:
    now = _get(connection, _number(task.id))
    if now.attempt != task.attempt or now.state not in AT_WORK:
        return ()
    return _fail(connection, _number(task.id), at, reason, message, changes)


def _fail(
    connection: sqlite3.Connection,
    number: int,
    at: datetime,
    reason: OutcomeReason,
    message: str,
    changes: dict[str, Any] | None = None,
) -> tuple[Moved, ...]:
    task = _get(connection, number)
    done = []
    for move in moves_to_failure(task.state):
        moved = _moved(connection, task, move, at, reason if move is Move.FAIL else None, message, changes)
        task = moved.task
        done.append(moved)
    return tuple(done)


def _interrupt_orphans(connection: sqlite3.Connection, at: datetime) -> tuple[Moved, ...]:
    orphans = ", ".join(f"'{state}'" for state in sorted(AT_WORK))
    connection.execute(f"UPDATE tasks SET unseen = 1 WHERE state IN ({orphans})")
    return tuple(
        moved
        for task in _in_states(connection, tuple(AT_WORK))
        for moved in _fail(
            connection, _number(task.id), at, OutcomeReason.INTERRUPTED, "Wilson ended while this was at work"
        )
    )


def _take_unseen(connection: sqlite3.Connection) -> tuple[Task, ...]:
    unseen = _select(connection, "WHERE unseen = 1 AND outcome_reason = 'interrupted'")
    connection.execute("UPDATE tasks SET unseen = 0 WHERE unseen = 1")
    return unseen


def _note(connection: sqlite3.Connection, task: Task, changes: dict[str, Any]) -> None:
    columns = _columns(changes)
    settings = ", ".join(f"{column} = ?" for column in columns)
    connection.execute(
        f"UPDATE tasks SET {settings} WHERE number = ? AND attempt = ?",
        (*columns.values(), _number(task.id), task.attempt),
    )


def _put_steps(connection: sqlite3.Connection, task: Task, steps: tuple[Step, ...]) -> None:
    connection.executemany(
        "INSERT OR REPLACE INTO steps"
        " (task, attempt, number, name, description, state, started_at, completed_at, output, error)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        [
            (
                _number(task.id),
                task.attempt,
                step.number,
                step.name,
                step.description,
                step.state.value,
                _time(step.started_at),
                _time(step.completed_at),
                step.output,
                step.error,
            )
            for step in steps
        ],
    )


def _get(connection: sqlite3.Connection, number: int) -> Task:
    found = _select(connection, "WHERE number = ?", (number,))
    if not found:
        raise NoSuchTask(f"there is no {task_name(number)}; see: wilson task list")
    return found[0]


def _in_states(connection: sqlite3.Connection, states: Sequence[TaskState]) -> tuple[Task, ...]:
    marks = ", ".join("?" * len(states))
    where = f"WHERE state IN ({marks}) ORDER BY priority DESC, number"
    return _select(connection, where, tuple(state.value for state in states))


def _history(connection: sqlite3.Connection, number: int) -> tuple[tuple[Move, TaskState], ...]:
    rows = connection.execute("SELECT move, to_state FROM moves WHERE task = ? ORDER BY number", (number,))
    return tuple((Move(row["move"]), TaskState(row["to_state"])) for row in rows)


def _select(connection: sqlite3.Connection, where: str, values: tuple[Any, ...] = ()) -> tuple[Task, ...]:
    order = "" if "ORDER BY" in where else " ORDER BY number"
    rows = connection.execute(f"SELECT * FROM tasks {where}{order}", values).fetchall()
    chosen = f"(SELECT number FROM tasks {where.partition('ORDER BY')[0]})"
    steps: dict[tuple[int, int], list[Step]] = defaultdict(list)
    for row in connection.execute(f"SELECT * FROM steps WHERE task IN {chosen} ORDER BY number", values):
        steps[row["task"], row["attempt"]].append(_step(row))
    needs: dict[int, list[TaskId]] = defaultdict(list)
    for row in connection.execute(f"SELECT * FROM dependencies WHERE task IN {chosen} ORDER BY needs", values):
        needs[row["task"]].append(task_name(row["needs"]))
    blocks: dict[int, list[TaskId]] = defaultdict(list)
    for row in connection.execute(f"SELECT * FROM dependencies WHERE needs IN {chosen} ORDER BY task", values):
        blocks[row["needs"]].append(task_name(row["task"]))
    children: dict[int, list[TaskId]] = defaultdict(list)
    for row in connection.execute(f"SELECT number, parent FROM tasks WHERE parent IN {chosen} ORDER BY number", values):
        children[row["parent"]].append(task_name(row["number"]))
    reviews: dict[int, list[Review]] = defaultdict(list)
    for row in connection.execute(f"SELECT * FROM reviews WHERE task IN {chosen} ORDER BY number", values):
        reviews[row["task"]].append(_review(row))
    return tuple(
        replace(
            _task(row),
            steps=tuple(steps[row["number"], row["attempt"]]),
            depends_on=tuple(needs[row["number"]]),
            blocks=tuple(blocks[row["number"]]),
            children=tuple(children[row["number"]]),
            reviews=tuple(reviews[row["number"]]),
        )
        for row in rows
    )


def _task(row: sqlite3.Row) -> Task:
    return parsed(
        {
            **{key: row[key] for key in _PLAIN_COLUMNS},
            "id": task_name(row["number"]),
            "parent": task_name(row["parent"]) if row["parent"] else None,
            "used_fallback": bool(row["used_fallback"]),
            "result": json.loads(row["result"]) if row["result"] else None,
            "tokens": plain(Tokens(row["prompt_tokens"], row["completion_tokens"])),
            "cost": plain(Cost(row["cost_usd"], row["cost_seconds"])),
        },
        Task,
    )


_PLAIN_COLUMNS: Final = (
    "goal", "title", "type", "state", "outcome_reason", "agent", "attempt", "priority", "conversation",
    "model_requested", "model_used", "endpoint", "tier", "progress", "message", "error_kind",
    "created_at", "started_at", "completed_at",
)  # fmt: skip


def _step(row: sqlite3.Row) -> Step:
    return parsed({key: row[key] for key in row.keys() if key not in {"task", "attempt"}}, Step)  # noqa: SIM118


def _review(row: sqlite3.Row) -> Review:
    plain_columns = {key: row[key] for key in ("type", "verdict", "attempt", "reviewer", "at")}
    return parsed({**plain_columns, "findings": json.loads(row["findings"])}, Review)


def _columns(changes: dict[str, Any]) -> dict[str, Any]:
    """Changes of fields as changes of columns."""
    columns: dict[str, Any] = {}
    for field, value in changes.items():
        match value:
            case Result():
                columns[field] = json.dumps(plain(value), ensure_ascii=False)
            case Tokens(prompt, completion):
                columns |= {"prompt_tokens": prompt, "completion_tokens": completion}
            case Cost(usd, seconds):
                columns |= {"cost_usd": usd, "cost_seconds": seconds}
            case _:
                columns[field] = value
    assert columns.keys() <= set(_CHANGEABLE), f"no such columns: {columns.keys() - set(_CHANGEABLE)}"
    return columns


def _time(at: datetime | None) -> str | None:
    return None if at is None else str(plain(at))


def _number(task: TaskId) -> int:
    return int(task.removeprefix("TASK-"))
