"""One SQLite file, one connection, one thread: every transaction is a function that runs there whole.

A transaction spread over several awaits could be left half done by a cancelled task, and finished by the next one's
COMMIT. So there are none: whoever waits for a transaction may go away, the transaction does not.
"""

import asyncio
import os
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from importlib import resources
from pathlib import Path
from typing import Concatenate, Final, ParamSpec, TypeVar

import aiosqlite

from wilson.domain.errors import StoreError

P = ParamSpec("P")
T = TypeVar("T")

_PRAGMAS: Final = (
    "PRAGMA journal_mode = WAL",
    # A task that was acknowledged must outlive a power cut, not only a crash.
    "PRAGMA synchronous = FULL",
    "PRAGMA busy_timeout = 5000",
    "PRAGMA foreign_keys = ON",
    "PRAGMA trusted_schema = OFF",
    "PRAGMA cell_size_check = ON",
    "PRAGMA mmap_size = 0",
)


class Database:
    """The open file."""

    def __init__(self, connection: aiosqlite.Connection, path: Path) -> None:
        self._connection = connection
        self._closed = False
        self.path = path

    @classmethod
    @asynccontextmanager
    async def open(cls, path: Path) -> AsyncIterator["Database"]:
        """The database in ``path``, made and brought up to date if need be.

        Raises:
            StoreError: it cannot be opened, or a newer Wilson has written it.
        """
        try:
            # SQLite gives the files beside it the mode of the first one.
            os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
            connection = await aiosqlite.connect(path, isolation_level=None)
        except (OSError, sqlite3.Error) as error:
            raise StoreError(f"the store {path} cannot be opened: {error}") from error
        database = cls(connection, path)
        try:
            await database._run(_prepare)
            yield database
        finally:
            database._closed = True
            # The thread must end even if the waiting is cancelled, or the program never would.
            closing = asyncio.ensure_future(connection.close())
            try:
                await asyncio.shield(closing)
            except asyncio.CancelledError:
                await asyncio.wait([closing])
                raise

    async def write(
        self, transaction: Callable[Concatenate[sqlite3.Connection, P], T], /, *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """What ``transaction`` returns, once it is committed.

        It gets the connection and runs on the database's thread; if it raises, nothing of it stays.

        Raises:
            StoreError: the disk is full, the file is locked or damaged.
        """

        def whole(connection: sqlite3.Connection) -> T:
            connection.execute("BEGIN IMMEDIATE")
            try:
                result = transaction(connection, *args, **kwargs)
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise
            return result

        return await self._run(whole)

    async def read(
        self, question: Callable[Concatenate[sqlite3.Connection, P], T], /, *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """What ``question`` returns, from one consistent state.

        Raises:
            StoreError: the file is locked or damaged.
        """

        def whole(connection: sqlite3.Connection) -> T:
            connection.execute("BEGIN")
            try:
                return question(connection, *args, **kwargs)
            finally:
                connection.execute("COMMIT")

        return await self._run(whole)

    async def _run(self, function: Callable[[sqlite3.Connection], T]) -> T:
        if self._closed:
            raise StoreError(f"the store {self.path} is closed; Wilson is ending")
        # aiosqlite has no public way to run a function of several statements on its thread, and single statements
        # would bring back the half transactions. The dependency is bounded to the version that was read.
        raw = self._connection._conn
        try:
            # The method has no annotations; what the function returns is what it gives.
            result: T = await self._connection._execute(function, raw)  # type: ignore[no-untyped-call]
        except sqlite3.Error as error:
            raise StoreError(f"the store {self.path} did not do as asked: {error}") from error
        return result


def _prepare(connection: sqlite3.Connection) -> None:
    connection.row_factory = sqlite3.Row
    for pragma in _PRAGMAS:
        connection.execute(pragma)
    scripts = _scripts()
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if version > len(scripts):
        raise StoreError(
            f"the store is of version {version}, written by a newer Wilson; this one knows {len(scripts)}. "
            "Update Wilson, or set WILSON_HOME to another folder"
        )
    for number, script in enumerate(scripts[version:], start=version + 1):
        try:
            connection.executescript(f"BEGIN IMMEDIATE;\n{script}\nPRAGMA user_version = {number};\nCOMMIT;")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise


def _scripts() -> list[str]:
    """The migrations, in the order of their numbers, which count from 1 without a gap."""
    folder = resources.files("wilson.store") / "sql"
    files = sorted((file for file in folder.iterdir() if file.name.endswith(".sql")), key=lambda file: file.name)
    return [file.read_text("utf-8") for file in files]
