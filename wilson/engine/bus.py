"""The bus: what happens is told once, in order, to everybody who listens."""

from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Final, Self

from wilson.domain.event import Event, Happened
from wilson.domain.status import StatusLine
from wilson.engine.waiting import Pulse

Emit = Callable[[Event], None]
Clock = Callable[[], datetime]

MOST_UNREAD: Final = 100_000
"""A listener that is further behind has stopped listening, and is let go."""


class Events:
    """What one listener has yet to hear, in order."""

    def __init__(self) -> None:
        self._unread: deque[Happened] = deque()
        self._pulse = Pulse()
        self._closed = False
        self._listening = False

    def tell(self, happened: Happened) -> None:
        if len(self._unread) >= MOST_UNREAD:
            self._unread.clear()
            self._closed = True
        if not self._closed:
            self._unread.append(happened)
        self._pulse.beat()

    def close(self) -> None:
        """Nothing more will happen; the listener comes to its end."""
        self._closed = True
        self._pulse.beat()

    async def caught_up(self) -> None:
        """Wait until the listener has dealt with everything that has happened so far."""
        await self._pulse.until(lambda: not self._unread and (self._listening or self._closed))

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Happened:
        self._listening = True
        self._pulse.beat()
        try:
            await self._pulse.until(lambda: bool(self._unread) or self._closed)
        finally:
            self._listening = False
        if not self._unread:
            raise StopAsyncIteration
        return self._unread.popleft()


class Bus:
    """Events in, events out, and the status line that they add up to."""

    def __init__(self, clock: Clock) -> None:
        self.status = StatusLine()
        self._clock = clock
        self._count = 0
        self._listeners: list[Events] = []

    def emit(self, event: Event) -> None:
        """Tell everybody. Nobody is waited for."""
        self._count += 1
        happened = Happened(self._count, self._clock(), event)
        self.status = self.status.after(happened)
        for listener in tuple(self._listeners):
            listener.tell(happened)

    @asynccontextmanager
    async def events(self) -> AsyncIterator[Events]:
        """Everything that is emitted from now on, until the bus is closed."""
        listener = Events()
        self._listeners.append(listener)
        try:
            yield listener
        finally:
            self._listeners.remove(listener)

    def close(self) -> None:
        """Nothing more will happen; listeners come to their end."""
        for listener in self._listeners:
            listener.close()
