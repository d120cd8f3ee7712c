import os
import signal
from pathlib import Path

import pytest
from textual.widgets import Markdown

from tests.house import code, house, script
from tests.tui.driving import window
from wilson.domain.script import Pause, Rule, Say, Script, ScriptedModel, Stumble
from wilson.domain.task import OutcomeReason, TaskState
from wilson.tui.screens.first_run import FirstRunScreen
from wilson.tui.widgets.code_block import CodeBlock

TALE = (Say("Once upon a time"), Pause("chat"), Say(" there was an end."))
STORY = Rule(purpose="chat", contains="story", parts=TALE)
BEGUN = Say("Files: hello.py\n```\n# filepath: hello.py\n")
SLOW = Rule(purpose="code", parts=(BEGUN, Pause("coder"), Say("x = 1\n```\n")))


async def test_a_prompt_and_its_answer_are_in_the_transcript(tmp_path: Path):
    async with house(tmp_path, script()) as wilson, window(wilson.assistant) as view:
        await view.pilot.press(*"are", "space", *"you", "space", *"there", "question_mark", "enter")
        await view.until(lambda: len(view.said) == 2)
        assert view.said == [("prompt", "are you there?"), ("reply", "Yes.")]
        assert view.draft == ""
        await view.until(lambda: "Yes." in view.screen)


async def test_typing_goes_on_while_a_reply_grows_and_the_next_prompt_waits_its_turn(tmp_path: Path):
    async with house(tmp_path, script(STORY)) as wilson, window(wilson.assistant) as view:
        await view.send("tell me a story")
        await wilson.provider.reached("pause chat")
        await view.send("and then?")
        await view.type("meanwhile")
        assert view.draft == "meanwhile"
        await view.until(lambda: "1 prompt in the queue" in view.screen)
        await wilson.provider.cue("chat")
        await view.until(lambda: len(view.said) == 4)
        assert view.said == [
            ("prompt", "tell me a story"),
            ("reply", "Once upon a time there was an end."),
            ("prompt", "and then?"),
            ("reply", "Yes."),
        ]


async def test_escape_stops_the_reply_and_keeps_the_draft(tmp_path: Path):
    async with house(tmp_path, script(STORY)) as wilson, window(wilson.assistant) as view:
        await view.send("tell me a story")
        await wilson.provider.reached("pause chat")
        await view.type("my draft")
        await view.pilot.press("escape")
        await view.until(lambda: ("notice", "stopped") in view.said)
        assert view.said[1] == ("reply", "Once upon a time")
        assert view.draft == "my draft"


async def test_the_status_bar_shows_who_works_on_what_with_which_model_and_memory(tmp_path: Path):
    async with house(tmp_path, script(SLOW)) as wilson, window(wilson.assistant) as view:
        await view.send("/task write hello.py")
        await wilson.provider.reached("pause coder")
        await view.until(lambda: len(view.status) == 2 and "writing hello.py" in view.status[1])
        assert view.status == [
            "chat chat 3.9GB · RAM 11.7GB of 16GB · 1 at work",
            "Code Agent (coder, 7.8GB RAM): writing hello.py (0/1 files) (0%) ⚙️",
        ]
        await wilson.provider.cue("coder")
        await view.until(lambda: len(view.status) == 1)
        assert view.status == ["chat chat 3.9GB · RAM 3.9GB of 16GB"]
        assert view.said[0] == ("notice", "TASK-001 is with the Code Agent (coder)")
        assert view.said[1][1].startswith("TASK-001 is done (Code Agent, coder, ")


async def test_a_third_task_is_queued_with_the_reason(tmp_path: Path):
    async with house(tmp_path, script(SLOW)) as wilson, window(wilson.assistant) as view:
        for number in range(3):
            await view.send(f"/task write number {number}")
        await view.until(lambda: len(view.said) == 3)
        assert view.said[2] == (
            "notice",
            "TASK-003 is queued (2 workers active, max capacity); the Code Agent (coder) will take it",
        )
        await view.until(lambda: "1 queued (2 workers active, max capacity)" in view.status[0])
        await view.send("/cancel TASK-003")
        await view.until(lambda: len(view.said) == 5)
        assert sorted(text for _, text in view.said[3:]) == [
            "TASK-003 failed (cancelled) (Code Agent): cancelled",
            "TASK-003 is failed (cancelled)",
        ]


async def test_the_tasks_of_a_second_process_show_here_too(tmp_path: Path):
    async with house(tmp_path, script()) as wilson, window(wilson.assistant) as view:
        task = await wilson.assistant.delegate(code("from elsewhere"))
        await wilson.assistant.ended(task.id)
        await view.until(lambda: any(text.startswith("TASK-001 is done") for _, text in view.said))


async def test_files_are_accepted_by_a_command(tmp_path: Path):
    async with house(tmp_path, script(), mode="ask") as wilson, window(wilson.assistant) as view:
        await view.send("/task write hello.py")
        await view.until(lambda: "1 to accept" in view.status[0])
        assert not (wilson.workspace / "hello.py").exists()
        await view.send("/accept")
        await view.until(lambda: (wilson.workspace / "hello.py").exists())
        await view.until(lambda: "to accept" not in view.status[0])


@pytest.mark.parametrize(
    ("typed", "answer"),
    [
        ("/modls", "there is no /modls; did you mean /models or /profile?"),
        ("/tas", "there is no /tas; did you mean /task or /tasks?"),
        ("/task", "say what is to be done: /task [--agent A] [--type T] GOAL"),
        (
            "/task --agnt code x",
            "unknown flag --agnt; there are --agent --type --priority --depends-on; did you mean --agent?",
        ),
        ("/cancel", "say which one: /cancel TASK-001; at work: none"),
        (
            "/profile nothing",
            "--profile: there is no profile 'nothing'; there are cloud, demo, highend, lowend, midrange",
        ),
    ],
)
async def test_a_near_miss_is_named_and_never_run(tmp_path: Path, typed: str, answer: str):
    async with house(tmp_path, script()) as wilson, window(wilson.assistant) as view:
        await view.send(typed)
        await view.until(lambda: bool(view.said))
        assert view.said == [("problem", answer)]
        assert wilson.provider.requests == []


@pytest.mark.parametrize("path", ["/etc/hosts is a file", "what is /etc/hosts?", "1/2 of it"])
async def test_a_slash_in_the_text_is_text(tmp_path: Path, path: str):
    async with house(tmp_path, script()) as wilson, window(wilson.assistant) as view:
        await view.send(path)
        await view.until(lambda: len(view.said) == 2)
        assert view.said[0] == ("prompt", path)


async def test_every_command_of_the_help_exists(tmp_path: Path):
    async with house(tmp_path, script()) as wilson, window(wilson.assistant, size=(110, 40)) as view:
        await view.send("/help")
        await view.until(lambda: bool(view.said))
        named = [line.split()[0] for line in view.said[0][1].splitlines() if line.startswith("/")]
        assert named == ["/accept", "/cancel", "/clear", "/help", "/models", "/profile", "/quit", "/retry", "/status",
                         "/task", "/tasks"]  # fmt: skip
        for command in ("/models", "/tasks", "/status", "/profile"):
            before = len(view.said)
            await view.send(command)
            await view.until(lambda before=before: len(view.said) > before)
            assert view.said[-1][0] == "notice"


async def test_the_profile_is_switched_while_a_task_runs_on_its_old_model(tmp_path: Path):
    async with house(tmp_path, script(SLOW)) as wilson, window(wilson.assistant) as view:
        await view.send("/task write hello.py")
        await wilson.provider.reached("pause coder")
        await view.send("/profile lowend")
        await view.until(lambda: any("profile lowend from now on" in text for _, text in view.said))
        assert wilson.assistant.profile.resources.max_memory_mb == 8192
        await wilson.provider.cue("coder")
        ended = await wilson.assistant.ended((await wilson.assistant.tasks())[0].id)
        assert (ended.state, ended.model_used) == (TaskState.DONE, "coder")


async def test_markdown_is_drawn_in_blocks_and_code_keeps_its_source(tmp_path: Path):
    reply = "Some *prose* here.\n\n```python\ndef f(x):\n    return [x]\n```\n\nThe [end].\n"
    rule = Rule(purpose="chat", parts=tuple(Say(reply[at : at + 3]) for at in range(0, len(reply), 3)))
    async with house(tmp_path, script(rule)) as wilson, window(wilson.assistant) as view:
        await view.send("go")
        await view.until(lambda: "The [end]." in view.screen)
        await view.until(lambda: len(view.app.screen.query(Markdown)) == 2)
        (block,) = view.app.screen.query(CodeBlock)
        assert (block.language, block.source) == ("python", "def f(x):\n    return [x]\n")
        await view.until(lambda: "    return [x]" in view.screen)


async def test_a_long_reply_is_drawn_to_its_end(tmp_path: Path):
    lines = "\n".join(f"line {number} of the code" for number in range(60))
    reply = f"{'word ' * 300}\n\n```\n{lines}\n```\n\nThe end of it."
    rule = Rule(purpose="chat", parts=tuple(Say(reply[at : at + 40]) for at in range(0, len(reply), 40)))
    async with house(tmp_path, script(rule)) as wilson, window(wilson.assistant) as view:
        await view.send("go")
        await view.until(lambda: "The end of it." in view.screen)
        assert "line 59 of the code" in view.screen


async def test_nothing_that_a_model_says_is_markup_or_an_order_to_the_terminal(tmp_path: Path):
    nasty = (
        "[@click=app.quit]x[/] [/] [red]\x1b]52;c;aGVsbG8=\x07\x1b[2J\x9b31m ```\x1b[1049l\n\n"
        "```\n\x1b]0;t\x07[bold]\n```\n"
    )
    rule = Rule(purpose="chat", parts=(Say(nasty),))
    async with house(tmp_path, script(rule)) as wilson, window(wilson.assistant) as view:
        await view.send("[/nothing] go")
        await view.until(lambda: len(view.said) == 2)
        await view.until(lambda: "[bold]" in view.screen)
        assert "[@click=app.quit]x[/] [/] [red]" in view.screen
        assert "\x1b" not in view.screen
        assert "\x9b" not in view.screen


async def test_a_prompt_that_got_no_answer_comes_back(tmp_path: Path):
    broken = Rule(purpose="chat", contains="first", parts=(Stumble("StreamBroken", "the server stopped"),))
    async with house(tmp_path, script(broken)) as wilson, window(wilson.assistant) as view:
        await view.send("my first prompt")
        await view.until(lambda: view.draft == "my first prompt")
        assert view.said == [("prompt", "my first prompt"), ("problem", "the server stopped")]


async def test_up_and_down_go_through_what_was_sent_and_the_draft_is_the_newest(tmp_path: Path):
    async with house(tmp_path, script()) as wilson, window(wilson.assistant) as view:
        await view.send("one")
        await view.send("two")
        await view.type("draft")
        seen = []
        for key in ("up", "up", "up", "down", "down", "down"):
            await view.pilot.press(key)
            seen.append(view.draft)
        assert seen == ["two", "one", "one", "two", "draft", "draft"]


async def test_control_c_puts_the_draft_aside_and_twice_quits(tmp_path: Path):
    async with house(tmp_path, script()) as wilson, window(wilson.assistant) as view:
        await view.type("draft")
        await view.pilot.press("ctrl+c")
        assert view.draft == ""
        await view.pilot.press("up")
        assert view.draft == "draft"
        await view.pilot.press("ctrl+c")
        await view.pilot.press("ctrl+c")
        assert view.app.return_code == 0


async def test_a_new_line_is_begun_with_control_j(tmp_path: Path):
    async with house(tmp_path, script()) as wilson, window(wilson.assistant) as view:
        await view.type("one")
        await view.pilot.press("ctrl+j")
        await view.send("two")
        await view.until(lambda: len(view.said) == 2)
        assert view.said[0] == ("prompt", "one\ntwo")


async def test_quitting_under_a_running_task_asks_once_more(tmp_path: Path):
    async with house(tmp_path, script(SLOW)) as wilson, window(wilson.assistant) as view:
        await view.send("/task write hello.py")
        await wilson.provider.reached("pause coder")
        await view.until(lambda: len(view.status) == 2)
        await view.send("/quit")
        await view.until(lambda: view.said[-1][1].startswith("A task is at work and would be interrupted"))
        assert view.app.return_code is None
        await view.send("/quit")
        await view.until(lambda: view.app.return_code == 0)
    async with house(tmp_path, script()) as wilson:
        (task,) = await wilson.assistant.tasks()
        assert (task.state, task.outcome_reason) == (TaskState.FAILED, OutcomeReason.INTERRUPTED)


async def test_a_conversation_is_taken_up_again(tmp_path: Path):
    async with house(tmp_path, script()) as wilson:
        conversation = (await wilson.assistant.say("hello")).conversation
        async with window(wilson.assistant, conversation=conversation) as view:
            await view.send("again")
            await view.until(lambda: len(view.said) == 4)
            assert view.said == [("prompt", "hello"), ("reply", "Yes."), ("prompt", "again"), ("reply", "Yes.")]
            await view.send("/clear")
            await view.until(lambda: view.said == [])
            await view.send("anew")
            await view.until(lambda: len(view.said) == 2)
        assert await wilson.assistant.last_conversation() != conversation


async def test_problems_of_the_configuration_are_a_banner(tmp_path: Path):
    problem = "config.yaml:2:11: workers.max_concurent: unknown key"
    async with house(tmp_path, script()) as wilson, window(wilson.assistant, banner=(problem,)) as view:
        assert view.said[0] == ("problem", problem)
        await view.send("are you there?")
        await view.until(lambda: view.said[-1] == ("reply", "Yes."))


NOTHING = Script(models=(ScriptedModel(name="other"),), rules=())


async def test_without_a_model_the_first_run_screen_says_what_was_looked_for(tmp_path: Path):
    async with house(tmp_path, NOTHING) as wilson, window(wilson.assistant) as view:
        await view.until(lambda: isinstance(view.app.screen, FirstRunScreen))
        await view.until(lambda: "No chat model was found" in view.screen)
        for words in ("the script of here has no model chat", "look again", "name an endpoint", "the demo"):
            assert words in view.screen
        await view.pilot.press("l")
        await view.until(lambda: isinstance(view.app.screen, FirstRunScreen))
        await view.pilot.press("escape")
        await view.until(lambda: not isinstance(view.app.screen, FirstRunScreen))
        await view.send("/help")
        await view.until(lambda: view.said[-1][1].startswith("/accept"))


async def test_a_wrong_address_and_a_wrong_file_are_sentences_and_the_screen_stays(tmp_path: Path):
    async with house(tmp_path, NOTHING) as wilson, window(wilson.assistant) as view:
        await view.until(lambda: isinstance(view.app.screen, FirstRunScreen))
        await view.pilot.press("e")
        await view.send("127.0.0.1:9")
        await view.until(lambda: "nobody answers at Ollama at http://127.0.0.1:9" in view.screen)
        await view.pilot.press("f")
        await view.send("nothing.gguf")
        await view.until(lambda: "there is no model file" in view.screen)


async def test_a_model_file_becomes_a_profile_and_answers(tmp_path: Path, model_file):
    tiny = tmp_path / "tiny.gguf"
    tiny.symlink_to(model_file("tiny"))
    async with house(tmp_path, NOTHING, real_models=True) as wilson, window(wilson.assistant) as view:
        await view.until(lambda: isinstance(view.app.screen, FirstRunScreen))
        await view.pilot.press("f")
        await view.send(str(tiny))
        await view.until(lambda: not isinstance(view.app.screen, FirstRunScreen))
        await view.send("hello")
        await view.until(lambda: view.status[0].startswith("chat tiny ") and "loading" not in view.status[0])
        assert (await wilson.assistant.status()).profile == "mine"


async def test_the_demo_is_marked_on_every_screen(tmp_path: Path):
    async with house(tmp_path, NOTHING) as wilson, window(wilson.assistant) as view:
        await view.until(lambda: isinstance(view.app.screen, FirstRunScreen))
        await wilson.assistant.use_profile("demo")
        mark = "DEMO · scripted replies, no model"
        await view.until(lambda: mark in view.screen)
        await view.pilot.press("escape")
        await view.until(lambda: not isinstance(view.app.screen, FirstRunScreen))
        await view.until(lambda: mark in view.screen)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129)])
async def test_a_signal_closes_the_window(tmp_path: Path, number: signal.Signals, code: int):
    async with house(tmp_path, script()) as wilson, window(wilson.assistant) as view:
        os.kill(os.getpid(), number)
        await view.until(lambda: view.app.return_code is not None)
        assert view.app.return_code == code


@pytest.mark.parametrize("size", [(20, 5), (80, 24), (200, 60)])
async def test_the_window_can_be_used_at_any_size(tmp_path: Path, size: tuple[int, int]):
    async with house(tmp_path, script()) as wilson, window(wilson.assistant, size=size) as view:
        await view.send("are you there?")
        await view.until(lambda: view.said[-1:] == [("reply", "Yes.")])
        assert view.draft == ""


async def test_the_window_can_be_closed_in_the_middle_of_a_reply(tmp_path: Path):
    async with house(tmp_path, script(STORY)) as wilson, window(wilson.assistant) as view:
        await view.send("tell me a story")
        await wilson.provider.reached("pause chat")
        await view.send("/quit")
        await view.until(lambda: view.app.return_code == 0)


async def test_the_window_stays_usable_while_a_model_loads_for_minutes(tmp_path: Path):
    async with house(tmp_path, script(pause_load=True)) as wilson, window(wilson.assistant) as view:
        await view.send("/task write hello.py")
        await wilson.provider.reached("pause load coder")
        await view.until(lambda: len(view.status) == 2)
        assert view.status[1].startswith("Code Agent (coder): loading model… (0%) ⏳")
        await view.send("are you there?")
        await view.until(lambda: ("reply", "Yes.") in view.said)
        await view.send("/cancel")
        await view.until(lambda: len(view.status) == 1)
        assert [model.name for model in await wilson.provider.loaded()] == ["chat"]
