"""Whatever is cancelled wherever: no model, no lease, no task at work and no half transaction is left behind."""

import asyncio
import contextlib
import sqlite3
import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.house import FILES, analysis, code, house, script
from wilson.domain.errors import WilsonError
from wilson.domain.script import Rule, Say
from wilson.domain.task import AT_WORK, TaskState

PACED = (
    Rule(purpose="code", parts=tuple(Say(f"{line}\n") for line in FILES.splitlines())),
    Rule(purpose="chat", parts=tuple(Say(f"{word} ") for word in ["one", "two", "three"])),
)
DEEDS = st.lists(
    st.tuples(
        st.sampled_from(["code", "analysis", "say"]),
        st.integers(0, 25),  # ticks before it is done
        st.sampled_from(["nothing", "cancel the task", "cancel the caller", "stop the reply"]),
        st.integers(0, 60),  # ticks before that
    ),
    max_size=5,
)


async def ticks(count: float) -> None:
    for _ in range(int(count)):
        await asyncio.sleep(0)


@settings(max_examples=40, deadline=None)
@given(deeds=DEEDS, load=st.integers(0, 3), quit_after=st.integers(0, 300))
def test_whatever_is_cancelled_wherever_nothing_is_left(
    deeds: list[tuple[str, int, str, int]], load: int, quit_after: int
) -> None:
    async def play(root: Path) -> None:
        before = asyncio.all_tasks()
        played = script(*PACED, load_seconds=10 * load, unload_seconds=load)
        under_way: set[asyncio.Future[object]] = set()
        async with house(root, played, sleep=ticks) as wilson:

            async def deed(kind: str, wait: int, then: str, later: int) -> None:
                await ticks(wait)
                if kind == "say":
                    conversation = await wilson.assistant.begin_conversation()
                    doing = asyncio.ensure_future(wilson.assistant.say("go on", conversation))
                else:
                    doing = asyncio.ensure_future(wilson.assistant.delegate(code() if kind == "code" else analysis()))
                under_way.add(doing)
                await ticks(later)
                match then:
                    case "cancel the caller":
                        doing.cancel()
                    case "stop the reply" if kind == "say":
                        await wilson.assistant.stop(conversation)
                with contextlib.suppress(asyncio.CancelledError, WilsonError):
                    task = await doing
                    if then == "cancel the task" and kind != "say":
                        await wilson.assistant.cancel(task.id)

            doings = [asyncio.create_task(deed(*one)) for one in deeds]
            await ticks(quit_after)
            for doing in doings:
                doing.cancel()
            await asyncio.gather(*doings, return_exceptions=True)
        # Who was still asking when Wilson ended has been told.
        await asyncio.gather(*under_way, return_exceptions=True)
        assert await wilson.provider.loaded() == ()
        assert asyncio.all_tasks() == before
        check_store(wilson.settings.sources.folders.store)

    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(play(Path(folder)))


def check_store(path: Path) -> None:
    with contextlib.closing(sqlite3.connect(path)) as store:
        states = dict(store.execute("SELECT number, state FROM tasks"))
        assert AT_WORK.isdisjoint(TaskState(state) for state in states.values())
        for number, state in states.items():
            history = store.execute(
                "SELECT from_state, to_state FROM moves WHERE task = ? ORDER BY number", (number,)
            ).fetchall()
            # Each move begins where the one before ended, and the last one is where the task stands.
            assert [origin for origin, _ in history] == ["new", *(end for _, end in history[:-1])]
            assert history[-1][1] == state
            if state == "done":
                steps = store.execute("SELECT state FROM steps WHERE task = ?", (number,)).fetchall()
                assert steps == [("passed",), ("passed",)]
        for conversation in store.execute("SELECT DISTINCT conversation FROM messages").fetchall():
            said = store.execute("SELECT role FROM messages WHERE conversation = ? ORDER BY number", conversation)
            assert [role for (role,) in said] == ["user", "assistant"]
