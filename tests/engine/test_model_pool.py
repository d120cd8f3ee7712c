import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wilson.domain.chat import ChatRequest, Message, Role, TextPiece
from wilson.domain.errors import LoadFailed
from wilson.domain.event import Event, ModelLoaded, ModelLoading, ModelMeasured, ModelUnloaded, ModelUnloading, Warned
from wilson.domain.model import Endpoint, LoadedModel, ModelSpec, ProviderKind
from wilson.domain.script import Pause, Rule, Say, Script, ScriptedModel
from wilson.engine.model_pool import ModelLease, ModelPool
from wilson.providers.scripted import ScriptedProvider

ENDPOINT = Endpoint(name="here", provider=ProviderKind.SCRIPTED, script="none")
CODER = ModelSpec(endpoint="here", name="coder", context=4096)
CHAT = ModelSpec(endpoint="here", name="chat", context=4096, resident=True, linger=float("inf"))


def script(*parts: str | None, **coder: object) -> Script:
    """Models that say ``parts``; none is a pause until ``cue("coder")``."""
    said = tuple(Pause("coder") if part is None else Say(part) for part in parts)
    models = (ScriptedModel(name="coder", size_mb=8000, **coder), ScriptedModel(name="chat", size_mb=4000))
    return Script(models=models, rules=(Rule(parts=said),))


def scripted(*parts: str | None, **coder: object) -> ScriptedProvider:
    return ScriptedProvider(ENDPOINT, script(*parts, **coder))


def ignore(event: Event) -> None:
    pass


async def say(pool: ModelPool, provider: ScriptedProvider, spec: ModelSpec = CODER) -> str:
    async with pool.lease(provider, spec) as lease:
        return await answer(lease)


async def answer(lease: ModelLease) -> str:
    request = ChatRequest(messages=(Message(role=Role.USER, content="go on"),))
    async with lease.chat(request) as chunks:
        return "".join([chunk.text async for chunk in chunks if isinstance(chunk, TextPiece)])


async def test_a_lease_loads_the_model_and_leaving_it_unloads():
    provider = scripted("def ", "todo")
    events: list[Event] = []

    async with ModelPool(events.append) as pool:
        assert await say(pool, provider) == "def todo"
        assert pool.census() == {}

    assert provider.log == ["load coder", "stream coder", "unload coder"]
    assert [type(event) for event in events if not isinstance(event, ModelLoading)] == [
        ModelLoaded,
        ModelUnloading,
        ModelUnloaded,
    ]
    assert next(event.memory_mb for event in events if isinstance(event, ModelLoaded)) == 8000


async def test_a_cancelled_worker_still_puts_its_model_to_sleep():
    provider = scripted("def ", None, "todo")

    async with ModelPool(ignore) as pool:
        worker = asyncio.create_task(say(pool, provider))
        await provider.reached("pause coder")
        worker.cancel()
        await asyncio.wait({worker})
        assert pool.census() == {}

    assert provider.log == ["load coder", "stream coder", "pause coder", "unload coder"]


async def test_two_holders_share_one_loaded_model():
    provider = scripted("def ", None, "todo")

    async with ModelPool(ignore) as pool:
        first = asyncio.create_task(say(pool, provider))
        second = asyncio.create_task(say(pool, provider))
        await provider.reached("pause coder", times=2)
        assert pool.census() == {("here", "coder"): 2}
        await provider.cue("coder")
        assert await asyncio.gather(first, second) == ["def todo", "def todo"]

    assert provider.log.count("load coder") == 1
    assert provider.log[-1] == "unload coder"
    assert provider.log.count("unload coder") == 1


async def test_who_goes_away_while_a_model_loads_does_not_take_the_load_from_others():
    provider = scripted("todo", pause_load=True)

    async with ModelPool(ignore) as pool:
        first = asyncio.create_task(say(pool, provider))
        second = asyncio.create_task(say(pool, provider))
        await provider.reached("pause load coder")
        first.cancel()
        await asyncio.wait({first})
        await provider.cue("load coder")
        assert await second == "todo"

    assert provider.log.count("load coder") == 1


async def test_a_load_that_nobody_waits_for_any_more_is_given_up():
    provider = scripted("todo", pause_load=True)

    async with ModelPool(ignore) as pool:
        only = asyncio.create_task(say(pool, provider))
        await provider.reached("pause load coder")
        only.cancel()
        await asyncio.wait({only})
        assert (pool.census(), await provider.loaded()) == ({}, ())


async def test_a_load_that_fails_is_told_to_everybody_and_the_next_one_starts_anew():
    provider = scripted("todo", load_error="the file is damaged")
    events: list[Event] = []

    async with ModelPool(events.append) as pool:
        both = await asyncio.gather(say(pool, provider), say(pool, provider), return_exceptions=True)
        assert [str(error) for error in both] == ["coder could not be loaded: the file is damaged"] * 2
        with pytest.raises(LoadFailed):
            await say(pool, provider)
        assert pool.census() == {}

    assert provider.log == ["load coder", "load coder"]
    assert isinstance(events[-1], ModelUnloaded)


async def test_a_lingering_model_is_loaded_once_for_two_leases():
    provider = scripted("todo")
    lingering = ModelSpec(endpoint="here", name="coder", context=4096, linger=float("inf"))

    async with ModelPool(ignore) as pool:
        await say(pool, provider, lingering)
        await say(pool, provider, lingering)
        assert provider.log == ["load coder", "stream coder", "stream coder"]

    assert provider.log[-1] == "unload coder"


async def test_a_model_lingers_only_as_long_as_its_spec_says():
    provider = scripted("todo")
    brief = ModelSpec(endpoint="here", name="coder", context=4096, linger=0.01)
    gone = asyncio.Event()

    async with ModelPool(lambda event: gone.set() if isinstance(event, ModelUnloaded) else None) as pool:
        await say(pool, provider, brief)
        assert pool.census() == {("here", "coder"): 0}
        async with asyncio.timeout(5):
            await gone.wait()


async def test_a_dismissed_model_leaves_with_its_last_holder():
    provider = scripted("todo")

    async with ModelPool(ignore) as pool:
        async with pool.lease(provider, CHAT) as lease:
            lease.dismiss()
        assert provider.log == ["load chat", "unload chat"]


async def test_idle_models_can_be_told_to_stop_lingering():
    provider = scripted("todo")
    gone = asyncio.Event()

    async with ModelPool(lambda event: gone.set() if isinstance(event, ModelUnloaded) else None) as pool:
        await say(pool, provider, CHAT)
        pool.dismiss_idle()
        async with asyncio.timeout(5):
            await gone.wait()
        assert provider.log == ["load chat", "stream chat", "unload chat"]


async def test_whoever_comes_while_the_model_leaves_gets_it_loaded_again():
    leaving, go_on = asyncio.Event(), asyncio.Event()

    async def at_the_door(seconds: float) -> None:
        if seconds == 7.0:
            leaving.set()
            await go_on.wait()

    provider = ScriptedProvider(ENDPOINT, script("todo", unload_seconds=7.0), sleep=at_the_door)

    async with ModelPool(ignore) as pool:
        first = asyncio.create_task(say(pool, provider))
        await leaving.wait()
        second = asyncio.create_task(say(pool, provider))
        await asyncio.sleep(0)
        go_on.set()
        assert await asyncio.gather(first, second) == ["todo", "todo"]

    assert [entry for entry in provider.log if "stream" not in entry] == [
        "load coder",
        "unload coder",
        "load coder",
        "unload coder",
    ]


async def test_memory_is_asked_for_again_and_a_change_is_told():
    told: list[Event] = []
    measured = asyncio.Event()

    class Growing(ScriptedProvider):
        """It takes more once it is loaded."""

        async def loaded(self) -> tuple[LoadedModel, ...]:
            grown = 500 if any(isinstance(event, ModelLoaded) for event in told) else 0
            return tuple(
                LoadedModel(name=model.name, memory_mb=(model.memory_mb or 0) + grown)
                for model in await super().loaded()
            )

    def heard(event: Event) -> None:
        told.append(event)
        if isinstance(event, ModelMeasured):
            measured.set()

    provider = Growing(ENDPOINT, script(None, "todo"))
    async with ModelPool(heard, sample_s=0.001) as pool:
        worker = asyncio.create_task(say(pool, provider))
        async with asyncio.timeout(5):
            await measured.wait()
        await provider.cue("coder")
        await worker

    assert [event for event in told if isinstance(event, ModelMeasured)] == [
        ModelMeasured(endpoint="here", model="coder", memory_mb=8500)
    ]


async def test_a_model_that_was_pushed_out_is_noticed_and_loaded_anew_for_the_next_lease():
    provider = scripted("todo")
    lost = asyncio.Event()

    async with ModelPool(lambda event: lost.set() if isinstance(event, Warned) else None, sample_s=0.001) as pool:
        async with pool.lease(provider, CHAT) as lease:
            await provider.unload(CHAT)  # Somebody else does this, behind the pool's back.
            async with asyncio.timeout(5):
                await lost.wait()
            assert lease.lost
            async with pool.lease(provider, CHAT) as again:
                assert not again.lost
        assert provider.log.count("load chat") == 2


async def test_the_model_that_was_meant_to_stay_is_released_when_wilson_ends():
    class Shared(ScriptedProvider):
        """A server that others use too."""

        async def release(self, spec: ModelSpec) -> None:
            self.log.append(f"release {spec.name}")

    provider = Shared(ENDPOINT, script("todo"))
    async with ModelPool(ignore) as pool:
        async with pool.lease(provider, CHAT):
            pass
        assert provider.log == ["load chat"]

    assert provider.log == ["load chat", "release chat"]


async def ticks(count: float) -> None:
    for _ in range(int(count)):
        await asyncio.sleep(0)


LIVES = st.lists(
    st.tuples(
        st.sampled_from(["coder", "chat"]),
        st.integers(0, 8),  # ticks before the worker begins
        st.integers(0, 8),  # ticks that it holds the lease
        st.none() | st.integers(0, 30),  # tick at which it is cancelled
    ),
    max_size=8,
)


@settings(max_examples=150, deadline=None)
@given(lives=LIVES, load=st.integers(0, 6), unload=st.integers(0, 6))
def test_whoever_is_cancelled_wherever_no_lease_and_no_model_is_left(
    lives: list[tuple[str, int, int, int | None]], load: int, unload: int
) -> None:
    models = tuple(
        ScriptedModel(name=name, size_mb=100, load_seconds=10 * load, unload_seconds=unload)
        for name in ("coder", "chat")
    )

    async def play() -> None:
        provider = ScriptedProvider(ENDPOINT, Script(models=models, rules=()), sleep=ticks)

        @asynccontextmanager
        async def nothing_left_behind() -> AsyncIterator[ModelPool]:
            before = asyncio.all_tasks()
            async with ModelPool(ignore, sample_s=3600) as pool:
                yield pool
            assert pool.census() == {}
            assert asyncio.all_tasks() == before

        async def life(pool: ModelPool, name: str, wait: int, hold: int) -> None:
            await ticks(wait)
            async with pool.lease(provider, ModelSpec(endpoint="here", name=name, context=None)):
                assert name in {model.name for model in await provider.loaded()}
                await ticks(hold)

        async with nothing_left_behind() as pool:
            workers = [(asyncio.create_task(life(pool, *rest)), cancel) for *rest, cancel in lives]
            for tick in range(31):
                for worker, cancel in workers:
                    if cancel == tick:
                        worker.cancel()
                await asyncio.sleep(0)
            results = await asyncio.gather(*(worker for worker, _ in workers), return_exceptions=True)
            assert all(result is None or isinstance(result, asyncio.CancelledError) for result in results)
        assert await provider.loaded() == ()

    asyncio.run(play())
