"""Conversations on disk: what was said, byte for byte as it was sent."""

import json
import secrets
import sqlite3
from collections.abc import Iterable
from datetime import datetime
from enum import StrEnum

from wilson.domain.chat import Message, Role, ToolCall
from wilson.domain.errors import UsageError
from wilson.domain.task import TaskId
from wilson.domain.text import one_line
from wilson.domain.value import Struct
from wilson.domain.wire import parsed, plain
from wilson.store.database import Database


class CommunicationType(StrEnum):
    """What kind of word passes between agents."""

    QUESTION = "question"
    RESPONSE = "response"
    NOTIFICATION = "notification"
    HANDOFF = "handoff"


class Turn(Struct, frozen=True):
    """A message, and how it is shown."""

    message: Message
    shown: str | None = None
    """What the user typed, where more than that is sent; empty hides the message."""


class ConversationStore:
    """All conversations, and the words between agents."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def begin(self, workspace: str, *, at: datetime) -> str:
        """A new conversation's id."""
        return await self._database.write(_begin, workspace, at)

    async def append(self, conversation: str, turns: Iterable[Turn], *, at: datetime) -> None:
        """Add turns at the end, all of them or none."""
        await self._database.write(_append, conversation, tuple(turns), at)

    async def amend(self, conversation: str, turn: Turn) -> None:
        """Put ``turn`` in the place of the last one."""
        await self._database.write(_amend, conversation, turn)

    async def take_back(self, conversation: str) -> None:
        """Remove the last turn, if it is a prompt that nobody has answered."""
        await self._database.write(_take_back, conversation)

    async def turns(self, conversation: str) -> tuple[Turn, ...]:
        """
        Raises:
            UsageError: there is no such conversation.
        """
        return await self._database.read(_turns, conversation)

    async def latest(self, workspace: str) -> str | None:
        """The conversation that was last continued in a folder and in which something was said."""
        return await self._database.read(_latest, workspace)

    async def communicate(
        self, task: TaskId, sender: str, recipient: str, kind: CommunicationType, content: str, *, at: datetime
    ) -> None:
        """Store a word from one agent to another."""
        await self._database.write(_communicate, task, sender, recipient, kind, content, at)


def _begin(connection: sqlite3.Connection, workspace: str, at: datetime) -> str:
    conversation = secrets.token_hex(6)
    connection.execute(
        "INSERT INTO conversations (id, workspace, created_at, updated_at) VALUES (?, ?, ?, ?)",
        (conversation, workspace, plain(at), plain(at)),
    )
    return conversation


def _append(connection: sqlite3.Connection, conversation: str, turns: tuple[Turn, ...], at: datetime) -> None:
    connection.executemany(
        "INSERT INTO messages (conversation, role, content, shown, tool_calls, tool_call_id, tool_name, at)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        [
            (
                conversation,
                turn.message.role.value,
                turn.message.content,
                turn.shown,
                json.dumps(plain(turn.message.tool_calls), ensure_ascii=False),
                turn.message.tool_call_id,
                turn.message.tool_name,
                plain(at),
            )
            for turn in turns
        ],
    )
    said = next((turn.shown or turn.message.content for turn in turns if turn.message.role is Role.USER), "")
    connection.execute(
        "UPDATE conversations SET updated_at = ?, title = CASE title WHEN '' THEN ? ELSE title END WHERE id = ?",
        (plain(at), one_line(said), conversation),
    )


_LAST = "(SELECT max(number) FROM messages WHERE conversation = ?)"


def _amend(connection: sqlite3.Connection, conversation: str, turn: Turn) -> None:
    connection.execute(
        f"UPDATE messages SET content = ?, shown = ? WHERE number = {_LAST}",
        (turn.message.content, turn.shown, conversation),
    )


def _take_back(connection: sqlite3.Connection, conversation: str) -> None:
    connection.execute(f"DELETE FROM messages WHERE number = {_LAST} AND role = 'user'", (conversation,))


def _turns(connection: sqlite3.Connection, conversation: str) -> tuple[Turn, ...]:
    if connection.execute("SELECT 1 FROM conversations WHERE id = ?", (conversation,)).fetchone() is None:
        raise UsageError(f"there is no conversation {conversation!r}")
    rows = connection.execute("SELECT * FROM messages WHERE conversation = ? ORDER BY number", (conversation,))
    return tuple(
        Turn(
            Message(
                role=Role(row["role"]),
                content=row["content"],
                tool_calls=parsed(json.loads(row["tool_calls"]), tuple[ToolCall, ...]),
                tool_call_id=row["tool_call_id"],
                tool_name=row["tool_name"],
            ),
            row["shown"],
        )
        for row in rows
    )


def _latest(connection: sqlite3.Connection, workspace: str) -> str | None:
    row = connection.execute(
        "SELECT id FROM conversations WHERE workspace = ? AND title <> '' ORDER BY updated_at DESC LIMIT 1",
        (workspace,),
    ).fetchone()
    return None if row is None else str(row["id"])


def _communicate(
    connection: sqlite3.Connection,
    task: TaskId,
    sender: str,
    recipient: str,
    kind: CommunicationType,
    content: str,
    at: datetime,
) -> None:
    connection.execute(
        "INSERT INTO communications (task, sender, recipient, type, content, at) VALUES (?, ?, ?, ?, ?, ?)",
        (int(task.removeprefix("TASK-")), sender, recipient, kind.value, content, plain(at)),
    )
