"""Artifacts on disk, with their content."""

import hashlib
import sqlite3
from datetime import datetime

from wilson.domain.artifact import Artifact, ArtifactKind
from wilson.domain.task import Task
from wilson.domain.wire import plain
from wilson.store.database import Database


class ArtifactStore:
    """What workers have left behind."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def keep(self, task: Task, kind: ArtifactKind, content: str, *, path: str | None, at: datetime) -> Artifact:
        """Store something that the task's present attempt has made."""
        return await self._database.write(_keep, task, kind, content, path, at)

    async def contents(self, task: Task, kind: ArtifactKind) -> tuple[tuple[Artifact, str], ...]:
        """What the task's present attempt has made, oldest first."""
        return await self._database.read(_contents, task, kind)


def _keep(
    connection: sqlite3.Connection, task: Task, kind: ArtifactKind, content: str, path: str | None, at: datetime
) -> Artifact:
    raw = content.encode("utf-8", "replace")
    artifact = Artifact(kind=kind, path=path, size=len(raw), sha256=hashlib.sha256(raw).hexdigest())
    connection.execute(
        "INSERT INTO artifacts (task, attempt, kind, path, size, sha256, content, at) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (
            int(task.id.removeprefix("TASK-")),
            task.attempt,
            kind.value,
            path,
            artifact.size,
            artifact.sha256,
            raw.decode("utf-8"),
            plain(at),
        ),
    )
    return artifact


def _contents(connection: sqlite3.Connection, task: Task, kind: ArtifactKind) -> tuple[tuple[Artifact, str], ...]:
    rows = connection.execute(
        "SELECT * FROM artifacts WHERE task = ? AND attempt = ? AND kind = ? ORDER BY number",
        (int(task.id.removeprefix("TASK-")), task.attempt, kind.value),
    )
    return tuple(
        (
            Artifact(kind=ArtifactKind(row["kind"]), path=row["path"], size=row["size"], sha256=row["sha256"]),
            row["content"],
        )
        for row in rows
    )
