"""A provider that plays a script: the demo, and what tests talk to.

Everything around the words is real: models take room and time, replies come word by word, and a pause holds the reply,
or the load, until :meth:`ScriptedProvider.cue` lets it go on.
"""

import asyncio
import re
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import aclosing, asynccontextmanager
from types import MappingProxyType
from typing import Any, Final

from wilson.domain import errors
from wilson.domain.chat import ChatRequest, Chunk, Finish, FinishReason, TextPiece, ToolCall
from wilson.domain.errors import BadReply, LoadFailed, ModelMissing, ProviderError
from wilson.domain.model import Endpoint, Health, LoadedModel, ModelFacts, ModelSpec
from wilson.domain.script import Call, CutShort, Pause, Rule, Say, Script, ScriptedModel, Stumble
from wilson.providers.base import Progress, canonical

Sleep = Callable[[float], Awaitable[object]]
_WORDS: Final = re.compile(r"\S*\s*")
_ERRORS: Final[Mapping[str, type[ProviderError]]] = MappingProxyType({
    name: kind for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, ProviderError)
})


class ScriptedProvider:
    """One scripted endpoint.

    ``log`` holds what was done to it, such as ``load coder``, ``stream coder``, ``pause coder``, ``unload coder``;
    ``requests`` holds every chat request. ``sleep`` passes the script's seconds.
    """

    manages_memory = True

    def __init__(self, endpoint: Endpoint, script: Script, *, sleep: Sleep = asyncio.sleep) -> None:
        self.endpoint = endpoint
        self.log: list[str] = []
        self.requests: list[ChatRequest] = []
        self._script = script
        self._sleep = sleep
        self._models = {canonical(model.name): model for model in script.models}
        self._loaded: dict[str, LoadedModel] = {}
        self._used: Counter[int] = Counter()
        self._cued: set[str] = set()
        self._changed = asyncio.Condition()

    async def reached(self, entry: str, times: int = 1) -> None:
        """Wait until the log holds ``entry`` so often."""
        async with self._changed:
            await self._changed.wait_for(lambda: self.log.count(entry) >= times)

    async def cue(self, name: str) -> None:
        """Let everything that pauses at ``name`` go on, now and whenever it comes there."""
        async with self._changed:
            self._cued.add(name)
            self._changed.notify_all()

    async def health(self) -> Health:
        return Health(ok=True, detail="scripted replies, no model")

    async def installed(self) -> tuple[ModelFacts, ...]:
        return tuple(map(_facts, self._script.models))

    async def show(self, model: str) -> ModelFacts:
        return _facts(self._model(model))

    async def loaded(self) -> tuple[LoadedModel, ...]:
        return tuple(self._loaded.values())

    async def load(self, spec: ModelSpec, progress: Progress) -> None:
        model = self._model(spec.name)
        if canonical(spec.name) in self._loaded:
            return
        await self._note(f"load {spec.name}")
        for tenth in range(10):
            progress(tenth / 10)
            if model.load_seconds:
                await self._sleep(model.load_seconds / 10)
        if model.pause_load:
            await self._pause(f"load {spec.name}")
        if model.load_error:
            raise LoadFailed(f"{spec.name} could not be loaded: {model.load_error}")
        self._loaded[canonical(spec.name)] = LoadedModel(
            name=spec.name, memory_mb=model.size_mb, context=spec.context or model.context
        )

    async def unload(self, spec: ModelSpec) -> None:
        model = self._model(spec.name)
        if canonical(spec.name) not in self._loaded:
            return
        await self._note(f"unload {spec.name}")
        if model.unload_seconds:
            await self._sleep(model.unload_seconds)
        self._loaded.pop(canonical(spec.name), None)

    async def release(self, spec: ModelSpec) -> None:
        await self.unload(spec)

    @asynccontextmanager
    async def chat(self, spec: ModelSpec, request: ChatRequest) -> AsyncIterator[AsyncGenerator[Chunk]]:
        self.requests.append(request)
        await self._note(f"stream {spec.name}")
        async with aclosing(self._reply(spec, request)) as chunks:
            yield chunks

    async def aclose(self) -> None:
        self._loaded.clear()

    async def _reply(self, spec: ModelSpec, request: ChatRequest) -> AsyncGenerator[Chunk]:
        last = request.messages[-1].content if request.messages else ""
        rule, match = self._due(request.purpose, spec.name, last)
        said = 0
        finish = FinishReason.STOP
        for number, part in enumerate(rule.parts, start=1):
            match part:
                case Say(text):
                    for word in self._paced(match.expand(text) if match.re.groups else text, spec.name):
                        said += 1
                        await self._pass_word(spec.name)
                        yield TextPiece(word)
                case Call(name, arguments):
                    yield ToolCall(f"call-{number}", name, _expanded(arguments, match))
                case Pause(name):
                    await self._pause(name)
                case Stumble(kind, text):
                    raise _ERRORS[kind](text)
                case CutShort():
                    finish = FinishReason.LENGTH
        prompt = sum(len(message.content.split()) for message in request.messages)
        yield Finish(finish, prompt, said)

    def _due(self, purpose: str, model: str, last: str) -> tuple[Rule, re.Match[str]]:
        for number, rule in enumerate(self._script.rules):
            if match := rule.fits(purpose, model, last, self._used[number]):
                self._used[number] += 1
                return rule, match
        raise BadReply(f"the script has no reply for the purpose {purpose!r} to {last[:80]!r}")

    def _paced(self, text: str, model: str) -> list[str]:
        if self._model(model).tokens_per_second is None:
            return [text]
        return [word for word in _WORDS.findall(text) if word]

    async def _pass_word(self, model: str) -> None:
        if rate := self._model(model).tokens_per_second:
            await self._sleep(1 / rate)

    async def _pause(self, name: str) -> None:
        await self._note(f"pause {name}")
        async with self._changed:
            await self._changed.wait_for(lambda: name in self._cued)

    async def _note(self, entry: str) -> None:
        self.log.append(entry)
        async with self._changed:
            self._changed.notify_all()

    def _model(self, name: str) -> ScriptedModel:
        model = self._models.get(canonical(name))
        if model is None:
            raise ModelMissing(f"the script of {self.endpoint.name} has no model {name}")
        return model


def _expanded(value: Any, match: re.Match[str]) -> Any:
    match value:
        case str() if match.re.groups:
            return match.expand(value)
        case dict():
            return {key: _expanded(inner, match) for key, inner in value.items()}
        case list():
            return [_expanded(inner, match) for inner in value]
    return value


def _facts(model: ScriptedModel) -> ModelFacts:
    return ModelFacts(
        name=model.name,
        size_mb=model.size_mb,
        context=model.context,
        parameters=model.parameters,
        tools=model.tools,
    )
