"""HTTP as Wilson speaks it: one client per server, foreign errors turned into ours, silence never endless."""

import asyncio
import json
import os
import re
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager
from typing import Any, Final
from urllib.parse import urlsplit

import httpx

from wilson.domain.errors import (
    AccessDenied,
    BadReply,
    Busy,
    ContextExceeded,
    LoadFailed,
    ModelMissing,
    ProviderError,
    StreamBroken,
    Unreachable,
    Unsupported,
)
from wilson.domain.model import Patience
from wilson.domain.text import one_line
from wilson.providers.lines import LineReader

_MEMORY_WORDS: Final = re.compile(
    r"out of memory|failed to allocate|insufficient memory|requires more system memory|cudamalloc", re.IGNORECASE
)
_CONTEXT_WORDS: Final = re.compile(
    r"context (size|length|window)|exceed.{0,40}context|maximum context|context.{0,20}exceed|prompt is too long",
    re.IGNORECASE,
)
_UNABLE_WORDS: Final = re.compile(r"does not support|not supported|unsupported|tool choice requires", re.IGNORECASE)
_MOST_ERROR_BYTES: Final = 64 << 10


class HttpClient:
    """One server. The connection pool is opened at the first request."""

    def __init__(
        self,
        url: str,
        patience: Patience,
        *,
        name: str,
        key: str | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self.url = url
        self.name = name
        """How messages call the server."""
        self.patience = patience
        self._headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._transport = transport
        self._open: httpx.AsyncClient | None = None

    @property
    def _client(self) -> httpx.AsyncClient:
        if self._open is None:
            parts = urlsplit(self.url)
            loopback = parts.hostname in {"127.0.0.1", "localhost", "::1"}
            self._open = httpx.AsyncClient(
                headers=self._headers,
                transport=self._transport,
                # A proxy from the shell's environment would break local servers.
                trust_env=not loopback,
                # The certificates take 20 ms to read, and plain HTTP needs none.
                verify=parts.scheme == "https",
                # Redirects are for browsers; a model server that sends one is not the server that was named.
                follow_redirects=False,
                limits=httpx.Limits(max_connections=None, keepalive_expiry=30),
            )
        return self._open

    async def aclose(self) -> None:
        if self._open is not None:
            client, self._open = self._open, None
            await client.aclose()

    async def get(self, path: str, *, timeout: float) -> Any:
        """The JSON at ``path``."""
        return await self._whole("GET", path, None, timeout)

    async def post(self, path: str, body: Mapping[str, Any], *, timeout: float, model: str = "") -> Any:
        """The JSON that answers ``body``."""
        return await self._whole("POST", path, body, timeout, model)

    async def _whole(
        self, method: str, path: str, body: Mapping[str, Any] | None, timeout: float, model: str = ""
    ) -> Any:
        request = self._client.build_request(method, self.url + path, json=body, timeout=self._timeout(timeout))
        async with self._sent(request, model, timeout) as response:
            raw = await self._read(response, timeout)
        try:
            return json.loads(raw)
        except ValueError as error:
            raise BadReply(
                f"{self.name} answered {path} with something that is not JSON: {_first_line(raw)}"
            ) from error

    @asynccontextmanager
    async def lines(self, path: str, body: Mapping[str, Any], *, model: str) -> AsyncIterator[AsyncGenerator[str]]:
        """The lines of a streamed answer; leaving the block closes the connection."""
        first = self.patience.first_token_s
        request = self._client.build_request("POST", self.url + path, json=body, timeout=self._timeout(first))
        async with self._sent(request, model, first) as response, aclosing(self._split(response)) as lines:
            yield lines

    def _timeout(self, read: float) -> httpx.Timeout:
        # The time to read is kept by asyncio below, which also covers bytes that trickle in without an end.
        return httpx.Timeout(read + 5, connect=self.patience.connect_s)

    @asynccontextmanager
    async def _sent(self, request: httpx.Request, model: str, timeout: float) -> AsyncIterator[httpx.Response]:
        with _explained(self):
            try:
                async with asyncio.timeout(timeout):
                    response = await self._client.send(request, stream=True)
            except TimeoutError as error:
                raise Unreachable(self._silent(timeout)) from error
        try:
            if response.status_code >= 300:
                with _explained(self):
                    raise self._refusal(response, await self._read(response, timeout), model)
            yield response
        finally:
            await response.aclose()

    async def _read(self, response: httpx.Response, timeout: float) -> bytes:
        limit = _MOST_ERROR_BYTES if response.status_code >= 300 else 64 << 20
        raw = bytearray()
        with _explained(self):
            try:
                async with asyncio.timeout(timeout):
                    async for part in response.aiter_bytes():
                        raw += part
                        if len(raw) > limit:
                            break
            except TimeoutError as error:
                raise Unreachable(self._silent(timeout)) from error
        return bytes(raw[:limit])

    async def _split(self, response: httpx.Response) -> AsyncGenerator[str]:
        reader = LineReader()
        patience = self.patience.first_token_s
        parts = response.aiter_bytes()
        while True:
            with _explained(self):
                try:
                    async with asyncio.timeout(patience):
                        part = await anext(parts, None)
                except TimeoutError as error:
                    raise StreamBroken(self._silent(patience)) from error
            if part is None:
                break
            for line in reader.feed(part):
                yield line
            patience = self.patience.between_tokens_s
        for line in reader.end():
            yield line

    def _silent(self, seconds: float) -> str:
        return f"{self.name} gave no sign of life for {seconds:g} s; is it overloaded, or stuck?"

    def _refusal(self, response: httpx.Response, raw: bytes, model: str) -> ProviderError:
        text = error_text(raw) or response.reason_phrase or "no reason given"
        return refusal(response.status_code, text, self.name, model)


class _explained:
    """Foreign errors inside the block come out as ours."""

    def __init__(self, client: HttpClient) -> None:
        self._client = client

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        name = self._client.name
        match error:
            case httpx.ConnectError() | httpx.ConnectTimeout():
                raise Unreachable(f"nobody answers at {name} ({_reason(error)}); is the server running?") from error
            case httpx.TimeoutException():
                raise Unreachable(f"{name} gave no sign of life; is it overloaded, or stuck?") from error
            case httpx.HTTPError() | httpx.InvalidURL() | httpx.StreamError():
                why = one_line(str(error)) or type(error).__name__
                raise StreamBroken(f"the connection to {name} broke ({why})") from error


def _reason(error: BaseException) -> str:
    """The system's own words for a failed connection, which stand at the bottom of a pile of other errors."""
    deeper: BaseException | None = error
    while deeper is not None:
        if isinstance(deeper, OSError) and deeper.errno is not None:
            return os.strerror(deeper.errno).lower() if deeper.errno > 0 else str(deeper.strerror).lower()
        if isinstance(deeper, BaseExceptionGroup):
            deeper = deeper.exceptions[0]
        else:
            deeper = deeper.__cause__ or deeper.__context__
    return one_line(str(error)) or "no connection within the time limit"


def refusal(status: int, text: str, name: str, model: str) -> ProviderError:
    """What an error status and its text mean, as a sentence that helps."""
    said = one_line(text, 300)
    if status in {401, 403}:
        return AccessDenied(f"{name} wants another key ({status}: {said}); set api_key_env of the endpoint")
    if _CONTEXT_WORDS.search(text):
        return ContextExceeded(
            f"the prompt does not fit into the context of {model or 'the model'} at {name}: {said}; "
            "begin a new conversation, or raise num_ctx"
        )
    if _MEMORY_WORDS.search(text):
        return LoadFailed(f"{name} has not enough memory for {model or 'the model'}: {said}; try a smaller model")
    if status == 404 and model:
        return ModelMissing(f"{name} does not have the model {model} ({said})")
    if status in {429, 503, 529}:
        return Busy(f"{name} is busy ({status}: {said}); try again in a moment")
    if status == 400 and _UNABLE_WORDS.search(text):
        return Unsupported(f"{model or name} cannot do this: {said}")
    return BadReply(f"{name} answered with error {status}: {said}")


def error_text(raw: bytes | str) -> str:
    """The words in an error body, whichever of the usual shapes it has; HTML loses its tags."""
    text = raw.decode("utf-8", "replace") if isinstance(raw, bytes) else raw
    try:
        value = json.loads(text)
    except ValueError:
        return re.sub(r"<(style|script).*?</\1>|<[^>]*>", " ", text, flags=re.DOTALL | re.IGNORECASE).strip()
    while isinstance(value, dict):
        value = next((value[key] for key in ("error", "message", "detail") if value.get(key)), "")
    return value if isinstance(value, str) else json.dumps(value)


def _first_line(raw: bytes) -> str:
    return one_line(error_text(raw), 120)
