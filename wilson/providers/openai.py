"""Any server that speaks OpenAI's chat protocol: vLLM, llama-server, LM Studio, and Wilson's own children."""

import json
import os
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from typing import Any

import httpx

from wilson.domain.chat import ChatRequest, Chunk, Finish, FinishReason, Message, ThoughtPiece, ToolCall
from wilson.domain.errors import AccessDenied, BadReply, ModelMissing, ProviderError, StreamBroken
from wilson.domain.model import Endpoint, Health, LoadedModel, ModelFacts, ModelSpec, Patience
from wilson.providers.base import Progress
from wilson.providers.http import HttpClient, error_text, refusal
from wilson.providers.thoughts import ThoughtSplitter
from wilson.providers.tool_calls import CallBuilder, described


class OpenAIChat:
    """The chat part of the protocol, for whoever knows the address and the key."""

    def __init__(self, http: HttpClient) -> None:
        self._http = http
        self._usage = True
        """Ask for token counts in the stream; switched off for servers that refuse the question."""

    @asynccontextmanager
    async def stream(self, model: str, request: ChatRequest) -> AsyncIterator[AsyncGenerator[Chunk]]:
        """A reply as it grows."""
        body: dict[str, Any] = {
            "model": model,
            "messages": [_message(message) for message in request.messages],
            "stream": True,
        }
        if request.temperature is not None:
            body["temperature"] = request.temperature
        if request.max_tokens is not None:
            body["max_tokens"] = request.max_tokens
        if request.tools:
            body["tools"] = described(request.tools)
        if request.schema:
            schema = {"name": "answer", "strict": True, "schema": request.schema}
            body["response_format"] = {"type": "json_schema", "json_schema": schema}
        async with AsyncExitStack() as stack:
            lines = await self._opened(stack, body, model)
            yield await stack.enter_async_context(aclosing(self._chunks(lines, model)))

    async def _opened(self, stack: AsyncExitStack, body: dict[str, Any], model: str) -> AsyncGenerator[str]:
        if self._usage:
            asking = {**body, "stream_options": {"include_usage": True}}
            try:
                return await stack.enter_async_context(self._http.lines("/chat/completions", asking, model=model))
            except ProviderError as error:
                if "stream_options" not in str(error):
                    raise
                self._usage = False
        return await stack.enter_async_context(self._http.lines("/chat/completions", body, model=model))

    async def _chunks(self, lines: AsyncIterator[str], model: str) -> AsyncGenerator[Chunk]:
        splitter = ThoughtSplitter()
        calls = CallBuilder()
        finish: FinishReason | None = None
        usage: Mapping[str, Any] = {}
        async for line in lines:
            entry = self._entry(line, model)
            if entry is None:
                continue
            if entry == "[DONE]":
                break
            usage = entry.get("usage") or usage
            for choice in entry.get("choices") or ():
                # A whole message instead of a delta comes from servers that ignore `stream`.
                delta = choice.get("delta") or choice.get("message") or {}
                if thought := delta.get("reasoning_content") or delta.get("reasoning"):
                    yield ThoughtPiece(thought)
                if text := delta.get("content"):
                    for piece in splitter.feed(text):
                        yield piece
                calls.add(delta.get("tool_calls") or ())
                if reason := choice.get("finish_reason"):
                    finish = FinishReason.LENGTH if reason == "length" else FinishReason.STOP
        if finish is None:
            raise StreamBroken(
                f"the reply of {model} at {self._http.name} stopped before its end; did the server stop?"
            )
        for piece in splitter.end():
            yield piece
        for call in calls.whole():
            yield call
        yield Finish(finish, usage.get("prompt_tokens"), usage.get("completion_tokens"))

    def _entry(self, line: str, model: str) -> Any:
        """What one line of the event stream says: an object, ``[DONE]``, or nothing."""
        field, colon, value = line.partition(":")
        value = value.removeprefix(" ")
        match field:
            case "data" if value.strip() == "[DONE]":
                return "[DONE]"
            case "data" if value.strip():
                entry = self._decoded(value)
                if entry.get("error"):
                    raise self._failed(value, model)
                return entry
            case "error" if colon:
                raise self._failed(value, model)
            case _ if field.lstrip("\ufeff").startswith("{"):
                # Not an event at all: an error body under status 200, or a server that ignores `stream`.
                entry = self._decoded(line)
                if entry.get("error"):
                    raise self._failed(line, model)
                return entry
        return None

    def _decoded(self, text: str) -> Mapping[str, Any]:
        try:
            entry = json.loads(text.lstrip("\ufeff"))
        except (ValueError, RecursionError) as error:
            raise BadReply(f"{self._http.name} sent an event that is not JSON: {text[:80]!r}") from error
        if not isinstance(entry, dict):
            raise BadReply(f"{self._http.name} sent an event that is no object: {text[:80]!r}")
        return entry

    def _failed(self, text: str, model: str) -> ProviderError:
        error = refusal(500, error_text(text), self._http.name, model)
        return StreamBroken(str(error)) if type(error) is BadReply else error


class OpenAIProvider:
    """A compatible server that somebody else runs: its models are there or not, and stay as they are."""

    manages_memory = False

    def __init__(
        self, endpoint: Endpoint, patience: Patience, *, transport: httpx.AsyncBaseTransport | None = None
    ) -> None:
        self.endpoint = endpoint
        self._patience = patience
        self._http = HttpClient(endpoint.url, patience, name=endpoint.address, key=_key(endpoint), transport=transport)
        self._chat = OpenAIChat(self._http)

    async def health(self) -> Health:
        try:
            if self.endpoint.api_key_env and not os.environ.get(self.endpoint.api_key_env):
                raise AccessDenied(f"{self.endpoint.address} needs a key; set {self.endpoint.api_key_env}")
            await self._http.get("/models", timeout=self._patience.probe_s)
            return Health(ok=True, detail="OpenAI-compatible")
        except ProviderError as error:
            return Health(ok=False, detail=str(error))

    async def installed(self) -> tuple[ModelFacts, ...]:
        answer = await self._http.get("/models", timeout=self._patience.between_tokens_s)
        entries = answer.get("data", ()) if isinstance(answer, dict) else answer
        return tuple(_listed(entry) for entry in entries or ())

    async def show(self, model: str) -> ModelFacts:
        known = await self.installed()
        for facts in known:
            if facts.name == model:
                return facts
        names = ", ".join(facts.name for facts in known) or "none"
        raise ModelMissing(f"{self.endpoint.address} does not serve {model}; it serves: {names}")

    async def loaded(self) -> tuple[LoadedModel, ...]:
        return tuple(
            LoadedModel(name=facts.name, memory_mb=None, context=facts.context) for facts in await self.installed()
        )

    async def load(self, spec: ModelSpec, progress: Progress) -> None:
        await self.show(spec.name)

    async def unload(self, spec: ModelSpec) -> None:
        """Nothing: the server's owner decides what it holds."""

    async def release(self, spec: ModelSpec) -> None:
        """Nothing, for the same reason."""

    @asynccontextmanager
    async def chat(self, spec: ModelSpec, request: ChatRequest) -> AsyncIterator[AsyncGenerator[Chunk]]:
        async with self._chat.stream(spec.name, request) as chunks:
            yield chunks

    async def aclose(self) -> None:
        await self._http.aclose()


def _key(endpoint: Endpoint) -> str | None:
    return os.environ.get(endpoint.api_key_env) if endpoint.api_key_env else None


def _listed(entry: Mapping[str, Any]) -> ModelFacts:
    meta = entry.get("meta") or {}
    context = entry.get("max_model_len") or entry.get("max_context_length") or meta.get("n_ctx")
    size = meta.get("size")
    return ModelFacts(name=str(entry.get("id", "")), size_mb=int(size) >> 20 if size else None, context=context)


def _message(message: Message) -> dict[str, Any]:
    body: dict[str, Any] = {"role": message.role.value, "content": message.content}
    if message.tool_calls:
        body["tool_calls"] = [_sent_call(call) for call in message.tool_calls]
    if message.tool_call_id:
        body["tool_call_id"] = message.tool_call_id
    return body


def _sent_call(call: ToolCall) -> dict[str, Any]:
    arguments = json.dumps(dict(call.arguments), ensure_ascii=False)
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": arguments}}
