import asyncio
import os
import stat
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from tests.house import House, code, house, script
from wilson.assistant.attached import Attached
from wilson.assistant.control import LONGEST_LINE, socket_path
from wilson.assistant.server import Server
from wilson.domain.errors import ConfigError, NoSuchTask, OwnerGone
from wilson.domain.event import Erred, ReplyGrew, TaskMoved
from wilson.domain.script import Pause, Rule, Say, Script
from wilson.domain.task import TaskId, TaskState

SLOW = Rule(purpose="code", parts=(Pause("coder"),))


@asynccontextmanager
async def owner(root: Path, played: Script, **more: object) -> AsyncIterator[tuple[House, Server, Path]]:
    async with house(root, played, **more) as wilson:
        folder = wilson.settings.sources.folders.state
        async with Server.listening(wilson.assistant, folder) as server:
            yield wilson, server, socket_path(folder)


@asynccontextmanager
async def attached(wilson: House, path: Path) -> AsyncIterator[Attached]:
    reader, writer = await asyncio.open_unix_connection(path, limit=LONGEST_LINE)
    async with Attached.over(reader, writer, wilson.assistant.agents) as door:
        yield door


async def test_whatever_can_be_asked_here_can_be_asked_from_another_process(tmp_path: Path):
    async with owner(tmp_path, script()) as (wilson, _, path), attached(wilson, path) as door:
        task = await door.delegate(code())
        assert (await door.ended(task.id)).state is TaskState.DONE
        assert await door.task(task.id) == await wilson.assistant.task(task.id)
        assert await door.tasks() == await wilson.assistant.tasks()
        assert await door.status() == await wilson.assistant.status()
        assert await door.models() == await wilson.assistant.models()
        assert await door.profiles() == await wilson.assistant.profiles()
        assert await door.left_over() == await wilson.assistant.left_over()
        conversation = await door.begin_conversation()
        assert (await door.say("hello", conversation)).text == "Yes."
        assert await door.said_before(conversation) == await wilson.assistant.said_before(conversation)
        assert await door.last_conversation() == conversation
        await door.wake()
        await door.use_profile("demo")
        assert (await door.status()).profile == "demo"


async def test_events_arrive_before_the_answer_that_follows_them(tmp_path: Path):
    rule = Rule(purpose="chat", parts=tuple(Say(f"{number} ") for number in range(50)))
    heard = []
    async with (
        owner(tmp_path, script(rule)) as (wilson, _, path),
        attached(wilson, path) as door,
        door.events() as events,
    ):

        async def listen() -> None:
            async for happened in events:
                heard.append(happened.event)

        listening = asyncio.create_task(listen())
        said = await door.say("count")
        await events.caught_up()
        listening.cancel()
        await asyncio.wait({listening})

    assert "".join(event.text for event in heard if isinstance(event, ReplyGrew)) == said.text


async def test_an_error_arrives_as_the_error_that_it_is(tmp_path: Path):
    async with owner(tmp_path, script()) as (wilson, _, path), attached(wilson, path) as door:
        with pytest.raises(NoSuchTask, match="there is no TASK-007"):
            await door.task(TaskId("TASK-007"))
        with pytest.raises(ConfigError, match="there is no profile 'nothing'"):
            await door.use_profile("nothing")


async def test_who_goes_away_takes_back_what_only_it_waited_for(tmp_path: Path):
    slow = Rule(purpose="chat", parts=(Say("Once"), Pause("chat")))
    async with owner(tmp_path, script(slow)) as (wilson, _, path):
        async with attached(wilson, path) as door:
            asking = asyncio.create_task(door.say("tell me a story"))
            await wilson.provider.reached("pause chat")
            asking.cancel()
            await asyncio.wait({asking})
        await wilson.until(lambda: bool(wilson.of(Erred)))


async def test_whoever_waits_is_told_when_the_owner_ends(tmp_path: Path):
    async with AsyncExitStack() as stack:
        async with owner(tmp_path, script(SLOW)) as (wilson, _, path):
            door = await stack.enter_async_context(attached(wilson, path))
            task = await door.delegate(code())
            waiting = asyncio.create_task(door.ended(task.id))
            await wilson.provider.reached("pause coder")
        with pytest.raises(OwnerGone):
            await waiting
        with pytest.raises(OwnerGone):
            await door.status()


async def test_a_one_shot_owner_stays_until_nobody_waits_for_an_answer(tmp_path: Path):
    async with owner(tmp_path, script(SLOW), runs_all=False) as (wilson, server, path), attached(wilson, path) as door:
        task = await door.delegate(code())
        waiting = asyncio.create_task(door.ended(task.id))
        await wilson.provider.reached("pause coder")
        drained = asyncio.create_task(server.drained())
        await asyncio.sleep(0)
        assert not drained.done()
        await wilson.provider.cue("coder")
        await waiting
        await drained


async def test_nonsense_on_the_socket_harms_nobody(tmp_path: Path):
    async with owner(tmp_path, script()) as (wilson, _, path):
        for line in (b"not json", b'{"id": 1}', b"[]", b'{"id": 1, "verb": "fly"}', b'{"id": 1, "verb": "task"}'):
            reader, writer = await asyncio.open_unix_connection(path)
            writer.write(line + b"\n")
            writer.write_eof()
            await reader.read()
            writer.close()
        async with attached(wilson, path) as door:
            assert await door.tasks() == ()


async def test_only_the_user_can_open_the_socket(tmp_path: Path):
    async with owner(tmp_path, script()) as (_, _, path):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


async def test_a_folder_with_a_long_name_gets_a_socket_all_the_same(tmp_path: Path):
    root = tmp_path / ("long" * 30)
    root.mkdir()
    async with owner(root, script()) as (wilson, _, path):
        assert len(os.fsencode(path)) <= 100
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
        async with attached(wilson, path) as door:
            assert await door.tasks() == ()


async def test_moves_of_tasks_reach_another_process(tmp_path: Path):
    moves = []
    async with owner(tmp_path, script()) as (wilson, _, path), attached(wilson, path) as door, door.events() as events:
        task = await door.delegate(code())
        await door.ended(task.id)
        async for happened in events:
            if isinstance(happened.event, TaskMoved):
                moves.append(happened.event.state)
                if happened.event.state is TaskState.DONE:
                    break
    assert moves == [TaskState.ASSIGNED, TaskState.IN_PROGRESS, TaskState.DONE]


async def test_asking_for_a_task_twice_with_one_key_makes_one_task(tmp_path: Path):
    async with owner(tmp_path, script()) as (wilson, _, path), attached(wilson, path) as door:
        first = await door.delegate(code(key="the same"))
        again = await door.delegate(code(key="the same"))
        assert (first.id, again.id) == ("TASK-001", "TASK-001")
        assert len(await door.tasks()) == 1
