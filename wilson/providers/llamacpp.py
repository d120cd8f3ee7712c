"""GGUF files, each run by a child process of Wilson's own, spoken to as to any compatible server."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from wilson.domain.chat import ChatRequest, Chunk
from wilson.domain.errors import LoadFailed, ModelMissing, ProviderError, StreamBroken, Unreachable
from wilson.domain.model import DEFAULT_CONTEXT, Endpoint, Health, LoadedModel, ModelFacts, ModelSpec, Patience
from wilson.domain.value import Struct
from wilson.providers.base import Progress
from wilson.providers.engine_process import EngineProcess, EngineSettings, found_command, threads_for
from wilson.providers.gguf import read_header
from wilson.providers.http import HttpClient
from wilson.providers.openai import OpenAIChat


class _Running(Struct, frozen=True):
    engine: EngineProcess
    http: HttpClient
    chat: OpenAIChat


class LlamaCppProvider:
    """Model files of this machine.

    A model's name is its file's path, or its file's name in one of ``folders``, of which the first is Wilson's own.
    """

    manages_memory = True

    def __init__(self, endpoint: Endpoint, patience: Patience, *, folders: tuple[Path, ...]) -> None:
        self.endpoint = endpoint
        self._patience = patience
        self._folders = folders
        self._running: dict[str, _Running] = {}

    async def health(self) -> Health:
        try:
            command = self.endpoint.command or found_command()
        except LoadFailed as error:
            return Health(ok=False, detail=str(error))
        return Health(ok=True, detail=f"runs {command}" if command else "runs the engine that came with Wilson")

    async def installed(self) -> tuple[ModelFacts, ...]:
        return await asyncio.to_thread(self._listed)

    async def show(self, model: str) -> ModelFacts:
        return await asyncio.to_thread(self._facts, model, self._file(model))

    async def loaded(self) -> tuple[LoadedModel, ...]:
        return tuple(
            LoadedModel(name=name, memory_mb=running.engine.memory_mb(), context=running.engine.settings.context)
            for name, running in self._running.items()
            if running.engine.alive
        )

    async def load(self, spec: ModelSpec, progress: Progress) -> None:
        if (known := self._running.get(spec.name)) and known.engine.alive:
            return
        await self.unload(spec)
        path = self._file(spec.name)
        header = await asyncio.to_thread(read_header, path)
        context = spec.context or header.trained_context or DEFAULT_CONTEXT
        settings = EngineSettings(
            model=path.resolve(),
            alias=spec.label,
            context=context,
            threads=spec.threads or threads_for(spec.resident),
            cache_mb=256 if spec.resident else 0,
            expected_mb=header.memory_mb(context),
            command=self.endpoint.command,
        )
        engine = await EngineProcess.start(settings, progress, self._patience.load_s)
        http = HttpClient(f"{engine.url}/v1", self._patience, name=f"the engine of {spec.label}", key=engine.key)
        self._running[spec.name] = _Running(engine, http, OpenAIChat(http))

    async def unload(self, spec: ModelSpec) -> None:
        if running := self._running.get(spec.name):
            await running.engine.stop()
            await running.http.aclose()
            self._running.pop(spec.name, None)

    async def release(self, spec: ModelSpec) -> None:
        await self.unload(spec)

    @asynccontextmanager
    async def chat(self, spec: ModelSpec, request: ChatRequest) -> AsyncIterator[AsyncGenerator[Chunk]]:
        running = self._running.get(spec.name)
        if running is None or not running.engine.alive:
            raise Unreachable(f"{spec.label} is not loaded{f': {running.engine.why_it_ended()}' if running else ''}")
        try:
            async with running.chat.stream(spec.label, request) as chunks:
                yield chunks
        except (StreamBroken, Unreachable) as error:
            if running.engine.alive:
                raise
            raise StreamBroken(f"{spec.label} stopped in mid-reply: {running.engine.why_it_ended()}") from error

    async def aclose(self) -> None:
        for running in tuple(self._running.values()):
            await running.engine.stop()
            await running.http.aclose()
        self._running.clear()

    def _listed(self) -> tuple[ModelFacts, ...]:
        found = []
        for path in sorted(self._folders[0].glob("**/*.gguf")):
            try:
                found.append(self._facts(str(path), path))
            except ProviderError:
                continue  # A damaged or half-downloaded file is no model; asking for it by name says what is wrong.
        return tuple(found)

    def _file(self, model: str) -> Path:
        """Where the model is.

        Raises:
            ModelMissing: it is in none of the places.
        """
        name = Path(model).expanduser()
        places = [name] if name.is_absolute() else [folder / name for folder in self._folders]
        for place in places:
            for file in (place, place.with_name(f"{place.name}.gguf")):
                if file.is_file():
                    return file
        tried = ", ".join(str(place) for place in places)
        raise ModelMissing(f"there is no model file {model}; looked for {tried}")

    def _facts(self, name: str, path: Path) -> ModelFacts:
        header = read_header(path)
        return ModelFacts(
            name=name,
            size_mb=header.size >> 20,
            context=header.trained_context,
            parameters=header.parameters,
            tools=header.calls_tools,
        )
