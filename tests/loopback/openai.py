"""A loopback server that speaks OpenAI's chat protocol, in whichever of the dialects that are met in the wild.

python -m tests.loopback.openai --port 0 --model some-model --tokens-per-second 20
"""

import argparse
import asyncio
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any, Literal

from tests.loopback.http_server import Exchange
from tests.loopback.model_server import ModelServer
from tests.loopback.program import serve
from tests.loopback.replies import (
    Call,
    Drop,
    End,
    Fail,
    Hold,
    NoEnd,
    Piece,
    Raw,
    Refusal,
    Reply,
    Silence,
    Thought,
    said,
    tokens,
    usual_reply,
    whole,
    words,
)


@dataclass(frozen=True)
class ServedModel:
    """A model that the server has; it is always there."""

    name: str
    context: int | None = None
    """What the list of models says, if it says anything."""
    size_mb: int | None = None
    tokens_per_second: float | None = None


@dataclass
class Dialect:
    """What differs from server to server; unless told otherwise, as vLLM and llama-server have it."""

    usage: Literal["asked", "always", "never"] = "asked"
    refuses_stream_options: bool = False
    done: bool = True
    """The stream ends with ``[DONE]``."""
    space: bool = True
    """After ``data:``."""
    event_lines: bool = False
    """Every event has a name in a line of its own."""
    null_content: bool = True
    """The first delta says who speaks, and has null for its content."""
    thoughts: Literal["reasoning_content", "reasoning", "tags"] = "reasoning_content"
    calls: Literal["pieces", "whole", "all zero", "objects", "no index"] = "pieces"
    """In pieces by index; whole by index; whole with index 0 for each; arguments as an object; whole without index."""
    finish_of_calls: str = "tool_calls"
    errors: Literal["data", "field", "text"] = "data"
    """As an event of data, as an ``error:`` field, or as an event whose error is only a text."""
    streams: bool = True
    """Otherwise a stream is answered with one whole object."""


class LoopbackOpenAI(ModelServer):
    """One compatible server. Doors to hold: those of a reply's ``Hold``."""

    def __init__(
        self, *models: ServedModel | str, key: str | None = None, dialect: Dialect | None = None, **more: Any
    ) -> None:
        super().__init__(**more)
        self.models = {
            model.name: model for model in (ServedModel(each) if isinstance(each, str) else each for each in models)
        }
        self.key = key
        """The one that clients have to send; none for anybody."""
        self.dialect = dialect or Dialect()

    @property
    def url(self) -> str:
        """The base address, to which ``/models`` and ``/chat/completions`` are added."""
        return f"{super().url}/v1"

    async def __aenter__(self) -> "LoopbackOpenAI":
        await super().__aenter__()
        return self

    def usual(self, body: dict[str, Any]) -> Reply:
        wanted = body.get("response_format") or {}
        schema = (wanted.get("json_schema") or {}).get("schema") if wanted.get("type") == "json_schema" else None
        return usual_reply(body.get("messages") or [], schema)

    def refusal_body(self, text: str) -> Any:
        return {"error": {"message": text, "type": "invalid_request_error", "param": None, "code": None}}

    async def handle(self, exchange: Exchange) -> None:
        request = exchange.request
        if request.path == "/health":
            await self.answer(exchange, {"status": "ok"})
        elif self.key is not None and request.headers.get("authorization") != f"Bearer {self.key}":
            await self.refuse(exchange, Refusal(401, "Incorrect API key provided"))
        elif (request.method, request.path) == ("GET", "/v1/models"):
            await self.answer(exchange, {"object": "list", "data": [_listed(model) for model in self.models.values()]})
        elif (request.method, request.path) == ("POST", "/v1/chat/completions"):
            await self._completed(exchange, request.json)
        else:
            await self.refuse(exchange, Refusal(404, "Not Found"))

    async def _completed(self, exchange: Exchange, body: dict[str, Any]) -> None:
        model = self.models.get(str(body.get("model")))
        if model is None:
            await self.refuse(exchange, Refusal(404, f"The model `{body.get('model')}` does not exist."))
        elif self.dialect.refuses_stream_options and "stream_options" in body:
            await self.refuse(exchange, Refusal(400, "Unrecognized request argument supplied: stream_options"))
        elif model.context is not None and (asked := prompt_tokens(body)) > model.context:
            text = f"This model's maximum context length is {model.context} tokens. However, you requested {asked}."
            await self.refuse(exchange, Refusal(400, text))
        else:
            with self.generating():
                await Completion(self, exchange, model, body).play()


@dataclass
class Completion:
    """One reply, event by event."""

    server: LoopbackOpenAI
    exchange: Exchange
    model: ServedModel
    body: dict[str, Any]
    spoken: int = 0
    unstreamed: dict[str, Any] = field(default_factory=lambda: {"role": "assistant", "content": None})
    _calls: Iterator[int] = field(default_factory=count)
    _called: bool = False
    _first: bool = True

    @property
    def streams(self) -> bool:
        return bool(self.body.get("stream")) and self.server.dialect.streams

    async def play(self) -> None:
        reply = whole(self.server.reply_to(self.body))
        if isinstance(reply[0], Refusal):
            await self.server.refuse(self.exchange, reply[0])
            return
        if self.streams:
            await self.exchange.begin(200, "text/event-stream; charset=utf-8")
            if self.server.dialect.null_content:
                await self._delta({"role": "assistant", "content": None})
        for piece in reply:
            if not await self._passed(piece):
                return

    async def _passed(self, piece: Piece) -> bool:
        """Send one piece; false when it was the last."""
        match piece:
            case str() | Thought() | Call():
                limit = self.body.get("max_tokens")
                if limit is not None and self.spoken >= limit:
                    await self._end(End("length"))
                    return False
                if rate := self.model.tokens_per_second:
                    await self.server.sleep(1 / rate)
                self.spoken += 1
                for delta in self._deltas(piece):
                    await self._delta(delta)
            case Hold(door):
                await self.server.stand_at(door)
            case Raw(data):
                await self.exchange.send(data)
            case Fail(text):
                await self._fail(text)
                await self.exchange.end()
                return False
            case Silence():
                await self.server.silence()
            case Drop():
                self.exchange.drop()
                return False
            case NoEnd():
                await self.exchange.end()
                return False
            case End():
                await self._end(piece)
                return False
        return True

    def _deltas(self, piece: str | Thought | Call) -> Iterator[dict[str, Any]]:
        dialect = self.server.dialect
        match piece:
            case Thought(text):
                tagged = dialect.thoughts == "tags"
                yield {"content": f"<think>{text}</think>"} if tagged else {dialect.thoughts: text}
            case Call():
                self._called = True
                for call in self._call(piece, next(self._calls)):
                    yield {"tool_calls": [call]}
            case text:
                yield {"content": text}

    def _call(self, call: Call, number: int) -> Iterator[dict[str, Any]]:
        way = self.server.dialect.calls
        text = call.arguments if isinstance(call.arguments, str) else json.dumps(call.arguments)
        named = {"id": f"call_{number}" if call.id is None else call.id, "type": "function"}
        if call.id == "":
            del named["id"]
        if not self.streams or way == "no index":
            yield {**named, "function": {"name": call.name, "arguments": text}}
        elif way == "pieces":
            yield {"index": number, **named, "function": {"name": call.name, "arguments": ""}}
            for at in range(0, len(text), 5):
                yield {"index": number, "function": {"arguments": text[at : at + 5]}}
        else:
            arguments = call.arguments if way == "objects" else text
            index = 0 if way == "all zero" else number
            yield {"index": index, **named, "function": {"name": call.name, "arguments": arguments}}

    async def _end(self, end: End) -> None:
        for piece in end.last:
            self.spoken += 1
            for delta in self._deltas(piece):
                await self._delta(delta)
        reason = self.server.dialect.finish_of_calls if self._called and end.reason == "stop" else end.reason
        evaluated = prompt_tokens(self.body) if end.prompt_tokens is None else end.prompt_tokens
        spoken = self.spoken if end.tokens is None else end.tokens
        usage = {"prompt_tokens": evaluated, "completion_tokens": spoken, "total_tokens": evaluated + spoken}
        if not self.streams:
            choice = {"index": 0, "message": self.unstreamed, "finish_reason": reason}
            answer = {**self._head("chat.completion"), "choices": [choice]}
            await self.server.answer(
                self.exchange, answer if self.server.dialect.usage == "never" else {**answer, "usage": usage}
            )
            return
        await self._delta({}, reason)
        asked = (self.body.get("stream_options") or {}).get("include_usage", False)
        if {"asked": asked, "always": True, "never": False}[self.server.dialect.usage]:
            await self._event({**self._head("chat.completion.chunk"), "choices": [], "usage": usage})
        if self.server.dialect.done:
            await self._line("[DONE]")
        await self.exchange.end()

    async def _fail(self, text: str) -> None:
        match self.server.dialect.errors:
            case "data":
                await self._event(self.server.refusal_body(text))
            case "field":
                await self._line(json.dumps(self.server.refusal_body(text)["error"]), name="error")
            case "text":
                await self._event({"error": text})

    async def _delta(self, delta: Mapping[str, Any], reason: str | None = None) -> None:
        if self.streams:
            choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}
            await self._event({**self._head("chat.completion.chunk"), "choices": [choice]})
            return
        for key, value in delta.items():
            known = self.unstreamed.get(key)
            self.unstreamed[key] = value if known is None else known + value

    async def _event(self, value: Mapping[str, Any]) -> None:
        await self._line(json.dumps(value, ensure_ascii=False))

    async def _line(self, text: str, name: str = "data") -> None:
        framing, dialect = self.server.framing, self.server.dialect
        event = b"event: message" + framing.line_end if dialect.event_lines else b""
        field_ = f"{name}: {text}" if dialect.space else f"{name}:{text}"
        data = framing.between + event + field_.encode("utf-8", "surrogatepass") + framing.line_end * 2
        if self._first:
            data = framing.first + data
            self._first = False
        for part in framing.cut(data):
            await self.exchange.send(part)

    def _head(self, kind: str) -> dict[str, Any]:
        return {"id": "chatcmpl-1", "object": kind, "created": 1763700000, "model": self.model.name}


def _listed(model: ServedModel) -> dict[str, Any]:
    entry: dict[str, Any] = {"id": model.name, "object": "model", "created": 1763700000, "owned_by": "loopback"}
    if model.context is not None:
        entry["max_model_len"] = model.context
    if model.size_mb is not None:
        entry["meta"] = {"size": model.size_mb << 20}
    return entry


def prompt_tokens(body: Mapping[str, Any]) -> int:
    return sum(tokens(said(message)) for message in body.get("messages") or ())


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tests.loopback.openai", description="A loopback OpenAI-compatible server."
    )
    parser.add_argument("--port", type=int, default=0, help="0 for one that the system chooses")
    parser.add_argument("--model", action="append", metavar="NAME", help="may be given several times")
    parser.add_argument("--tokens-per-second", type=float)
    parser.add_argument("--key", help="what clients have to send")
    parser.add_argument("--reply", type=Path, metavar="FILE", help="what every chat is answered with")
    given = parser.parse_args()
    models = [ServedModel(name, tokens_per_second=given.tokens_per_second) for name in given.model or ["loopback"]]
    server = LoopbackOpenAI(*models, port=given.port, key=given.key)
    if given.reply:
        text = given.reply.read_text("utf-8")
        server.reply_with(lambda body: words(text))
    asyncio.run(serve(server))


if __name__ == "__main__":
    main()
