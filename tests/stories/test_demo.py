"""The whole story, in the window, on the demo that ships."""

import subprocess
import sys
from pathlib import Path

from tests.stories.demo import demo
from wilson.domain.event import (
    Event,
    ModelLoaded,
    ModelUnloaded,
    NoticeGiven,
    PromptSaid,
    ReplyEnded,
    TaskCreated,
    TaskMoved,
    ToolUsed,
    WorkerEnded,
    WorkerStarted,
)
from wilson.domain.task import TaskState


async def test_the_demo_tells_the_whole_story(tmp_path: Path):
    heard: list[Event] = []
    async with demo(tmp_path) as (view, assistant, pace, workspace), assistant.events() as events:

        async def hear_until(kind: type[Event]) -> None:
            async for happened in events:
                heard.append(happened.event)
                if isinstance(happened.event, kind):
                    return

        await view.until(lambda: "DEMO · scripted replies, no model" in view.screen)
        await view.send("build a todo app")
        await hear_until(PromptSaid)
        before = list(heard)  # The chat model's own load.
        await hear_until(ToolUsed)
        assert isinstance(heard[-1], ToolUsed)
        assert heard[-1].answer == "TASK-001 is with the Code Agent (demo-coder:14b)"
        await hear_until(ReplyEnded)

        await pace.allow(60)
        await view.until(lambda: "(30%)" in view.status[-1])
        assert view.status[-1].startswith("Code Agent (demo-coder:14b, 8GB RAM): writing")

        await view.send("what's 2+2?")
        await view.until(lambda: any("= **4**" in text for _, text in view.said))
        task = await assistant.task((await assistant.tasks())[0].id)
        assert (task.state, task.model_used) == (TaskState.IN_PROGRESS, "demo-coder:14b")

        await pace.allow(60)
        await view.until(lambda: "todo.py (2/3 files)" in view.status[-1])
        await view.send("how is it going?")
        progress = "TASK-001 is at 60%: writing wilson-demo/todo.py (2/3 files)"
        await view.until(lambda: any(progress in text for _, text in view.said))

        await pace.allow(10_000)
        await hear_until(WorkerEnded)
        await view.until(lambda: any(text.startswith("TASK-001 is done") for _, text in view.said))
        await view.until(lambda: len(view.status) == 1)
        assert view.status == ["chat demo-chat:8b 4GB · RAM 4GB of 16GB"]

        app = workspace / "wilson-demo" / "todo.py"
        assert what_the_app_lists(app) == "1. [x] buy milk\n"
        assert its_tests_pass(app)

        await view.send("which models are running?")
        await view.until(lambda: any("demo-chat:8b at demo: chat" in text for _, text in view.said))

    kinds = (TaskCreated, WorkerStarted, TaskMoved, ModelLoaded, NoticeGiven, ModelUnloaded, WorkerEnded)
    assert [type(event) for event in heard if isinstance(event, kinds) and event not in before] == [
        TaskCreated,
        TaskMoved,  # assigned
        WorkerStarted,
        TaskMoved,  # in progress
        ModelLoaded,
        TaskMoved,  # done
        NoticeGiven,
        ModelUnloaded,
        WorkerEnded,
    ]
    assert [event.state for event in heard if isinstance(event, TaskMoved)] == [
        TaskState.ASSIGNED,
        TaskState.IN_PROGRESS,
        TaskState.DONE,
    ]


async def test_the_demo_can_be_cancelled(tmp_path: Path):
    async with demo(tmp_path) as (view, assistant, pace, workspace):
        await view.send("build a todo app")
        await pace.allow(20)
        await view.until(lambda: any("writing" in line for line in view.status))
        await view.send("/cancel")
        await view.until(lambda: len(view.status) == 1)
        assert (await assistant.tasks())[0].state_in_words == "failed (cancelled)"
        assert list(workspace.iterdir()) == []


def what_the_app_lists(app: Path) -> str:
    for words in (["add", "buy", "milk"], ["done", "1"]):
        subprocess.run([sys.executable, app, *words], check=True, capture_output=True)
    return subprocess.run([sys.executable, app, "list"], check=True, capture_output=True, text=True).stdout


def its_tests_pass(app: Path) -> bool:
    tests = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", app.parent, app.parent]
    return subprocess.run(tests, cwd=app.parent, check=False, capture_output=True).returncode == 0
