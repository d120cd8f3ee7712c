"""Wilson in this process: the rooms are opened here, in order, and closed the other way round."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from typing import Any

from wilson.assistant import setup
from wilson.config import profiles
from wilson.config.script_file import read_script
from wilson.config.settings import Settings, load
from wilson.config.user_file import set_value, write_profile
from wilson.domain.agent import Agent
from wilson.domain.errors import ProviderError, WilsonError
from wilson.domain.event import Erred, ProfileChanged
from wilson.domain.front_door import Said, SaidBefore, Served
from wilson.domain.model import Endpoint, EndpointReport, ModelReport, Patience, Purpose
from wilson.domain.profile import Profile
from wilson.domain.status import StatusLine
from wilson.domain.task import Task, TaskDraft, TaskId, TaskState
from wilson.domain.value import replace
from wilson.engine.bus import Bus, Clock, Events
from wilson.engine.chat import Chat
from wilson.engine.chat_seat import ChatSeat
from wilson.engine.chat_tools import ChatTools
from wilson.engine.endpoints import Endpoints
from wilson.engine.herald import Herald, notice
from wilson.engine.model_pool import ModelPool
from wilson.engine.waiting import see_through
from wilson.engine.worker import Surroundings
from wilson.engine.worker_manager import WorkerManager
from wilson.providers.base import Provider, canonical
from wilson.providers.opening import open_provider
from wilson.store.opening import Store, open_store
from wilson.store.ownership import Ownership
from wilson.workspace.files import Workspace

Open = Callable[[Endpoint, Patience], Provider]


class Assistant:
    """Wilson, the owner of the store."""

    def __init__(self, settings: Settings, ownership: Ownership, store: Store, bus: Bus, clock: Clock) -> None:
        self.settings = settings
        self._ownership = ownership
        self._store = store
        self._bus = bus
        self._clock = clock
        self._stack = AsyncExitStack()
        self._background: set[asyncio.Task[None]] = set()

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        settings: Settings,
        ownership: Ownership,
        *,
        runs_all: bool,
        open_endpoint: Open | None = None,
        clock: Clock = lambda: datetime.now(UTC),
    ) -> AsyncIterator["Assistant"]:
        """Wilson, as long as the block lasts; afterwards its workers are ended and its models are gone.

        ``runs_all``: take on every task there is; otherwise only those that somebody waits for.

        Raises:
            StoreError: the store cannot be opened.
        """
        folders = settings.sources.folders
        bus = Bus(clock)
        async with open_store(folders.store) as store:
            assistant = cls(settings, ownership, store, bus, clock)
            try:
                await assistant._move_in(open_endpoint or assistant._open_endpoint, runs_all)
                yield assistant
            finally:
                await see_through(assistant._move_out())

    async def _move_in(self, open_endpoint: Open, runs_all: bool) -> None:
        emit = self._bus.emit
        self._herald = Herald(self._store, emit, self._clock)
        self._endpoints = Endpoints(open_endpoint)
        self._stack.push_async_callback(self._endpoints.aclose)
        self._pool = await self._stack.enter_async_context(ModelPool(emit))
        self._seat = ChatSeat(self._endpoints, self._pool, self._current_profile, emit)
        self._stack.push_async_callback(self._seat.leave)
        around = Surroundings(
            store=self._store,
            pool=self._pool,
            endpoints=self._endpoints,
            workspace=Workspace(self.settings.sources.workspace),
            herald=self._herald,
            emit=emit,
            clock=self._clock,
        )
        self._tell_profile()
        await self._herald.tell(await self._store.tasks.interrupt_orphans(at=self._clock()))
        waiting = await self._store.tasks.in_states(TaskState.IN_REVIEW)
        self._bus.status = replace(self._bus.status, approvals=tuple(task.id for task in waiting))
        manager = WorkerManager(around, self._current_profile, runs_all=runs_all)
        self._manager = await self._stack.enter_async_context(manager)
        tools = ChatTools(self._store, self._manager, self._current_profile, self.models)
        self._chat = Chat(self._store, tools, self._seat.model, emit, self._clock)
        self._stack.push_async_callback(self._chat.close)

    async def _move_out(self) -> None:
        for task in self._background:
            task.cancel()
        if self._background:
            await asyncio.wait(self._background)
        await self._stack.aclose()
        self._bus.close()
        # Only now: whoever owns the store next finds no worker and no model of ours.
        self._ownership.give_up()

    @property
    def agents(self) -> Mapping[str, Agent]:
        return self._current_profile().agents

    @property
    def profile(self) -> Profile:
        return self._current_profile()

    def events(self) -> AbstractAsyncContextManager[Events]:
        return self._bus.events()

    async def wake(self) -> None:
        """Load the chat model, so that the first prompt need not wait for it.

        Raises:
            ProviderError: it could not be found or loaded.
        """
        await self._seat.model()

    async def begin_conversation(self) -> str:
        return await self._store.conversations.begin(self._folder, at=self._clock())

    async def last_conversation(self) -> str | None:
        """The one that was last continued in this folder."""
        return await self._store.conversations.latest(self._folder)

    async def said_before(self, conversation: str) -> tuple[SaidBefore, ...]:
        """
        Raises:
            UsageError: there is no such conversation.
        """
        turns = await self._store.conversations.turns(conversation)
        shown = ((turn.message, turn.message.content if turn.shown is None else turn.shown) for turn in turns)
        return tuple(SaidBefore(message.role == "user", text) for message, text in shown if text)

    async def say(self, prompt: str, conversation: str | None = None, max_turns: int | None = None) -> Said:
        conversation = conversation or await self.begin_conversation()
        try:
            return await self._chat.say(prompt, conversation, max_turns)
        except ProviderError:
            # The model may have gone without a word; the next prompt looks for it anew.
            self._in_background(self._seat.give_up(), "giving up the chat model")
            raise

    async def stop(self, conversation: str) -> None:
        self._chat.stop(conversation)

    async def delegate(self, draft: TaskDraft) -> Task:
        return await self._manager.delegate(draft)

    async def ended(self, task: TaskId) -> Task:
        await self._manager.want(task)
        return await self._manager.ended(task)

    async def cancel(self, task: TaskId) -> Task:
        return await self._manager.cancel(task)

    async def accept(self, task: TaskId) -> Task:
        return await self._manager.accept(task)

    async def retry(self, task: TaskId) -> Task:
        return await self._manager.retry(task)

    async def task(self, task: TaskId) -> Task:
        return await self._store.tasks.get(task)

    async def left_over(self) -> tuple[str, ...]:
        interrupted = await self._store.tasks.take_unseen()
        waiting = await self._store.tasks.in_states(TaskState.IN_REVIEW)
        return tuple(notice(task) for task in (*interrupted, *waiting))

    async def tasks(self) -> tuple[Task, ...]:
        return await self._store.tasks.all()

    async def status(self) -> StatusLine:
        return replace(self._bus.status, queue=await self._manager.queue())

    async def models(self) -> tuple[EndpointReport, ...]:
        profile = self.profile
        used = {choice.provider for choice in profile.llms.values()}
        reports = await asyncio.gather(*(self._report(endpoint, profile) for endpoint in profile.endpoints))
        return tuple(report for report in reports if report.provider in used or (report.healthy and report.models))

    async def _report(self, endpoint: Endpoint, profile: Profile) -> EndpointReport:
        provider = self._endpoints.provider(endpoint, profile.patience)
        health = await provider.health()
        models: tuple[ModelReport, ...] = ()
        detail = health.detail
        if health.ok:
            try:
                models = await self._models_at(provider, profile)
            except ProviderError as error:
                health, detail = replace(health, ok=False), str(error)
        return EndpointReport(
            name=endpoint.name,
            provider=endpoint.provider,
            url=endpoint.url,
            healthy=health.ok,
            detail=detail,
            models=models,
        )

    async def _models_at(self, provider: Provider, profile: Profile) -> tuple[ModelReport, ...]:
        endpoint = provider.endpoint
        facts = {canonical(model.name): model for model in await provider.installed()}
        for choice in profile.llms.values():
            if choice.provider is endpoint.provider and canonical(choice.model) not in facts:
                with contextlib.suppress(ProviderError):  # It is missing, and the list is of what is there.
                    facts[canonical(choice.model)] = await provider.show(choice.model)
        loaded = {canonical(model.name): model for model in await provider.loaded()}
        own = {canonical(name) for place, name in self._pool.census() if place == endpoint.name}
        tasks = {
            canonical(worker.model): worker.task
            for worker in self._bus.status.workers
            if worker.endpoint == endpoint.name
        }
        reports = []
        for name in sorted(facts.keys() | loaded.keys()):
            model, there = facts.get(name), loaded.get(name)
            reports.append(
                ModelReport(
                    name=model.name if model else name,
                    size_mb=model.size_mb if model else None,
                    context=there.context if there else model.context if model else None,
                    loaded=there is not None,
                    memory_mb=there.memory_mb if there else None,
                    purposes=profile.purposes_of(model.name if model else name),
                    loaded_by=None if there is None else "wilson" if name in own else "other",
                    task=tasks.get(name),
                )
            )
        return tuple(reports)

    async def served_at(self, url: str) -> Served:
        return await setup.look_at(url, self.profile.patience)

    async def use_server(self, served: Served, chat: str, code: str) -> None:
        await self._use_own(setup.server_profile(served, chat, code))

    async def use_file(self, path: str) -> None:
        await self._use_own(await asyncio.to_thread(setup.file_profile, path))

    async def _use_own(self, content: Mapping[str, Any]) -> None:
        sources = self.settings.sources
        await asyncio.to_thread(write_profile, sources.folders.profiles / f"{setup.OWN_PROFILE}.yaml", content)
        await asyncio.to_thread(set_value, sources.user_config, "profile", setup.OWN_PROFILE)
        await self.use_profile(setup.OWN_PROFILE)

    async def profiles(self) -> tuple[str, ...]:
        """The names of all profiles."""
        return tuple(profile.name for profile in profiles.all_profiles(self.settings.sources.folders))

    async def use_profile(self, name: str) -> None:
        """Another profile for everything that starts from now on; running tasks end on the models they have.

        Raises:
            ConfigError, UsageError: there is no such profile, or it is broken; the old one stays in force.
        """
        sources = self.settings.sources
        flags = {**sources.flags, "profile": name}
        self.settings = await asyncio.to_thread(load, replace(sources, flags=flags))
        self._tell_profile()
        self._pool.dismiss_idle()
        self._manager.look_soon()
        if self._seat.taken:
            self._in_background(self.wake(), "loading the chat model")

    def announce(self, socket: str | None) -> None:
        """Let other processes know where this one can be asked, or that it no longer can."""
        self._ownership.announce(socket)

    def _tell_profile(self) -> None:
        profile = self.profile
        self._bus.emit(
            ProfileChanged(
                name=profile.name,
                demo=profile.is_demo,
                chat_model=profile.choice(Purpose.CHAT).model,
                max_memory_mb=profile.resources.max_memory_mb,
                warn_threshold_mb=profile.resources.warn_threshold_mb,
            )
        )

    def _in_background(self, work: Coroutine[Any, Any, None], name: str) -> None:
        async def told() -> None:
            try:
                await work
            except WilsonError as error:
                self._bus.emit(Erred(text=str(error), kind=type(error).__name__))

        task = asyncio.create_task(told(), name=name)
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    def _open_endpoint(self, endpoint: Endpoint, patience: Patience) -> Provider:
        sources = self.settings.sources
        folders = (sources.folders.models, sources.user_config.parent, sources.workspace)
        return open_provider(endpoint, patience, model_folders=folders, script=read_script)

    def _current_profile(self) -> Profile:
        return self.settings.profile

    @property
    def _folder(self) -> str:
        return str(self.settings.sources.workspace.resolve())
