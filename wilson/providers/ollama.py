"""Ollama, on its native API.

Its OpenAI-compatible route has neither context size nor keep-alive, and swallows errors in mid-stream; see Ollama's
``docs/api.md`` and, for what makes it load a model anew, ``server/sched.go``.
"""

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager
from typing import Any, Final

import httpx

from wilson.domain.chat import ChatRequest, Chunk, Finish, FinishReason, Message, ThoughtPiece, ToolCall
from wilson.domain.errors import BadReply, LoadFailed, ModelMissing, ProviderError, StreamBroken
from wilson.domain.model import Endpoint, Health, LoadedModel, ModelFacts, ModelSpec, Patience
from wilson.providers.base import Progress, canonical
from wilson.providers.http import HttpClient, error_text, refusal
from wilson.providers.thoughts import ThoughtSplitter
from wilson.providers.tool_calls import described, tool_call

WORKER_KEEP_ALIVE: Final = "10m"
"""Sent with every worker's request: should Wilson die, its big model does not stay for ever."""
DEFAULT_KEEP_ALIVE: Final = "5m"
"""What Ollama uses when nobody asks; the chat model gets it back when Wilson ends."""
_MIB: Final = 1 << 20


class OllamaProvider:
    """One Ollama server."""

    manages_memory = True

    def __init__(
        self, endpoint: Endpoint, patience: Patience, *, transport: httpx.AsyncBaseTransport | None = None
    ) -> None:
        self.endpoint = endpoint
        self._patience = patience
        self._http = HttpClient(endpoint.url, patience, name=f"Ollama at {endpoint.url}", transport=transport)
        self._facts: dict[str, ModelFacts] = {}

    async def health(self) -> Health:
        try:
            version = await self._http.get("/api/version", timeout=self._patience.probe_s)
            return Health(ok=True, detail=f"Ollama {version.get('version', '')}".strip())
        except ProviderError as error:
            return Health(ok=False, detail=str(error))

    async def installed(self) -> tuple[ModelFacts, ...]:
        answer = await self._http.get("/api/tags", timeout=self._patience.between_tokens_s)
        return tuple(_listed(entry) for entry in answer.get("models") or ())

    async def show(self, model: str) -> ModelFacts:
        name = canonical(model)
        if name in self._facts:
            return self._facts[name]
        entry = next((facts for facts in await self.installed() if canonical(facts.name) == name), None)
        if entry is None:
            raise ModelMissing(f"Ollama at {self.endpoint.url} does not have {model}; try: ollama pull {model}")
        answer = await self._http.post(
            "/api/show", {"model": model}, timeout=self._patience.between_tokens_s, model=model
        )
        self._facts[name] = _shown(entry, answer)
        return self._facts[name]

    async def loaded(self) -> tuple[LoadedModel, ...]:
        answer = await self._http.get("/api/ps", timeout=self._patience.between_tokens_s)
        return tuple(
            LoadedModel(
                name=entry.get("name") or entry.get("model", ""),
                memory_mb=int(entry.get("size", 0)) // _MIB,
                context=entry.get("context_length") or None,
            )
            for entry in answer.get("models") or ()
        )

    async def load(self, spec: ModelSpec, progress: Progress) -> None:
        await self.show(spec.name)
        progress(None)
        answer = await self._http.post(
            "/api/chat",
            {"model": spec.name, "messages": [], "stream": False, **self._signature(spec)},
            timeout=self._patience.load_s,
            model=spec.name,
        )
        if text := answer.get("error"):
            raise LoadFailed(f"{self._http.name} could not load {spec.name}: {text}")

    async def unload(self, spec: ModelSpec) -> None:
        await self._ask_to_keep(spec, 0)
        try:
            async with asyncio.timeout(self._patience.unload_s):
                pause = 0.02
                while await self._is_loaded(spec):
                    await asyncio.sleep(pause)
                    pause = min(pause * 2, 0.5)
        except TimeoutError as error:
            raise LoadFailed(
                f"{spec.name} is still in memory {self._patience.unload_s:g} s after Ollama was asked to unload it; "
                f"try: ollama stop {spec.name}"
            ) from error

    async def release(self, spec: ModelSpec) -> None:
        # Asking for a model that has left already would load it again.
        if await self._is_loaded(spec):
            await self._ask_to_keep(spec, DEFAULT_KEEP_ALIVE)

    async def _ask_to_keep(self, spec: ModelSpec, keep_alive: str | int) -> None:
        body = {"model": spec.name, "messages": [], "stream": False, **self._signature(spec), "keep_alive": keep_alive}
        await self._http.post("/api/chat", body, timeout=self._patience.unload_s, model=spec.name)

    async def _is_loaded(self, spec: ModelSpec) -> bool:
        return canonical(spec.name) in {canonical(model.name) for model in await self.loaded()}

    @asynccontextmanager
    async def chat(self, spec: ModelSpec, request: ChatRequest) -> AsyncIterator[AsyncGenerator[Chunk]]:
        facts = await self.show(spec.name)
        body = {
            "model": spec.name,
            "messages": [_message(message) for message in request.messages],
            "stream": True,
            # Without this the oldest messages are dropped in silence.
            "truncate": False,
            **self._signature(spec),
        }
        options = body["options"]
        if request.temperature is not None:
            options["temperature"] = request.temperature
        if request.max_tokens is not None:
            options["num_predict"] = request.max_tokens
        if request.tools:
            body["tools"] = described(request.tools)
        if request.schema:
            body["format"] = request.schema
        if facts.thinks:
            body["think"] = False
        async with (
            self._http.lines("/api/chat", body, model=spec.name) as lines,
            aclosing(self._chunks(lines, spec.name)) as chunks,
        ):
            yield chunks

    async def _chunks(self, lines: AsyncIterator[str], model: str) -> AsyncGenerator[Chunk]:
        splitter = ThoughtSplitter()
        calls = 0
        async for line in lines:
            if not line.strip():
                continue
            entry = _decoded(line, self._http.name)
            if "error" in entry:
                raise _broken(refusal(500, error_text(line), self._http.name, model))
            message = entry.get("message") or {}
            if thought := message.get("thinking"):
                yield ThoughtPiece(thought)
            if text := message.get("content"):
                for piece in splitter.feed(text):
                    yield piece
            for call in message.get("tool_calls") or ():
                calls += 1
                yield _call(call, calls)
            if entry.get("done"):
                for piece in splitter.end():
                    yield piece
                yield Finish(
                    FinishReason.LENGTH if entry.get("done_reason") == "length" else FinishReason.STOP,
                    entry.get("prompt_eval_count"),
                    entry.get("eval_count"),
                )
                return
        raise StreamBroken(f"the reply of {model} at {self._http.name} stopped before its end; was the server stopped?")

    async def aclose(self) -> None:
        await self._http.aclose()

    def _signature(self, spec: ModelSpec) -> dict[str, Any]:
        """The part that is the same in every request to a model, whatever it is for."""
        options: dict[str, Any] = {}
        if spec.context is not None:
            options["num_ctx"] = spec.context
        if spec.threads is not None:
            options["num_thread"] = spec.threads
        return {"options": options, "keep_alive": -1 if spec.resident else WORKER_KEEP_ALIVE}


def _listed(entry: Mapping[str, Any]) -> ModelFacts:
    details = entry.get("details") or {}
    capabilities = entry.get("capabilities") or details.get("capabilities")
    return ModelFacts(
        name=entry.get("name") or entry.get("model", ""),
        size_mb=int(entry.get("size", 0)) // _MIB,
        context=details.get("context_length") or None,
        parameters=details.get("parameter_size") or "",
        tools="tools" in capabilities if capabilities else None,
    )


def _shown(entry: ModelFacts, answer: Mapping[str, Any]) -> ModelFacts:
    info = answer.get("model_info") or {}
    capabilities = answer.get("capabilities")
    context = info.get(f"{info.get('general.architecture', '')}.context_length")
    return ModelFacts(
        name=entry.name,
        size_mb=entry.size_mb,
        context=context or entry.context,
        parameters=entry.parameters or (answer.get("details") or {}).get("parameter_size") or "",
        # Servers from before 2025 list no capabilities; then only trying can tell.
        tools="tools" in capabilities if capabilities is not None else entry.tools,
        thinks="thinking" in (capabilities or ()),
    )


def _message(message: Message) -> dict[str, Any]:
    body: dict[str, Any] = {"role": message.role.value, "content": message.content}
    if message.tool_calls:
        body["tool_calls"] = [
            {"function": {"name": call.name, "arguments": dict(call.arguments)}} for call in message.tool_calls
        ]
    if message.tool_name:
        body["tool_name"] = message.tool_name
    return body


def _call(said: Mapping[str, Any], number: int) -> ToolCall:
    function = said.get("function") or {}
    arguments = function.get("arguments")
    return tool_call(str(said.get("id") or f"call-{number}"), str(function.get("name", "")), arguments)


def _decoded(line: str, name: str) -> Mapping[str, Any]:
    try:
        entry = json.loads(line.lstrip("\ufeff"))
    except (ValueError, RecursionError) as error:
        raise BadReply(f"{name} sent a line that is not JSON: {line[:80]!r}") from error
    if not isinstance(entry, dict):
        raise BadReply(f"{name} sent a line that is no object: {line[:80]!r}")
    return entry


def _broken(error: ProviderError) -> ProviderError:
    """An error in mid-stream has no status of its own; when its words mean nothing special, the stream is broken."""
    return StreamBroken(str(error)) if type(error) is BadReply else error
