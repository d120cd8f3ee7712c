"""A small HTTP/1.1 server on a loopback port, for tests that decide which bytes are sent, in which chunk, and when."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from types import TracebackType
from typing import Any
from urllib.parse import unquote, urlsplit

_MOST_HEADER_BYTES = 64 << 10


@dataclass(frozen=True)
class Request:
    """What a client asked for."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    """Names in lower case."""
    content: bytes
    at: float
    """When its last byte came, by the loop's clock."""

    @property
    def json(self) -> Any:
        return json.loads(self.content)


class Exchange:
    """One request and its answer: either whole (``answer``), or chunk by chunk (``begin``, ``send``…, ``end``)."""

    def __init__(self, request: Request, writer: asyncio.StreamWriter) -> None:
        self.request = request
        self.begun = False
        """The status is on its way, so no other can be sent."""
        self.ended = False
        """The answer is complete, so the connection can be used again."""
        self._writer = writer

    async def answer(self, status: int, content: bytes, kind: str, headers: Mapping[str, str] | None = None) -> None:
        await self._head(status, kind, {**(headers or {}), "Content-Length": str(len(content))})
        await self._write(content if self.request.method != "HEAD" else b"")
        self.ended = True

    async def begin(self, status: int, kind: str) -> None:
        await self._head(status, kind, {"Transfer-Encoding": "chunked"})

    async def send(self, data: bytes) -> None:
        """Exactly these bytes in a chunk of their own; no bytes would be the end, so then nothing is sent."""
        if data:
            await self._write(b"%x\r\n%b\r\n" % (len(data), data))

    async def end(self) -> None:
        await self._write(b"0\r\n\r\n")
        self.ended = True

    def drop(self) -> None:
        """Close the connection, wherever the answer is."""
        self._writer.close()

    async def _head(self, status: int, kind: str, headers: Mapping[str, str]) -> None:
        self.begun = True
        try:
            phrase = HTTPStatus(status).phrase
        except ValueError:
            phrase = "Unheard Of"
        lines = [f"HTTP/1.1 {status} {phrase}", f"Content-Type: {kind}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        await self._write(("\r\n".join(lines) + "\r\n\r\n").encode("latin-1"))

    async def _write(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()


Handler = Callable[[Exchange], Awaitable[None]]
"""Answers one request; it is cancelled when the client goes away before the answer is complete."""


class HttpServer:
    """Serves as long as the block lasts; the system chooses the port unless one is named.

    A handler's own error ends the block with it, so that a mistake in a test's server is never a riddle.
    """

    def __init__(self, handler: Handler, port: int = 0) -> None:
        self.failures: list[Exception] = []
        self._handler = handler
        self._port = port
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    @property
    def connections(self) -> int:
        return len(self._connections)

    async def __aenter__(self) -> "HttpServer":
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", self._port)
        self._port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        await self.drop_connections()
        await self._server.wait_closed()
        if self.failures and error is None:
            raise ExceptionGroup("the loopback server itself failed", self.failures)

    async def drop_connections(self) -> None:
        """Close every connection in whatever state it is, as a server that is killed does."""
        connections = tuple(self._connections)
        for connection in connections:
            connection.cancel()
        await asyncio.gather(*connections, return_exceptions=True)

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._serve(reader, writer), name="connection")
        self._connections.add(task)
        task.add_done_callback(self._connections.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        incoming = _Incoming(reader)
        try:
            while (request := await incoming.request()) is not None:
                exchange = Exchange(request, writer)
                await self._handle(exchange, incoming)
                if not exchange.ended:
                    return
        except ConnectionError:
            return
        finally:
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()

    async def _handle(self, exchange: Exchange, incoming: "_Incoming") -> None:
        """Answer, unless the client leaves first."""
        work = asyncio.create_task(self._answered(exchange), name=f"answer {exchange.request.path}")
        leaving = asyncio.create_task(incoming.until_closed(), name="watch for the client's leaving")
        try:
            await asyncio.wait({work, leaving}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            work.cancel()
            leaving.cancel()
            await asyncio.wait({work, leaving})

    async def _answered(self, exchange: Exchange) -> None:
        try:
            await self._handler(exchange)
        except ConnectionError:
            pass
        except Exception as error:
            self.failures.append(error)
            if not exchange.begun:
                await exchange.answer(500, repr(error).encode(), "text/plain")


class _Incoming:
    """What the client sends; bytes that come while a request is answered are kept for the next one."""

    def __init__(self, reader: asyncio.StreamReader) -> None:
        self._reader = reader
        self._bytes = bytearray()

    async def request(self) -> Request | None:
        """The next request, or nothing when the client has closed."""
        while (end := self._bytes.find(b"\r\n\r\n")) < 0:
            if len(self._bytes) > _MOST_HEADER_BYTES or not await self._more():
                return None
        first, *lines = bytes(self._bytes[:end]).decode("latin-1").split("\r\n")
        del self._bytes[: end + 4]
        named = (line.partition(":") for line in lines)
        headers = {name.strip().lower(): value.strip() for name, _, value in named}
        size = int(headers.get("content-length", "0"))
        while len(self._bytes) < size:
            if not await self._more():
                return None
        content = bytes(self._bytes[:size])
        del self._bytes[:size]
        method, target, _ = first.split(" ", 2)
        parts = urlsplit(target)
        at = asyncio.get_running_loop().time()
        return Request(method, unquote(parts.path), parts.query, headers, content, at)

    async def until_closed(self) -> None:
        while await self._more():
            pass

    async def _more(self) -> bool:
        try:
            data = await self._reader.read(1 << 16)
        except ConnectionError:
            return False
        self._bytes += data
        return bool(data)
