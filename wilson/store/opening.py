"""The whole store, opened."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from wilson.domain.value import Struct
from wilson.store.artifacts import ArtifactStore
from wilson.store.conversations import ConversationStore
from wilson.store.database import Database
from wilson.store.tasks import TaskStore


class Store(Struct, frozen=True):
    """One database, seen from three sides."""

    tasks: TaskStore
    artifacts: ArtifactStore
    conversations: ConversationStore


@asynccontextmanager
async def open_store(path: Path) -> AsyncIterator[Store]:
    """The store in ``path``.

    Raises:
        StoreError: it cannot be opened.
    """
    async with Database.open(path) as database:
        yield Store(TaskStore(database), ArtifactStore(database), ConversationStore(database))
