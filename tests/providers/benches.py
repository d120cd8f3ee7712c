"""Four providers, each with what stands behind it, so that one contract can be put to all of them."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from tests.loopback.ollama import LoopbackOllama
from tests.loopback.openai import LoopbackOpenAI
from tests.loopback.replies import Call, Reply, Silence, fitting
from tests.providers.spoken_models import SENTENCE
from tests.providers.talk import PATIENT, asked, heard
from wilson.domain import script
from wilson.domain.model import Endpoint, ModelSpec, ProviderKind
from wilson.domain.script import Rule, Say, Script, ScriptedModel
from wilson.providers.base import Provider
from wilson.providers.llamacpp import LlamaCppProvider
from wilson.providers.ollama import OllamaProvider
from wilson.providers.openai import OpenAIProvider
from wilson.providers.scripted import ScriptedProvider

ModelFile = Callable[[str], Path]


@dataclass(kw_only=True)
class Bench:
    """A provider under test, and the models that are installed there."""

    provider: Provider
    loads: Callable[[], int]
    """Loads of the answering model so far."""
    idle: Callable[[], AbstractAsyncContextManager[None]]
    """Its block ends when nothing generates any more."""
    load_begun: asyncio.Event = field(default_factory=asyncio.Event)
    answering: ModelSpec
    answer: Callable[[str], str] = str
    """What the answering model says to a question; an echo."""
    endless: ModelSpec
    """Goes on until it is stopped."""
    slow: ModelSpec
    """Its load does not end before it is given up."""
    calling: ModelSpec
    """Calls a tool whenever it has one."""
    varied: ModelSpec
    """Says something else to every question, and the same whenever the same is asked."""
    absent: str = "nosuch:7b"

    def progress(self, share: float | None) -> None:
        self.load_begun.set()


def children() -> list[psutil.Process]:
    """Every process that this one has started, and that is there."""
    return psutil.Process().children(recursive=True)


async def gone(processes: Iterable[psutil.Process], within: float = 2) -> bool:
    """Whether all of them have ended in time."""
    watched = tuple(processes)

    def wait() -> bool:
        end = time.monotonic() + within
        while not (over := all(map(has_ended, watched))) and time.monotonic() < end:
            time.sleep(0.005)  # The system tells nobody but the parent.
        return over

    return await asyncio.to_thread(wait)


def has_ended(process: psutil.Process) -> bool:
    """Whether it is gone, or only its parent has not heard of it yet."""
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def _usual(server: LoopbackOllama | LoopbackOpenAI) -> Callable[[dict[str, Any]], Reply]:
    def reply(body: dict[str, Any]) -> Reply:
        if body["model"].startswith("endless"):
            return "It ", "goes ", "on ", Silence()
        if tools := body.get("tools"):
            function = tools[0]["function"]
            return (Call(function["name"], fitting(function["parameters"])),)
        return server.usual(body)

    return reply


@asynccontextmanager
async def ollama(tmp_path: Path, any_model: ModelFile) -> AsyncIterator[Bench]:
    async with LoopbackOllama("answering:8b", "endless:8b", "slow:14b", parallel=4) as server:
        server.reply_with(_usual(server))
        server.hold("load slow:14b")
        endpoint = Endpoint(name="here", provider=ProviderKind.OLLAMA, url=server.url)
        spec = ModelSpec(endpoint="here", name="answering:8b", context=8192)

        @asynccontextmanager
        async def idle() -> AsyncIterator[None]:
            yield
            await server.until(lambda: server.running == 0)

        yield Bench(
            provider=OllamaProvider(endpoint, PATIENT),
            loads=lambda: server.loads["answering:8b"],
            idle=idle,
            answering=spec,
            endless=_named(spec, "endless:8b"),
            slow=_named(spec, "slow:14b"),
            calling=spec,
            varied=spec,
        )
        await server.until(lambda: server.running == 0 and server.loading is None)
        assert server.loads["slow:14b"] == 0


@asynccontextmanager
async def openai(tmp_path: Path, any_model: ModelFile) -> AsyncIterator[Bench]:
    async with LoopbackOpenAI("answering", "endless", "slow") as server:
        server.reply_with(_usual(server))
        endpoint = Endpoint(name="here", provider=ProviderKind.OPENAI, url=server.url)
        spec = ModelSpec(endpoint="here", name="answering", context=None)

        @asynccontextmanager
        async def idle() -> AsyncIterator[None]:
            yield
            await server.until(lambda: server.running == 0)

        yield Bench(
            provider=OpenAIProvider(endpoint, PATIENT),
            loads=lambda: 1,
            idle=idle,
            answering=spec,
            endless=_named(spec, "endless"),
            slow=_named(spec, "slow"),
            calling=spec,
            varied=spec,
        )
        await server.until(lambda: server.running == 0)


@asynccontextmanager
async def llamacpp(tmp_path: Path, any_model: ModelFile) -> AsyncIterator[Bench]:
    folder = tmp_path / "models"
    folder.mkdir()
    made = {"answering": "answering", "calling": "calling", "endless": "talkative", "slow": "large"}
    files = {name: folder / f"{name}.gguf" for name in made}
    for name, file in files.items():
        file.symlink_to(any_model(made[name]))
    endpoint = Endpoint(name="here", provider=ProviderKind.LLAMACPP)
    provider = LlamaCppProvider(endpoint, PATIENT, folders=(folder,))
    spec = ModelSpec(endpoint="here", name=str(files["answering"]), context=8192, threads=1)
    pids: set[int] = set()

    def loads() -> int:
        pids.update(child.pid for child in children())
        return len(pids)

    @asynccontextmanager
    async def idle() -> AsyncIterator[None]:
        yield
        # The child has one slot, and without a limit its reply takes more than ten seconds.
        async with asyncio.timeout(5):
            await heard(provider, _named(spec, str(files["endless"])), asked(max_tokens=1))

    yield Bench(
        provider=provider,
        loads=loads,
        idle=idle,
        answering=spec,
        answer=lambda question: SENTENCE,
        endless=_named(spec, str(files["endless"])),
        slow=_named(spec, str(files["slow"])),
        calling=_named(spec, str(files["calling"])),
        varied=_named(spec, str(files["endless"])),
    )


@asynccontextmanager
async def scripted(tmp_path: Path, any_model: ModelFile) -> AsyncIterator[Bench]:
    played = Script(
        models=(
            ScriptedModel(name="answering:8b", size_mb=4000, tokens_per_second=1e6),
            ScriptedModel(name="endless:8b"),
            ScriptedModel(name="calling:8b"),
            ScriptedModel(name="slow:14b", pause_load=True),
        ),
        rules=(
            Rule(model="endless:8b", parts=(Say("It goes on "), script.Pause("for ever"))),
            Rule(model="calling:8b", parts=(script.Call("add", {"length": 1, "unit": "mm"}),)),
            Rule(matches="(.*)", parts=(Say(r"\1"),)),
        ),
    )
    provider = ScriptedProvider(Endpoint(name="here", provider=ProviderKind.SCRIPTED), played)
    spec = ModelSpec(endpoint="here", name="answering:8b", context=8192)

    @asynccontextmanager
    async def idle() -> AsyncIterator[None]:
        yield

    yield Bench(
        provider=provider,
        loads=lambda: provider.log.count("load answering:8b"),
        idle=idle,
        answering=spec,
        endless=_named(spec, "endless:8b"),
        slow=_named(spec, "slow:14b"),
        calling=_named(spec, "calling:8b"),
        varied=spec,
    )


def _named(spec: ModelSpec, name: str) -> ModelSpec:
    return ModelSpec(endpoint=spec.endpoint, name=name, context=spec.context, threads=spec.threads)


BENCHES = {"ollama": ollama, "openai": openai, "llamacpp": llamacpp, "scripted": scripted}
