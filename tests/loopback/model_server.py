"""What all loopback model servers share: a log of requests, replies by script, doors to stand at, faults by order."""

import asyncio
import json
from collections import Counter, defaultdict, deque
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any

from tests.loopback.http_server import Exchange, HttpServer, Request
from tests.loopback.replies import Drop, Framing, Piece, Raw, Refusal, Reply, Silence

Fault = Refusal | Silence | Drop | Raw
"""What a request may meet instead of an answer."""
Sleep = Callable[[float], Awaitable[object]]
Script = Callable[[dict[str, Any]], Reply]
"""What to reply to a request's body."""


class ModelServer:
    """An HTTP server with models that do not exist.

    ``requests`` is everything that was asked. A test stops the server at a door with ``hold``, sees with ``reached``
    that somebody stands there, and lets them through with ``release``; ``until`` waits for anything else.
    """

    def __init__(self, *, port: int = 0, framing: Framing | None = None, sleep: Sleep = asyncio.sleep) -> None:
        self.requests: list[Request] = []
        self.framing = framing or Framing()
        self.running = 0
        """Generations at work; one ends when its reply does, or when its client goes away."""
        self.sleep = sleep
        """Passes the seconds that models are told to take."""
        self._http = HttpServer(self._met, port)
        self._scripted: deque[Reply] = deque()
        self._script: Script | None = None
        self._faults: defaultdict[str, deque[Fault]] = defaultdict(deque)
        self._held: set[str] = set()
        self._released: set[str] = set()
        self._standing: Counter[str] = Counter()
        self._waiting: set[asyncio.Future[None]] = set()

    async def __aenter__(self) -> "ModelServer":
        await self._http.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._http.__aexit__(kind, error, trace)

    @property
    def url(self) -> str:
        return self._http.url

    def bodies(self, path: str) -> list[dict[str, Any]]:
        """What was posted to ``path``, in order."""
        return [request.json for request in self.requests if request.path == path and request.content]

    def say(self, *pieces: Piece) -> None:
        """The next generation that has no reply yet says this."""
        self._scripted.append(pieces)

    def reply_with(self, script: Script) -> None:
        """What generations say for which nothing was queued by ``say``."""
        self._script = script

    def instead(self, path: str, *faults: Fault) -> None:
        """The next requests to ``path`` meet these faults, one each, before anybody looks at what they want."""
        self._faults[path] += faults

    def hold(self, door: str) -> None:
        """Whoever comes to this door waits there."""
        self._held.add(door)
        self._released.discard(door)

    def release(self, door: str) -> None:
        """Whoever waits at this door, or comes to it later, goes through."""
        self._held.discard(door)
        self._released.add(door)
        self.changed()

    async def reached(self, door: str) -> None:
        """Wait until somebody stands at the door."""
        await self.until(lambda: self._standing[door] > 0)

    async def until(self, seen: Callable[[], bool], within: float = 20) -> None:
        """Wait for something to become true by what happens at the server."""
        async with asyncio.timeout(within):
            while not seen():
                change = asyncio.get_running_loop().create_future()
                self._waiting.add(change)
                await change

    def changed(self) -> None:
        """Whoever waits for something looks again."""
        waiting, self._waiting = self._waiting, set()
        for change in waiting:
            if not change.done():
                change.set_result(None)

    def reply_to(self, body: dict[str, Any]) -> Reply:
        """What the model says to this."""
        if self._scripted:
            return self._scripted.popleft()
        return self._script(body) if self._script else self.usual(body)

    def usual(self, body: dict[str, Any]) -> Reply:
        """What the model says when no test has told it anything."""
        raise NotImplementedError

    async def handle(self, exchange: Exchange) -> None:
        """Answer a request that meets no fault."""
        raise NotImplementedError

    def refusal_body(self, text: str) -> Any:
        """An error in the server's usual shape."""
        raise NotImplementedError

    async def refuse(self, exchange: Exchange, refusal: Refusal) -> None:
        body = self.refusal_body(refusal.body) if isinstance(refusal.body, str) else refusal.body
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        await exchange.answer(refusal.status, content, refusal.kind, refusal.headers)

    async def answer(self, exchange: Exchange, value: Any) -> None:
        await exchange.answer(200, json.dumps(value).encode(), "application/json")

    async def stand_at(self, door: str) -> None:
        """Wait here, in any case, until the door is released."""
        await self._pass(door, lambda: door in self._released)

    async def pass_by(self, door: str) -> None:
        """Wait here as long as the door is held."""
        await self._pass(door, lambda: door not in self._held)

    async def silence(self) -> None:
        """Nothing, until the client goes away."""
        await asyncio.get_running_loop().create_future()

    @contextmanager
    def generating(self) -> Iterator[None]:
        self.running += 1
        self.changed()
        try:
            yield
        finally:
            self.running -= 1
            self.changed()

    async def _pass(self, door: str, is_open: Callable[[], bool]) -> None:
        self._standing[door] += 1
        self.changed()
        try:
            await self.until(is_open, within=3600)
        finally:
            self._standing[door] -= 1

    async def _met(self, exchange: Exchange) -> None:
        request = exchange.request
        self.requests.append(request)
        self.changed()
        faults = self._faults[request.path]
        if not faults:
            await self.handle(exchange)
            return
        match faults.popleft():
            case Refusal() as refusal:
                await self.refuse(exchange, refusal)
            case Raw(data):
                await exchange.answer(200, data, "application/json")
            case Silence():
                await self.silence()
            case Drop():
                exchange.drop()
