"""A loopback Ollama: the native API with models that do not exist, faithful where a client can tell the difference.

What it imitates is written in Ollama's ``docs/api.md``, and for loading and keeping in ``server/sched.go``. By hand:

    python -m tests.loopback.ollama --port 0 --model llama3:latest=4100 --load-seconds 2 --tokens-per-second 20
"""

import argparse
import asyncio
import hashlib
import json
import re
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import chain
from pathlib import Path
from types import TracebackType
from typing import Any

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

VERSION = "0.12.6"
DEFAULT_CONTEXT = 4096
DEFAULT_KEEP_ALIVE = 300.0
LOAD_OPTIONS = ("num_ctx", "num_batch", "num_gpu", "main_gpu", "use_mmap", "num_thread", "draft_num_predict")
"""A difference in any of these loads the model anew."""
FOR_EVER = "2318-07-03T21:14:22.967134101+02:00"
"""How Ollama writes the end of a model that is to stay."""
_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}


@dataclass(frozen=True)
class Model:
    """A model that is installed."""

    name: str
    size_mb: int = 1000
    """On disk and in memory, in units of 2**20 bytes."""
    capabilities: tuple[str, ...] = ("completion", "tools")
    context: int = 131072
    """What it was trained for."""
    family: str = "llama"
    load_seconds: float = 0.0
    unload_seconds: float = 0.0
    """How long it stays in memory after it was sent out."""
    tokens_per_second: float | None = None

    @property
    def parameters(self) -> str:
        """As its name tells, such as ``14B``."""
        found = re.search(r"[:-](\d+(?:x\d+)?(?:\.\d+)?b)", self.name)
        return found[1].upper() if found else "8B"

    @property
    def digest(self) -> str:
        return hashlib.sha256(self.name.encode()).hexdigest()

    @property
    def details(self) -> dict[str, Any]:
        return {
            "parent_model": "",
            "format": "gguf",
            "family": self.family,
            "families": [self.family],
            "parameter_size": self.parameters,
            "quantization_level": "Q4_K_M",
        }


@dataclass(frozen=True)
class LoadOptions:
    """What a model is loaded with; another value means another load."""

    values: tuple[tuple[str, Any], ...] = ()

    @classmethod
    def of(cls, body: Mapping[str, Any]) -> "LoadOptions":
        options = body.get("options") or {}
        values = [(name, options[name]) for name in LOAD_OPTIONS if name in options]
        return cls((*values, ("shift", body["shift"])) if "shift" in body else tuple(values))

    def context(self, model: Model) -> int:
        return min(dict(self.values).get("num_ctx", DEFAULT_CONTEXT), model.context)


@dataclass
class Runner:
    """A model in memory."""

    model: Model
    options: LoadOptions
    keep_alive: float
    """Seconds after its last request; negative for ever."""
    parallel: int = 1
    users: int = 0
    """Requests that are answered, or wait for their turn."""
    stopping: bool = False
    """It was sent out, and leaves when its requests have ended."""
    leaving: bool = False
    """Its requests have ended, and its memory is about to be given back."""
    ends: asyncio.TimerHandle | None = None
    turn: asyncio.Semaphore = field(init=False)

    def __post_init__(self) -> None:
        self.turn = asyncio.Semaphore(self.parallel)

    @property
    def context(self) -> int:
        return self.options.context(self.model)


class LoopbackOllama(ModelServer):
    """One Ollama.

    Doors to hold, with names as they were given here: ``load NAME``, ``unload NAME`` for a model that hangs in
    "Stopping", and those of a reply's ``Hold``.
    """

    def __init__(self, *models: Model | str, parallel: int = 1, **more: Any) -> None:
        super().__init__(**more)
        self.parallel = parallel
        """Generations of one model at once; Ollama's own default is one."""
        self.version = VERSION
        self.models: dict[str, Model] = {}
        self.runners: dict[str, Runner] = {}
        """The models in memory."""
        self.loads: Counter[str] = Counter()
        """Loads that were carried through, whoever asked for them by a request."""
        self.aborted: Counter[str] = Counter()
        """Loads that ended early, because nobody waited for them any more or because they failed."""
        self.unloads: Counter[str] = Counter()
        self.loading: str | None = None
        self._load_failures: dict[str, Refusal] = {}
        self._one_load = asyncio.Lock()
        self._leaving: set[asyncio.Task[None]] = set()
        self.install(*models)

    def install(self, *models: Model | str) -> None:
        for model in models:
            known = Model(model) if isinstance(model, str) else model
            self.models[full_name(known.name)] = known

    async def __aenter__(self) -> "LoopbackOllama":
        await super().__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            await super().__aexit__(kind, error, trace)
        finally:
            await self._forget_runners()

    async def restart(self, *models: Model | str, version: str = VERSION) -> None:
        """What a client meets after the server was stopped and another one started at the same address."""
        await self._http.drop_connections()
        await self._forget_runners()
        self.models.clear()
        self.install(*models)
        self.version = version

    def fail_load(self, name: str, text: str, status: int = 500) -> None:
        """The next load of this model fails."""
        self._load_failures[full_name(name)] = Refusal(status, text)

    def load_by_other(self, name: str, **options: Any) -> Runner:
        """Another client has loaded the model; its load is not counted."""
        runner = Runner(self.models[full_name(name)], LoadOptions(tuple(options.items())), -1, self.parallel)
        self.runners[full_name(name)] = runner
        self.changed()
        return runner

    def evict(self, name: str) -> None:
        """The model is gone, because another client's model needed the room; its unload is not counted."""
        self._drop(self.runners[full_name(name)])

    def usual(self, body: dict[str, Any]) -> Reply:
        schema = body.get("format") if isinstance(body.get("format"), dict) else None
        messages = body.get("messages") or [{"role": "user", "content": body.get("prompt", "")}]
        reply = usual_reply(messages, schema)
        thinks = "thinking" in self.models[full_name(body["model"])].capabilities and body.get("think") is not False
        return [Thought("Let me think. "), *reply] if thinks else reply

    def refusal_body(self, text: str) -> Any:
        return {"error": text}

    async def handle(self, exchange: Exchange) -> None:
        request = exchange.request
        try:
            body = request.json if request.content else {}
        except ValueError as error:
            await self.refuse(exchange, Refusal(400, str(error)))
            return
        match request.method, request.path:
            case "GET" | "HEAD", "/":
                await exchange.answer(200, b"Ollama is running", "text/plain; charset=utf-8")
            case "GET" | "HEAD", "/api/version":
                await self.answer(exchange, {"version": self.version})
            case "GET", "/api/tags":
                await self.answer(exchange, {"models": [_tag(model) for model in self.models.values()]})
            case "GET", "/api/ps":
                await self.answer(exchange, {"models": [_resident(runner) for runner in self.runners.values()]})
            case "POST", "/api/show":
                await self._show(exchange, body)
            case "POST", "/api/chat" | "/api/generate":
                await self._asked(exchange, body)
            case _:
                await exchange.answer(404, b"404 page not found", "text/plain")

    async def _show(self, exchange: Exchange, body: dict[str, Any]) -> None:
        model = self.models.get(full_name(body.get("model") or body.get("name") or ""))
        if model is None:
            await self.refuse(exchange, Refusal(404, f"model '{body.get('model')}' not found"))
        else:
            await self.answer(exchange, _described(model))

    async def _asked(self, exchange: Exchange, body: dict[str, Any]) -> None:
        """A chat, or one of the requests that only load or unload a model."""
        name = str(body.get("model", ""))
        model = self.models.get(full_name(name))
        empty = not (body.get("messages") or body.get("prompt"))
        try:
            keep_alive = seconds(body.get("keep_alive"))
        except ValueError as error:
            await self.refuse(exchange, Refusal(400, str(error)))
            return
        if model is None:
            await self.refuse(exchange, Refusal(404, f"model '{name}' not found"))
        elif empty and keep_alive == 0:
            if runner := self.runners.get(full_name(name)):
                self._stop(runner)
            await self._alone(exchange, body, "unload")
        elif refusal := _incapable(model, body):
            await self.refuse(exchange, refusal)
        else:
            await self._served(exchange, body, model, keep_alive, empty)

    async def _served(
        self, exchange: Exchange, body: dict[str, Any], model: Model, keep_alive: float | None, empty: bool
    ) -> None:
        try:
            async with self._loaded(model, LoadOptions.of(body), keep_alive) as runner:
                if empty:
                    await self._alone(exchange, body, "load")
                    return
                async with runner.turn:
                    with self.generating():
                        await Generation(self, exchange, runner, body).play()
        except _LoadRefused as error:
            await self.refuse(exchange, error.refusal)

    async def _alone(self, exchange: Exchange, body: dict[str, Any], reason: str) -> None:
        """An answer of one line and no words."""
        text = {"message": {"role": "assistant", "content": ""}} if "messages" in body else {"response": ""}
        line = {"model": body["model"], "created_at": now(), **text, "done_reason": reason, "done": True}
        await exchange.answer(200, json.dumps(line).encode(), "application/json; charset=utf-8")

    @asynccontextmanager
    async def _loaded(self, model: Model, options: LoadOptions, keep_alive: float | None) -> AsyncIterator[Runner]:
        """The model in memory, as long as a request needs it."""
        runner = self._ready(model, options)
        if runner is None:
            async with self._one_load:
                runner = self._ready(model, options) or await self._load(model, options)
                runner.users += 1
        else:
            runner.users += 1
        if keep_alive is not None:
            runner.keep_alive = keep_alive
        if runner.ends:
            runner.ends.cancel()
        try:
            yield runner
        finally:
            runner.users -= 1
            self._rest(runner)

    def _ready(self, model: Model, options: LoadOptions) -> Runner | None:
        runner = self.runners.get(full_name(model.name))
        return runner if runner and not runner.stopping and runner.options == options else None

    async def _load(self, model: Model, options: LoadOptions) -> Runner:
        name = full_name(model.name)
        if (other := self.runners.get(name)) is not None:
            self._stop(other)
            await self.until(lambda: self.runners.get(name) is not other, within=3600)
        self.loading = model.name
        self.changed()
        try:
            await self.pass_by(f"load {model.name}")
            if model.load_seconds:
                await self.sleep(model.load_seconds)
            if failure := self._load_failures.pop(name, None):
                raise _LoadRefused(failure)
        except BaseException:
            self.aborted[model.name] += 1
            raise
        finally:
            self.loading = None
            self.changed()
        self.loads[model.name] += 1
        runner = self.runners[name] = Runner(model, options, DEFAULT_KEEP_ALIVE, self.parallel)
        return runner

    def _rest(self, runner: Runner) -> None:
        """A request of the runner has ended."""
        if runner.users or self.runners.get(full_name(runner.model.name)) is not runner:
            return
        if runner.stopping or runner.keep_alive == 0:
            self._stop(runner)
        elif runner.keep_alive > 0:
            loop = asyncio.get_running_loop()
            runner.ends = loop.call_later(runner.keep_alive, self._stop, runner)

    def _stop(self, runner: Runner) -> None:
        """Send the model out; it goes when its last request has ended, and not before the memory is given back."""
        runner.stopping = True
        if runner.users or runner.leaving:
            return
        runner.leaving = True
        task = asyncio.create_task(self._leave(runner), name=f"unload {runner.model.name}")
        self._leaving.add(task)
        task.add_done_callback(self._leaving.discard)

    async def _leave(self, runner: Runner) -> None:
        await self.pass_by(f"unload {runner.model.name}")
        if runner.model.unload_seconds:
            await self.sleep(runner.model.unload_seconds)
        if self._drop(runner):
            self.unloads[runner.model.name] += 1
            self.changed()

    def _drop(self, runner: Runner) -> bool:
        if runner.ends:
            runner.ends.cancel()
        name = full_name(runner.model.name)
        if self.runners.get(name) is not runner:
            return False
        del self.runners[name]
        self.changed()
        return True

    async def _forget_runners(self) -> None:
        for task in (leaving := tuple(self._leaving)):
            task.cancel()
        await asyncio.gather(*leaving, return_exceptions=True)
        for runner in tuple(self.runners.values()):
            self._drop(runner)


class _LoadRefused(Exception):
    """The load failed, and the client is told so by a status."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.body)
        self.refusal = refusal


class Generation:
    """One reply of one model, line by line."""

    def __init__(self, server: LoopbackOllama, exchange: Exchange, runner: Runner, body: dict[str, Any]) -> None:
        self._server = server
        self._exchange = exchange
        self._runner = runner
        self._body = body
        self._streams = body.get("stream", True)
        self._unstreamed: list[dict[str, Any]] = []
        self._spoken = 0
        self._calls = 0
        self._first = True

    async def play(self) -> None:
        counted = prompt_tokens(self._body)
        context = self._runner.context
        if counted > context and self._body.get("truncate") is False:
            await self._server.refuse(self._exchange, Refusal(400, "the input length exceeds the context length"))
            return
        reply = whole(self._server.reply_to(self._body))
        if isinstance(reply[0], Refusal):
            await self._server.refuse(self._exchange, reply[0])
            return
        if self._streams:
            await self._exchange.begin(200, "application/x-ndjson")
        for piece in reply:
            if not await self._passed(piece, counted if counted <= context else shortened(self._body, context)):
                return

    async def _passed(self, piece: Piece, counted: int) -> bool:
        """Send one piece; false when it was the last."""
        match piece:
            case str() | Thought() | Call():
                limit = (self._body.get("options") or {}).get("num_predict", -1)
                if 0 <= limit <= self._spoken:
                    await self._end(End("length"), counted)
                    return False
                if rate := self._runner.model.tokens_per_second:
                    await self._server.sleep(1 / rate)
                await self._line({"message": self._message(piece), "done": False})
            case Hold(door):
                await self._server.stand_at(door)
            case Raw(data):
                await self._exchange.send(data)
            case Fail(text):
                await self._line({"error": text})
                await self._exchange.end()
                return False
            case Silence():
                await self._server.silence()
            case Drop():
                self._exchange.drop()
                return False
            case NoEnd():
                await self._exchange.end()
                return False
            case End():
                await self._end(piece, counted)
                return False
        return True

    async def _end(self, end: End, counted: int) -> None:
        message: dict[str, Any] = {"role": "assistant", "content": ""}
        for piece in end.last:
            message.update(self._message(piece))
        evaluated = counted if end.prompt_tokens is None else end.prompt_tokens
        spoken = self._spoken if end.tokens is None else end.tokens
        line = {
            "message": message,
            "done": True,
            "done_reason": end.reason,
            "total_duration": 5191566416,
            "load_duration": 2154458,
            # A zero is left out, as Go does.
            **({"prompt_eval_count": evaluated, "prompt_eval_duration": 383809000} if evaluated else {}),
            **({"eval_count": spoken, "eval_duration": 4799921000} if spoken else {}),
        }
        if self._streams:
            await self._line(line)
            await self._exchange.end()
        else:
            await self._server.answer(self._exchange, self._headed(_joined([*self._unstreamed, line])))

    def _message(self, piece: str | Thought | Call) -> dict[str, Any]:
        self._spoken += 1
        match piece:
            case Thought(text):
                return {"role": "assistant", "content": "", "thinking": text}
            case Call(name, arguments, id_):
                index, self._calls = self._calls, self._calls + 1
                named = {"id": f"call_{index:08d}" if id_ is None else id_} if id_ != "" else {}
                call = {**named, "function": {"index": index, "name": name, "arguments": arguments}}
                return {"role": "assistant", "content": "", "tool_calls": [call]}
            case text:
                return {"role": "assistant", "content": text}

    async def _line(self, line: dict[str, Any]) -> None:
        if not self._streams:
            self._unstreamed.append(line)
            return
        framing = self._server.framing
        text = json.dumps(line if "error" in line else self._headed(line), ensure_ascii=False)
        data = (framing.first if self._first else b"") + framing.between + text.encode("utf-8", "surrogatepass")
        self._first = False
        for part in framing.cut(data + framing.line_end):
            await self._exchange.send(part)

    def _headed(self, line: dict[str, Any]) -> dict[str, Any]:
        if "messages" not in self._body:
            message = line.pop("message")
            line = {"response": message["content"], **line}
        return {"model": self._body["model"], "created_at": now(), **line}


def _joined(lines: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The one answer that a stream would have been."""
    messages = [line["message"] for line in lines]
    message: dict[str, Any] = {"role": "assistant", "content": "".join(each["content"] for each in messages)}
    if thinking := "".join(each.get("thinking", "") for each in messages):
        message["thinking"] = thinking
    if calls := [*chain.from_iterable(each.get("tool_calls", ()) for each in messages)]:
        message["tool_calls"] = calls
    return {**lines[-1], "message": message}


def _incapable(model: Model, body: Mapping[str, Any]) -> Refusal | None:
    wanted = {"tools": bool(body.get("tools")), "thinking": body.get("think") not in {None, False}}
    for capability, is_wanted in wanted.items():
        if is_wanted and capability not in model.capabilities:
            said_of = f"registry.ollama.ai/library/{model.name}" if capability == "tools" else f'"{model.name}"'
            return Refusal(400, f"{said_of} does not support {capability}")
    return None


def _tag(model: Model) -> dict[str, Any]:
    return {
        "name": full_name(model.name),
        "model": full_name(model.name),
        "modified_at": "2026-05-04T14:56:49.277302595-07:00",
        "size": model.size_mb << 20,
        "digest": model.digest,
        "details": model.details,
    }


def _resident(runner: Runner) -> dict[str, Any]:
    model = runner.model
    ends = datetime.now(UTC) + timedelta(seconds=max(0.0, runner.keep_alive))
    return {
        "name": full_name(model.name),
        "model": full_name(model.name),
        "size": model.size_mb << 20,
        "digest": model.digest,
        "details": model.details,
        "expires_at": FOR_EVER if runner.keep_alive < 0 else nanoseconds(ends),
        "size_vram": 0,
        "context_length": runner.context,
    }


def _described(model: Model) -> dict[str, Any]:
    family = model.family
    return {
        "license": "MIT",
        "modelfile": f"# Modelfile\nFROM /root/.ollama/models/blobs/sha256-{model.digest}\n",
        "parameters": 'stop "<|eot_id|>"',
        "template": "{{ .Prompt }}",
        "details": model.details,
        "model_info": {
            "general.architecture": family,
            "general.parameter_count": 8030261248,
            f"{family}.block_count": 32,
            f"{family}.embedding_length": 4096,
            f"{family}.feed_forward_length": 14336,
            f"{family}.attention.head_count": 32,
            f"{family}.attention.head_count_kv": 8,
            f"{family}.context_length": model.context,
        },
        "capabilities": [*model.capabilities],
        "modified_at": "2026-05-04T14:56:49.277302595-07:00",
    }


def full_name(name: str) -> str:
    """A name that was pulled without a tag is ``:latest`` everywhere."""
    return name if ":" in name.rpartition("/")[2] else f"{name}:latest"


def seconds(keep_alive: Any) -> float | None:
    """What ``keep_alive`` says: a number of seconds, or a duration as Go writes it; negative means for ever.

    Raises:
        ValueError: it is neither, with the words that Ollama has for it.
    """
    if keep_alive is None or isinstance(keep_alive, (int, float)):
        return keep_alive
    parts = re.findall(r"([\d.]+)(ns|us|µs|ms|s|m|h)", text := str(keep_alive))
    if "".join(chain.from_iterable(parts)) != text.lstrip("+-"):
        raise ValueError(f'time: missing unit in duration "{text}"')
    total = sum(float(number) * _UNITS[unit] for number, unit in parts)
    return -total if text.startswith("-") else total


def prompt_tokens(body: Mapping[str, Any]) -> int:
    prompt = body.get("messages") or ({"content": body.get("prompt")},)
    tools = json.dumps(body["tools"]) if body.get("tools") else ""
    return sum(tokens(said(message)) for message in prompt) + tokens(tools)


def shortened(body: Mapping[str, Any], context: int) -> int:
    """Tokens that are left when Ollama cuts a prompt in silence: the oldest messages go first, the last one stays."""
    *earlier, last = body.get("messages") or ({"content": body.get("prompt")},)
    if tokens(said(last)) > context:
        # It is cut in its middle, to about half the context.
        return context // 2 + 2
    left = sum(tokens(said(message)) for message in (*earlier, last))
    for message in earlier:
        if left > context and message.get("role") != "system":
            left -= tokens(said(message))
    return min(left, context)


def now() -> str:
    return nanoseconds(datetime.now(UTC))


def nanoseconds(at: datetime) -> str:
    """RFC 3339 with nine digits, as Go writes it."""
    return f"{at:%Y-%m-%dT%H:%M:%S.%f}123Z"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.loopback.ollama", description="A loopback Ollama.")
    parser.add_argument("--port", type=int, default=0, help="0 for one that the system chooses")
    parser.add_argument("--model", action="append", metavar="NAME=MB", help="may be given several times")
    parser.add_argument("--tokens-per-second", type=float)
    parser.add_argument("--load-seconds", type=float, default=0.0)
    parser.add_argument("--reply", type=Path, metavar="FILE", help="what every chat is answered with")
    given = parser.parse_args()
    models = []
    for named in given.model or ["llama3:latest=4100"]:
        name, _, size = named.partition("=")
        more = {"load_seconds": given.load_seconds, "tokens_per_second": given.tokens_per_second}
        models.append(Model(name, int(size or 1000), **more))
    server = LoopbackOllama(*models, port=given.port)
    if given.reply:
        text = given.reply.read_text("utf-8")
        server.reply_with(lambda body: words(text))
    asyncio.run(serve(server))


if __name__ == "__main__":
    main()
