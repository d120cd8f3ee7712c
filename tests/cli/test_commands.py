"""The commands as a shell sees them: real processes, real signals, exit codes."""

import asyncio
import json
import signal
from pathlib import Path

import pytest

from tests.shell import Shell, first_line

SCRIPT = """
models:
  - {name: chat, size_mb: 4000}
  - {name: coder, size_mb: 8000}
  - {name: slow, size_mb: 8000, tokens_per_second: 20}
replies:
  - {purpose: chat, matches: '^build', call: {name: delegate_task, arguments: {goal: write hello.py}}}
  - {purpose: chat, matches: '^TASK-', text: It is being built.}
  - {purpose: chat, contains: long, text: and then, cut: true}
  - {purpose: chat, contains: too much, error: {kind: ContextExceeded, text: the prompt does not fit into the context}}
  - {purpose: chat, contains: a piece of context, text: I have read it.}
  - {purpose: chat, text: Four.}
  - {purpose: code, model: slow, text: "%s"}
  - {purpose: code, contains: nothing, text: All tests pass.}
  - purpose: code
    text: |
      ```
      # filepath: hello.py
      print('hello from a worker')
      ```
""" % ("on and on " * 500)
CONFIG = """
endpoints: [{name: here, provider: scripted, script: script.yaml}]
llms:
  chat: {provider: scripted, model: chat}
  code: {provider: scripted, model: coder}
permissions: {mode: auto}
"""
SLOW = CONFIG.replace("model: coder", "model: slow")


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    workspace = tmp_path / "workspace"
    workspace.mkdir()
    made = Shell(workspace, tmp_path / "home")
    made.configure(CONFIG)
    (made.config.parent / "script.yaml").write_text(SCRIPT, "utf-8")
    return made


async def test_the_version_is_told(shell: Shell):
    assert await shell.run("--version") == (0, "wilson 0.1.0\n", "")


async def test_an_answer_goes_to_stdout_and_nothing_else_does(shell: Shell):
    code, out, err = await shell.run("-p", "what's 2+2?")
    assert (code, out) == (0, "Four.\n")
    assert err.splitlines()[0] == "loading chat…"


async def test_piped_input_is_context(shell: Shell):
    code, out, _ = await shell.run("-p", "summarise", stdin="a piece of context\n")
    assert (code, out) == (0, "I have read it.\n")


async def test_an_answer_as_json_has_its_tokens_and_tasks(shell: Shell):
    code, out, _ = await shell.run("-p", "build it", "--output", "json", "--wait")
    answer = json.loads(out)
    assert (code, answer["text"], answer["model"]) == (0, "It is being built.", "chat")
    assert [(task["id"], task["state"]) for task in answer["tasks"]] == [("TASK-001", "done")]
    assert answer["tokens"]["completion"] > 0
    assert (shell.workspace / "hello.py").read_text() == "print('hello from a worker')\n"


async def test_a_stream_has_one_event_a_line(shell: Shell):
    code, out, _ = await shell.run("-p", "build it", "--output", "stream-json", "--wait")
    events = [json.loads(line) for line in out.splitlines()]
    assert code == 0
    assert all(event.keys() >= {"type", "at"} for event in events[:-1])
    seen = list(dict.fromkeys(event["type"] for event in events))
    assert {"prompt_said", "reply_delta", "reply_done", "task_created", "task_moved", "task_progress", "step_moved",
            "model_loading", "model_loaded", "model_unloaded"} <= set(seen)  # fmt: skip
    assert seen[-1] == "result"
    moves = [event["state"] for event in events if event["type"] == "task_moved"]
    assert moves == ["assigned", "in_progress", "done"]


async def test_a_task_that_nobody_runs_is_stored_for_the_next_window(shell: Shell):
    code, out, _ = await shell.run("task", "add", "write", "hello.py", "--priority", "3", "--json")
    task = json.loads(out)
    assert code == 0
    assert (task["id"], task["title"], task["state"], task["priority"]) == ("TASK-001", "write hello.py", "ready", 3)
    code, out, _ = await shell.run("status", "--json")
    assert [queued["task"] for queued in json.loads(out)["queue"]] == ["TASK-001"]


async def test_many_processes_can_add_tasks_at_once(shell: Shell):
    results = await asyncio.gather(*(shell.run("task", "add", f"number {number}", "--json") for number in range(8)))
    assert [code for code, _, _ in results] == [0] * 8
    assert sorted(json.loads(out)["id"] for _, out, _ in results) == [f"TASK-00{number}" for number in range(1, 9)]
    _, out, _ = await shell.run("task", "list", "--json")
    assert sorted(task["title"] for task in json.loads(out)) == [f"number {number}" for number in range(8)]


async def test_a_task_that_is_waited_for_runs_here_and_prints_how_it_ended(shell: Shell):
    code, out, err = await shell.run("task", "add", "write hello.py", "--wait", "--json")
    task = json.loads(out)
    assert (code, task["state"], task["result"]["files_created"]) == (0, "done", ["hello.py"])
    assert task["result"].keys() >= {
        "summary", "steps_executed", "completed_at", "execution_mode", "files_created", "artifacts", "plan"
    }  # fmt: skip
    assert "unloaded coder" in err
    code, shown, _ = await shell.run("task", "show", "TASK-001", "--json")
    assert (code, json.loads(shown)) == (0, task)


async def test_a_task_that_fails_makes_the_command_fail(shell: Shell):
    code, out, _ = await shell.run("task", "add", "make nothing", "--wait", "--json")
    task = json.loads(out)
    assert code == 1
    assert (task["state"], task["outcome_reason"], task["error_kind"]) == ("failed", "error", "NothingProduced")


async def test_in_the_mode_ask_the_command_says_that_permission_is_needed(shell: Shell):
    code, out, _ = await shell.run("task", "add", "write hello.py", "--wait", "--json", WILSON_PERMISSIONS_MODE="ask")
    assert (code, json.loads(out)["state"]) == (4, "in_review")
    assert list(shell.workspace.iterdir()) == []
    code, out, _ = await shell.run("task", "accept", "TASK-001", "--json")
    assert (code, json.loads(out)["state"]) == (0, "done")
    assert [path.name for path in shell.workspace.iterdir()] == ["hello.py"]


async def test_another_process_sees_what_the_owner_does_and_can_end_it(shell: Shell):
    shell.configure(SLOW)
    owner = await shell.start("task", "add", "go on", "--wait", "--json")
    await first_line(owner, "writing")
    _, out, _ = await shell.run("status", "--json")
    (worker,) = json.loads(out)["workers"]
    assert (worker["id"], worker["model"], worker["memory_mb"]) == ("code-TASK-001", "slow", 8000)
    code, out, _ = await shell.run("-p", "what's 2+2?")
    assert (code, out) == (0, "Four.\n")
    _, out, _ = await shell.run("models", "--json")
    models = {model["name"]: model for endpoint in json.loads(out)["endpoints"] for model in endpoint["models"]}
    assert (models["slow"]["loaded_by"], models["slow"]["task"]) == ("wilson", "TASK-001")
    code, out, err = await shell.run("task", "cancel", "TASK-001", "--json")
    assert code == 0, err
    assert json.loads(out)["outcome_reason"] == "cancelled"
    out, _ = await owner.communicate()
    assert (owner.returncode, json.loads(out)["outcome_reason"]) == (1, "cancelled")


@pytest.mark.parametrize(
    ("number", "code", "reason"),
    [(signal.SIGINT, 130, "cancelled"), (signal.SIGTERM, 143, "interrupted"), (signal.SIGHUP, 129, "interrupted")],
    ids=["int", "term", "hup"],
)
async def test_a_signal_ends_a_waiting_command_in_an_orderly_way(shell: Shell, number: int, code: int, reason: str):
    shell.configure(SLOW)
    owner = await shell.start("task", "add", "go on", "--wait", "--json")
    await first_line(owner, "writing")
    owner.send_signal(number)
    await owner.communicate()
    assert owner.returncode == code
    _, out, _ = await shell.run("task", "show", "1", "--json")
    assert (json.loads(out)["state"], json.loads(out)["outcome_reason"]) == ("failed", reason)


async def test_a_waiting_process_takes_over_when_the_owner_is_killed(shell: Shell):
    shell.configure(SLOW)
    owner = await shell.start("task", "add", "go on", "--wait")
    await first_line(owner, "writing")
    other = await shell.start("task", "add", "write hello.py", "--wait", "--json", WILSON_WORKERS_MAX_CONCURRENT="1")
    await first_line(other, "TASK-002 is stored")
    owner.kill()
    await first_line(other, "TASK-002 is at work")
    other.send_signal(signal.SIGINT)
    out, err = await other.communicate()
    assert (other.returncode, json.loads(out)["outcome_reason"]) == (130, "cancelled"), err
    _, out, _ = await shell.run("task", "show", "1", "--json")
    assert json.loads(out)["outcome_reason"] == "interrupted"


async def test_without_a_server_there_is_one_sentence_and_its_own_exit_code(shell: Shell):
    shell.configure("profile: midrange\n")
    code, out, err = await shell.run("-p", "hello", OLLAMA_HOST="127.0.0.1:9")
    assert (code, out) == (3, "")
    assert err == (
        "wilson: nobody answers at Ollama at http://127.0.0.1:9 (connection refused); is the server running?\n"
    )
    code, out, err = await shell.run("task", "add", "write it", "--wait", "--json", OLLAMA_HOST="127.0.0.1:9")
    assert (code, json.loads(out)["error_kind"]) == (3, "Unreachable")


async def test_a_limit_has_its_own_exit_code(shell: Shell):
    code, out, err = await shell.run("-p", "something long")
    assert (code, out) == (5, "and then\n")
    assert "token limit" in err
    code, _, err = await shell.run("-p", "too much")
    assert (code, err.splitlines()[-1]) == (5, "wilson: the prompt does not fit into the context")


async def test_a_broken_configuration_is_named_with_its_place(shell: Shell):
    shell.configure("workers: {max_concurent: 2}\npermissions: {mode: maybe}\n")
    code, out, err = await shell.run("task", "list")
    assert (code, out) == (2, "")
    assert err.splitlines() == [
        f"{shell.config}:1:11: workers.max_concurent: unknown key; allowed: max_concurrent spawn_mode kill_after_task "
        "preload_models; did you mean 'max_concurrent'?",
        f"{shell.config}:2:21: permissions.mode: 'maybe' is not allowed; allowed: ask accept-edits auto plan",
    ]


@pytest.mark.parametrize(
    "words",
    [
        ("fly",),
        ("task",),
        ("task", "show", "nothing"),
        ("task", "show", "9" * 5000),
        ("task", "show", "TASK-099"),
        ("task", "add", "x", "--agent", "plumber"),
        ("task", "add", "x", "--priority", "9" * 20),
        ("task", "add", "x", "--depends-on", "TASK-099"),
        ("--profile", "nothing", "task", "list"),
        ("-p", " "),
        ("profile", "use", "nothing"),
    ],
    ids=lambda words: " ".join(words)[:40],
)
async def test_a_command_that_makes_no_sense_is_refused(shell: Shell, words: tuple[str, ...]):
    code, out, err = await shell.run(*words)
    assert (code, out) == (2, "")
    assert err
    assert "Traceback" not in err


async def test_settings_are_shown_with_their_origin(shell: Shell):
    code, out, _ = await shell.run("config", "show", "--origin", WILSON_WORKERS_MAX_CONCURRENT="1")
    lines = dict(line.split("  # ") for line in out.splitlines())
    origins = {key.strip(): origin for key, origin in lines.items()}
    assert code == 0
    assert origins["workers.max_concurrent = 1"] == "WILSON_WORKERS_MAX_CONCURRENT"
    assert origins['permissions.mode = "auto"'] == f"{shell.config}:6:21"
    assert origins["resources.max_memory_mb = 16384"].startswith("profiles/midrange.yaml:")


async def test_the_schema_is_json(shell: Shell):
    code, out, _ = await shell.run("config", "schema")
    schema = json.loads(out)
    assert (code, schema["additionalProperties"]) == (0, False)
    sections = {"profile", "endpoints", "llms", "workers", "resources", "permissions", "agents"}
    assert schema["properties"].keys() >= sections


async def test_profiles_are_listed_shown_used_and_checked(shell: Shell):
    shell.configure("# mine\nprofile: lowend # for now\n")
    code, out, _ = await shell.run("profile", "list", "--json")
    assert (code, [(row["name"], row["current"]) for row in json.loads(out)]) == (
        0,
        [("cloud", False), ("demo", False), ("highend", False), ("lowend", True), ("midrange", False)],
    )
    code, out, _ = await shell.run("profile", "show", "demo")
    assert "scripts/demo.yaml" in out
    code, out, _ = await shell.run("profile", "use", "demo")
    assert code == 0
    assert shell.config.read_text() == "# mine\nprofile: demo # for now\n"
    assert shell.config.with_name("config.yaml.bak").read_text() == "# mine\nprofile: lowend # for now\n"
    code, out, _ = await shell.run("profile", "check")
    assert (code, out.split(":")[0]) == (0, "demo is sound")


async def test_a_profile_that_does_not_suit_the_machine_is_refused_with_the_numbers(shell: Shell):
    shell.configure("resources: {max_memory_mb: 99999999, warn_threshold_mb: 90000000}\n")
    code, _, err = await shell.run("profile", "check")
    assert code == 2
    assert err.startswith("midrange does not suit this machine: its models may take 99999999 MB, and the machine has ")


async def test_a_profile_can_be_switched_under_a_running_task(shell: Shell):
    shell.configure(SLOW)
    owner = await shell.start("task", "add", "go on", "--wait")
    await first_line(owner, "writing")
    code, out, _ = await shell.run("profile", "use", "demo")
    assert (code, len(out.splitlines())) == (0, 2)
    _, out, _ = await shell.run("status", "--json")
    status = json.loads(out)
    assert (status["profile"], [worker["model"] for worker in status["workers"]]) == ("demo", ["slow"])
    await shell.run("task", "cancel", "1")
    await owner.communicate()


async def test_the_plain_window_answers_line_by_line(shell: Shell):
    code, out, _ = await shell.run("--plain", stdin="hello\n/quit\n")
    assert code == 0
    assert out.splitlines() == ["loading chat…", "loaded chat in 0.0 s, 3.9GB RAM", "Four."]


async def test_the_window_needs_a_terminal(shell: Shell):
    code, _, err = await shell.run()
    assert (code, err) == (2, "wilson: the window needs a terminal; use wilson -p PROMPT, or wilson --plain\n")


async def test_the_files_of_wilson_are_the_users_alone(shell: Shell):
    await shell.run("task", "add", "write hello.py", "--wait")
    mine = {shell.home, shell.config, shell.config.parent, shell.config.parent / "script.yaml"}
    for path in shell.home.rglob("*"):
        assert path in mine or path.stat().st_mode & 0o077 == 0, path
