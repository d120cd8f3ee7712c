"""The main job, from the outside: a task runs on a second model while the chat answers, and the memory comes back.

The same story twice: on the real engine, with GGUF files of random weights, and on a loopback Ollama. Random weights
write noise, so on the engine what counts is the life of the models; the loopback Ollama also writes files.
"""

import asyncio
import json
from asyncio.subprocess import Process
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.house import house
from tests.loopback.ollama import LoopbackOllama, Model
from tests.shell import Shell, first_line
from tests.tui.driving import window
from wilson.domain.script import Script, ScriptedModel
from wilson.domain.task import TaskState

MIB = 1 << 20


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    (tmp_path / "workspace").mkdir()
    return Shell(tmp_path / "workspace", tmp_path / "home")


def engines(owner: Process | None) -> list[psutil.Process]:
    """The engine processes of a Wilson, in the order in which they were started."""
    process = psutil.Process(owner.pid if owner else None)
    found = [child for child in process.children() if "llamacpp_child.py" in " ".join(child.cmdline())]
    return sorted(found, key=lambda child: child.create_time())


async def asked(shell: Shell, *words: str) -> Any:
    code, out, err = await shell.run(*words, "--json")
    assert code == 0, err
    return json.loads(out)


async def answered(shell: Shell, prompt: str) -> dict[str, Any]:
    code, out, err = await shell.run("-p", prompt, "--output", "json")
    assert code in {0, 5}, err  # Noise may well reach its token limit.
    return json.loads(out)


async def test_on_the_real_engine_a_second_process_comes_and_goes_while_the_chat_answers(shell: Shell, model_file):
    tiny, large = model_file("tiny"), model_file("large")
    shell.configure(
        "llms:\n"
        f"  chat: {{provider: llamacpp, model: {tiny}, max_tokens: 60}}\n"
        f"  analysis: {{provider: llamacpp, model: {large}, max_tokens: 60, num_ctx: 4096}}\n"
    )
    owner = await shell.start("task", "add", "what is a mutex?", "--type", "analysis", "--wait", "--json")
    await first_line(owner, "reading the goal")
    (engine,) = engines(owner)
    status = await asked(shell, "status")
    (worker,) = status["workers"]
    measured = engine.memory_info().rss / MIB
    assert worker["model"] == str(large)
    assert measured * 0.9 <= worker["memory_mb"] <= measured * 1.1
    assert status["memory"]["used_mb"] == worker["memory_mb"] > 220

    for number in range(3):
        answer = await answered(shell, f"hello number {number}")
        assert answer["model"] == str(tiny)
    assert engines(owner)[0].pid == engine.pid
    assert len(engines(owner)) == 2

    out, _ = await owner.communicate()
    task = json.loads(out)
    assert (owner.returncode, task["state"], task["model_used"]) == (0, "done", str(large))
    assert task["result"]["summary"]
    assert not engine.is_running()


async def test_in_the_window_the_second_engines_memory_is_in_the_status_bar_and_back_within_a_second(
    tmp_path: Path, model_file
):
    nothing = Script(models=(ScriptedModel(name="none"),), rules=())
    tiny, large = model_file("tiny"), model_file("large")
    config = (
        "llms:\n"
        f"  chat: {{provider: llamacpp, model: {tiny}, max_tokens: 40}}\n"
        f"  code: {{provider: llamacpp, model: {large}, max_tokens: 30, num_ctx: 4096}}\n"
    )
    async with house(tmp_path, nothing, real_models=True, config=config) as wilson, window(wilson.assistant) as view:
        await view.until(lambda: view.status[0].startswith(f"chat {tiny.stem} ") and "loading" not in view.status[0])
        assert len(engines(None)) == 1
        await view.send("/task write hello.py")
        await view.until(lambda: len(view.status) == 2 and "RAM): reading the goal" in view.status[1])
        chat, coder = engines(None)
        assert view.status[1].startswith(f"Code Agent ({large.stem}, ")
        shown = int(view.status[1].split(", ")[1].split("MB")[0])
        assert coder.memory_info().rss / MIB * 0.9 <= shown <= coder.memory_info().rss / MIB * 1.1
        await view.send("are you there?")
        await view.until(lambda: any(kind == "reply" for kind, _ in view.said))
        await view.until(lambda: any("TASK-001 failed" in text for _, text in view.said))
        await asyncio.to_thread(coder.wait, 1.0)
        assert engines(None) == [chat]
        # Noise holds no file, and says so.
        (task,) = await wilson.assistant.tasks()
        assert (task.state, task.error_kind in {"NothingProduced", "AnswerCut"}) == (TaskState.FAILED, True)
        await view.until(lambda: len(view.status) == 1)


async def test_on_ollama_files_are_written_and_the_unload_is_asked_for_and_seen(shell: Shell):
    chat, coder = "llama3:latest", "qwen2.5-coder:14b"
    async with LoopbackOllama(Model(chat, size_mb=4100), Model(coder, size_mb=9100, tokens_per_second=12)) as server:
        shell.configure("profile: midrange\npermissions: {mode: auto}\n")
        owner = await shell.start("task", "add", "write hello.py", "--wait", "--json", OLLAMA_HOST=server.url)
        await first_line(owner, "writing")
        status = await asked(shell, "status")
        (worker,) = status["workers"]
        assert (worker["model"], worker["model_size"], worker["endpoint"]) == (coder, "14B", "local")
        assert worker["memory_mb"] == 9100

        for number in range(3):
            answer = await answered(shell, f"hello number {number}")
            assert (answer["model"], answer["text"] != "") == (chat, True)
        assert set(server.runners) == {chat, coder}

        out, _ = await owner.communicate()
        task = json.loads(out)
        assert (owner.returncode, task["state"], task["model_used"]) == (0, "done", coder)
        for name in task["result"]["files_created"]:
            assert (shell.workspace / name).read_text()
        unloads = [body["model"] for body in server.bodies("/api/chat") if body["keep_alive"] == 0]
        assert unloads == [coder]
        # The chat model goes back to the server's own clock; the coder is gone.
        assert set(server.runners) == {chat}
        assert server.bodies("/api/chat")[-1]["keep_alive"] == "5m"
