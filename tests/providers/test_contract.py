"""The contract of ``wilson.providers.base``, put to every provider there is."""

import asyncio
import json
from collections.abc import Mapping

import pytest

from tests.providers.benches import Bench, children
from tests.providers.talk import ADD, STEP, asked, calls_of, finish_of, heard, ignore, text_of
from wilson.domain.chat import FinishReason, TextPiece
from wilson.domain.errors import ModelMissing
from wilson.domain.model import ModelSpec
from wilson.domain.schema import strays

managing = pytest.mark.parametrize("bench", ["ollama", "llamacpp", "scripted"], indirect=True)
"""These load and unload on request; the server behind ``openai`` does as it likes."""
constraining = pytest.mark.parametrize("bench", ["ollama", "openai", "llamacpp"], indirect=True)
"""These can be held to a schema; a script says what it says."""


def named(spec: ModelSpec, name: str) -> ModelSpec:
    return ModelSpec(endpoint=spec.endpoint, name=name, context=spec.context)


async def loaded_names(bench: Bench) -> list[str]:
    return [model.name for model in await bench.provider.loaded()]


async def test_health_says_who_is_there_and_loads_nothing(bench: Bench) -> None:
    health = await bench.provider.health()

    assert health.ok
    assert health.detail
    assert bench.loads() == 1 - bench.provider.manages_memory


async def test_what_is_installed_can_be_shown(bench: Bench) -> None:
    installed = {facts.name: facts for facts in await bench.provider.installed()}

    assert bench.answering.name in installed
    shown = await bench.provider.show(bench.answering.name)
    assert shown.name == bench.answering.name
    assert shown.size_mb == installed[bench.answering.name].size_mb


async def test_a_missing_model_is_named_when_it_is_shown(bench: Bench) -> None:
    with pytest.raises(ModelMissing, match=bench.absent):
        await bench.provider.show(bench.absent)


async def test_a_missing_model_is_named_when_it_is_loaded(bench: Bench) -> None:
    with pytest.raises(ModelMissing, match=bench.absent):
        await bench.provider.load(named(bench.answering, bench.absent), ignore)

    assert children() == []


async def test_a_loaded_model_is_listed(bench: Bench) -> None:
    await bench.provider.load(bench.answering, ignore)

    assert bench.answering.name in await loaded_names(bench)


@managing
async def test_a_model_is_listed_with_its_memory_from_its_load_to_its_unload(bench: Bench) -> None:
    assert await loaded_names(bench) == []

    await bench.provider.load(bench.answering, ignore)
    [model] = await bench.provider.loaded()
    assert (model.name, model.context) == (bench.answering.name, bench.answering.context)
    assert model.memory_mb is not None
    assert model.memory_mb > 0

    await bench.provider.unload(bench.answering)
    assert await loaded_names(bench) == []
    assert children() == []


async def test_a_load_tells_its_progress_as_a_share_or_as_unknown(bench: Bench) -> None:
    told: list[float | None] = []

    await bench.provider.load(bench.answering, told.append)

    assert [share for share in told if share is not None and not 0 <= share <= 1] == []


async def test_loading_twice_loads_once(bench: Bench) -> None:
    await bench.provider.load(bench.answering, ignore)
    await bench.provider.load(bench.answering, ignore)

    assert bench.loads() == 1
    assert (await loaded_names(bench)).count(bench.answering.name) == 1


async def test_a_chat_does_not_load_anew_what_is_loaded(bench: Bench) -> None:
    await bench.provider.load(bench.answering, ignore)

    await heard(bench.provider, bench.answering, asked(temperature=0.3, max_tokens=20))

    assert bench.loads() == 1


async def test_a_model_can_be_loaded_again_after_it_left(bench: Bench) -> None:
    for _ in range(2):
        await bench.provider.load(bench.answering, ignore)
        chunks = await heard(bench.provider, bench.answering, asked("And now?"))
        assert text_of(chunks) == bench.answer("And now?")
        await bench.provider.unload(bench.answering)


async def test_unloading_what_is_not_loaded_returns(bench: Bench) -> None:
    await bench.provider.unload(bench.answering)

    assert bench.loads() == 1 - bench.provider.manages_memory


@managing
async def test_releasing_what_is_not_loaded_loads_nothing(bench: Bench) -> None:
    await bench.provider.release(bench.answering)

    assert bench.loads() == 0
    assert await loaded_names(bench) == []


async def test_a_reply_streams_and_has_one_end_with_counts(bench: Bench) -> None:
    await bench.provider.load(bench.answering, ignore)

    async with bench.provider.chat(bench.answering, asked("One two three four five.")) as stream:
        chunks = [chunk async for chunk in stream]

    assert text_of(chunks) == bench.answer("One two three four five.")
    assert len([chunk for chunk in chunks if isinstance(chunk, TextPiece)]) > 1
    finish = finish_of(chunks)
    assert finish.reason is FinishReason.STOP
    assert finish.prompt_tokens is not None
    assert finish.prompt_tokens > 0
    assert finish.completion_tokens is not None
    assert finish.completion_tokens > 0


async def test_several_chats_at_once_do_not_mix(bench: Bench) -> None:
    await bench.provider.load(bench.varied, ignore)
    questions = [f"Tell me about {what}, please." for what in ("tea", "cats", "rain", "trees")]
    requests = [asked(question, temperature=0.0, max_tokens=40) for question in questions]

    alone = [text_of(await heard(bench.provider, bench.varied, request)) for request in requests]
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(heard(bench.provider, bench.varied, request)) for request in requests]

    assert [text_of(task.result()) for task in tasks] == alone
    assert len(set(alone)) == len(questions)


@constraining
async def test_an_answer_under_a_schema_fits_it(bench: Bench) -> None:
    await bench.provider.load(bench.answering, ignore)

    chunks = await heard(bench.provider, bench.answering, asked("a step", schema=STEP, max_tokens=600))

    assert finish_of(chunks).reason is FinishReason.STOP
    assert strays(json.loads(text_of(chunks)), STEP) == ()


async def test_a_tool_call_arrives_whole(bench: Bench) -> None:
    await bench.provider.load(bench.calling, ignore)

    chunks = await heard(bench.provider, bench.calling, asked("Add it.", tools=(ADD,), max_tokens=600))

    assert finish_of(chunks).reason is FinishReason.STOP
    [(name, arguments)] = calls_of(chunks)
    assert name == "add"
    assert isinstance(arguments, Mapping)
    assert strays(arguments, ADD.parameters) == ()


async def test_leaving_a_reply_early_stops_it_at_the_server(bench: Bench) -> None:
    await bench.provider.load(bench.endless, ignore)

    async with bench.idle(), bench.provider.chat(bench.endless, asked()) as chunks:
        first = await anext(chunks)

    assert isinstance(first, TextPiece)


async def test_cancelling_a_chat_stops_it_at_the_server(bench: Bench) -> None:
    await bench.provider.load(bench.endless, ignore)
    begun = asyncio.Event()

    async def listen() -> None:
        async with bench.provider.chat(bench.endless, asked()) as chunks:
            async for _ in chunks:
                begun.set()

    async with bench.idle():
        listening = asyncio.create_task(listen())
        await begun.wait()
        listening.cancel()
        await asyncio.wait({listening})

    assert listening.cancelled()


async def test_an_error_in_the_listener_stops_the_reply_and_comes_out_as_it_is(bench: Bench) -> None:
    await bench.provider.load(bench.endless, ignore)

    async def listen() -> None:
        async with bench.idle(), bench.provider.chat(bench.endless, asked()) as chunks:
            async for _ in chunks:
                raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await listen()


@managing
async def test_a_load_that_is_given_up_leaves_nothing(bench: Bench) -> None:
    loading = asyncio.create_task(bench.provider.load(bench.slow, bench.progress))
    await bench.load_begun.wait()

    loading.cancel()
    await asyncio.wait({loading})

    assert loading.cancelled()
    assert await loaded_names(bench) == []
    assert children() == []


async def test_after_closing_nothing_is_left(bench: Bench) -> None:
    await bench.provider.load(bench.answering, ignore)
    await heard(bench.provider, bench.answering, asked())

    await bench.provider.aclose()

    assert children() == []


async def test_closing_twice_is_closing_once(bench: Bench) -> None:
    await bench.provider.load(bench.answering, ignore)

    await bench.provider.aclose()
    await bench.provider.aclose()

    assert children() == []
