"""The whole house on a script: real store, real files, real machinery; only the words are played."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from wilson.assistant.here import Assistant
from wilson.config.folders import Folders
from wilson.config.settings import Settings, Sources, load
from wilson.domain.event import Event, Happened
from wilson.domain.model import Endpoint, Patience, ProviderKind
from wilson.domain.script import Rule, Say, Script, ScriptedModel
from wilson.domain.task import TaskDraft, TaskType
from wilson.providers.base import Provider
from wilson.providers.llamacpp import LlamaCppProvider
from wilson.providers.scripted import ScriptedProvider, Sleep
from wilson.store.ownership import Ownership

T = TypeVar("T", bound=Event)

CONFIG = """
endpoints: [{{name: here, provider: scripted, script: none.yaml}}]
llms:
  chat: {{provider: scripted, model: chat, keep_alive: true}}
  code: {{provider: scripted, model: coder}}
  analysis: {{provider: scripted, model: analyst}}
workers: {{max_concurrent: {workers}}}
permissions: {{mode: {mode}}}
"""
FILES = "Files: hello.py\n\n```python\n# filepath: hello.py\nprint('hello from a worker')\n```\n"


def script(*rules: Rule, **coder: object) -> Script:
    """Three models; after the given rules coders write a file, analysts and the chat say something."""
    return Script(
        models=(
            ScriptedModel(name="chat", size_mb=4000, parameters="8B"),
            ScriptedModel(name="coder", size_mb=8000, parameters="14B", **coder),
            ScriptedModel(name="analyst", size_mb=6000),
        ),
        rules=(
            *rules,
            Rule(purpose="code", parts=(Say(FILES),)),
            Rule(purpose="analysis", parts=(Say("A mutex lets one at a time."),)),
            Rule(purpose="chat", parts=(Say("Yes."),)),
        ),
    )


@dataclass
class House:
    """An assistant, the provider behind it, and everything that has happened."""

    assistant: Assistant
    provider: ScriptedProvider
    workspace: Path
    settings: Settings
    happened: list[Happened] = field(default_factory=list)
    _news: asyncio.Condition = field(default_factory=asyncio.Condition)

    def of(self, kind: type[T]) -> list[T]:
        """Every event of one kind so far."""
        return [happened.event for happened in self.happened if isinstance(happened.event, kind)]

    async def until(self, is_true: Callable[[], bool]) -> None:
        """Wait for something to become true by what happens."""
        async with asyncio.timeout(20), self._news:
            await self._news.wait_for(is_true)

    async def listen(self) -> None:
        async with self.assistant.events() as events:
            async for happened in events:
                self.happened.append(happened)
                async with self._news:
                    self._news.notify_all()


def code(goal: str = "write hello.py", **more: object) -> TaskDraft:
    return TaskDraft(goal=goal, type=TaskType.CODE, agent="code", **more)


def analysis(goal: str = "what is a mutex?", **more: object) -> TaskDraft:
    return TaskDraft(goal=goal, type=TaskType.ANALYSIS, agent="analysis", **more)


def settings_in(root: Path, *, workers: int = 2, mode: str = "accept-edits", config: str = "") -> Settings:
    folders = Folders.here({"WILSON_HOME": str(root / "home")})
    folders.make()
    workspace = root / "workspace"
    workspace.mkdir(exist_ok=True)
    folders.user_config.write_text(config or CONFIG.format(workers=workers, mode=mode), "utf-8")
    return load(Sources(folders=folders, environ={}, workspace=workspace))


@asynccontextmanager
async def house(
    root: Path,
    played: Script,
    *,
    workers: int = 2,
    mode: str = "accept-edits",
    runs_all: bool = True,
    sleep: Sleep = asyncio.sleep,
    real_models: bool = False,
    config: str = "",
) -> AsyncIterator[House]:
    """Wilson on a script, as long as the block lasts; with ``real_models`` GGUF files are really run."""
    settings = settings_in(root, workers=workers, mode=mode, config=config)
    here = Endpoint(name="here", provider=ProviderKind.SCRIPTED, script="none.yaml")
    provider = ScriptedProvider(here, played, sleep=sleep)
    ownership = Ownership.claim(settings.sources.folders.state)
    assert ownership is not None

    def opened(endpoint: Endpoint, patience: Patience) -> Provider:
        if endpoint.name == "here":
            return provider
        if real_models and endpoint.provider is ProviderKind.LLAMACPP:
            return LlamaCppProvider(endpoint, patience, folders=(root,))
        return ScriptedProvider(endpoint, Script(models=(), rules=()))

    async with Assistant.open(settings, ownership, runs_all=runs_all, open_endpoint=opened) as assistant:
        found = House(assistant, provider, settings.sources.workspace, settings)
        listening = asyncio.create_task(found.listen())
        await asyncio.sleep(0)
        try:
            yield found
        finally:
            listening.cancel()
            await asyncio.wait({listening})
