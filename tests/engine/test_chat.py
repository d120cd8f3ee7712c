import asyncio
from itertools import pairwise
from pathlib import Path

import pytest

from tests.house import analysis, code, house, script
from wilson.domain.chat import ChatRequest, Role
from wilson.domain.errors import LimitReached, ModelMissing, StreamBroken
from wilson.domain.event import Erred, ReplyEnded, ReplyGrew, TaskCreated, ToolUsed
from wilson.domain.script import Call, CutShort, Pause, Rule, Say, Script, ScriptedModel, Stumble
from wilson.domain.task import TaskState
from wilson.engine.chat_tools import DECISION, TOOLS
from wilson.engine.prompts import shipped_prompt

DELEGATE = Call("delegate_task", {"goal": "write hello.py"})
ASKED_FOR_WORK = Rule(purpose="chat", matches=r"\Abuild", parts=(DELEGATE,))
TOLD = Rule(purpose="chat", contains="is with the", parts=(Say("It is being built."),))
LONG = Rule(purpose="code", parts=(Say("Files: a.py, b.py\n```\n# filepath: a.py\nx = 1\n```\n"), Pause("coder")))


def roles(request: ChatRequest) -> list[Role]:
    return [message.role for message in request.messages]


async def test_a_prompt_is_answered_and_the_reply_grows_in_the_events(tmp_path: Path):
    rule = Rule(purpose="chat", parts=(Say("Four"), Say(".")))
    async with house(tmp_path, script(rule)) as wilson:
        said = await wilson.assistant.say("what's 2+2?")
        await wilson.until(lambda: bool(wilson.of(ReplyEnded)))

    assert (said.text, said.model, said.stopped, said.cut) == ("Four.", "chat", False, False)
    assert [grew.text for grew in wilson.of(ReplyGrew)] == ["Four", "."]


async def test_work_is_given_away_by_a_tool_and_its_answer_goes_back_as_a_tool_message(tmp_path: Path):
    async with house(tmp_path, script(ASKED_FOR_WORK, TOLD)) as wilson:
        said = await wilson.assistant.say("build it")
        ended = await wilson.assistant.ended(said.tasks[0])

    assert (said.text, said.tasks, ended.state) == ("It is being built.", ("TASK-001",), TaskState.DONE)
    _, second = (request for request in wilson.provider.requests if request.purpose == "chat")
    tool = second.messages[-1]
    assert (tool.role, tool.tool_name, tool.content) == (
        Role.TOOL,
        "delegate_task",
        "TASK-001 is with the Code Agent (coder)",
    )
    assert [used.answer for used in wilson.of(ToolUsed)] == [tool.content]
    assert ended.conversation == said.conversation


async def test_the_chat_answers_while_a_worker_works(tmp_path: Path):
    async with house(tmp_path, script(LONG)) as wilson:
        task = await wilson.assistant.delegate(code())
        await wilson.provider.reached("pause coder")
        for _ in range(3):
            assert (await wilson.assistant.say("are you there?")).text == "Yes."
        busy = await wilson.assistant.task(task.id)
        assert (busy.state, busy.model_used) == (TaskState.IN_PROGRESS, "coder")


async def test_the_status_of_tasks_stands_in_the_last_message_and_only_when_it_changed(tmp_path: Path):
    async with house(tmp_path, script(LONG)) as wilson:
        first = await wilson.assistant.say("hello")
        await wilson.assistant.delegate(code("write a.py"))
        await wilson.provider.reached("pause coder")
        for prompt in ("how is it going?", "and now?"):
            await wilson.assistant.say(prompt, first.conversation)
        requests = [request for request in wilson.provider.requests if request.purpose == "chat"]

    assert [request.messages[-1].content for request in requests] == [
        "hello",
        "how is it going?\n\n[Status from Wilson, not from the user]\n"
        "TASK-001 (code, code agent, on coder) is in progress, 45%: writing (1/2 files)",
        "and now?",
    ]


async def test_the_end_of_a_task_is_told_once(tmp_path: Path):
    async with house(tmp_path, script()) as wilson:
        first = await wilson.assistant.say("hello")
        task = await wilson.assistant.delegate(code())
        await wilson.assistant.ended(task.id)
        for prompt in ("how did it go?", "thanks"):
            await wilson.assistant.say(prompt, first.conversation)
        requests = [request for request in wilson.provider.requests if request.purpose == "chat"]

    assert requests[1].messages[-1].content.endswith("TASK-001 (code, code agent, on coder) is done: wrote hello.py")
    assert requests[2].messages[-1].content == "thanks"


async def test_every_request_begins_with_the_bytes_of_the_one_before(tmp_path: Path):
    async with house(tmp_path, script(ASKED_FOR_WORK, TOLD)) as wilson:
        conversation = (await wilson.assistant.say("hello")).conversation
        for prompt in ("build it", "how is it going?", "what is a mutex?", "thank you"):
            await wilson.assistant.say(prompt, conversation)
        requests = [request for request in wilson.provider.requests if request.purpose == "chat"]

    sent = [[(m.role, m.content, m.tool_calls) for m in request.messages] for request in requests]
    for before, after in pairwise(sent):
        assert after[: len(before)] == before
    assert {request.messages[0].content for request in requests} == {shipped_prompt("chat")}
    assert all(request.tools == TOOLS for request in requests)


async def test_what_workers_say_never_reaches_the_chat_and_the_other_way_round(tmp_path: Path):
    secret = Rule(purpose="analysis", parts=(Say("the worker's secret thoughts"),))
    async with house(tmp_path, script(secret)) as wilson:
        first = await wilson.assistant.say("the user's own words")
        task = await wilson.assistant.delegate(analysis("think"))
        await wilson.assistant.ended(task.id)
        await wilson.assistant.say("well?", first.conversation)

    for request in wilson.provider.requests:
        text = " ".join(message.content for message in request.messages)
        assert ("secret thoughts" if request.purpose == "chat" else "own words") not in text


async def test_a_conversation_goes_on_after_a_restart_with_the_same_bytes(tmp_path: Path):
    async with house(tmp_path, script(ASKED_FOR_WORK, TOLD)) as wilson:
        conversation = (await wilson.assistant.say("hello")).conversation
        said = await wilson.assistant.say("build it", conversation)
        await wilson.assistant.ended(said.tasks[0])
        before = [request for request in wilson.provider.requests if request.purpose == "chat"][-1]
    async with house(tmp_path, script()) as wilson:
        assert await wilson.assistant.last_conversation() == conversation
        assert [(turn.by_user, turn.text) for turn in await wilson.assistant.said_before(conversation)] == [
            (True, "hello"),
            (False, "Yes."),
            (True, "build it"),
            (False, "It is being built."),
        ]
        await wilson.assistant.say("still there?", conversation)
        after = wilson.provider.requests[-1]

    assert after.messages[: len(before.messages)] == before.messages


async def test_prompts_of_one_conversation_are_answered_in_their_order(tmp_path: Path):
    slow = Rule(purpose="chat", contains="first", parts=(Say("one"), Pause("chat")))
    async with house(tmp_path, script(slow)) as wilson:
        conversation = await wilson.assistant.begin_conversation()
        first = asyncio.create_task(wilson.assistant.say("first", conversation))
        await wilson.provider.reached("pause chat")
        second = asyncio.create_task(wilson.assistant.say("second", conversation))
        await wilson.provider.cue("chat")
        assert [(await first).text, (await second).text] == ["one", "Yes."]


async def test_a_stopped_reply_keeps_what_came(tmp_path: Path):
    slow = Rule(purpose="chat", contains="tell", parts=(Say("Once upon a time"), Pause("chat"), Say(" the end")))
    async with house(tmp_path, script(slow)) as wilson:
        conversation = await wilson.assistant.begin_conversation()
        telling = asyncio.create_task(wilson.assistant.say("tell me a story", conversation))
        await wilson.provider.reached("pause chat")
        await wilson.assistant.stop(conversation)
        said = await telling
        assert (said.text, said.stopped) == ("Once upon a time", True)
        await wilson.assistant.say("go on", conversation)

    assert [message.content for message in wilson.provider.requests[-1].messages[1:]] == [
        "tell me a story",
        "Once upon a time",
        "go on",
    ]


async def test_a_prompt_that_got_no_answer_is_taken_back(tmp_path: Path):
    broken = Rule(purpose="chat", contains="first", parts=(Stumble("StreamBroken", "the server stopped"),))
    async with house(tmp_path, script(broken)) as wilson:
        conversation = await wilson.assistant.begin_conversation()
        with pytest.raises(StreamBroken, match="the server stopped"):
            await wilson.assistant.say("first", conversation)
        assert (await wilson.assistant.say("second", conversation)).text == "Yes."
        await wilson.until(lambda: bool(wilson.of(Erred)))
        assert [erred.kind for erred in wilson.of(Erred)] == ["StreamBroken"]

    assert roles(wilson.provider.requests[-1]) == [Role.SYSTEM, Role.USER]


async def test_a_reply_that_broke_off_keeps_its_beginning(tmp_path: Path):
    broken = Rule(purpose="chat", contains="first", parts=(Say("I was"), Stumble("StreamBroken", "the server stopped")))
    async with house(tmp_path, script(broken)) as wilson:
        conversation = await wilson.assistant.begin_conversation()
        with pytest.raises(StreamBroken):
            await wilson.assistant.say("first", conversation)
        await wilson.assistant.say("second", conversation)

    assert [message.content for message in wilson.provider.requests[-1].messages[1:]] == ["first", "I was", "second"]


async def test_a_reply_at_its_token_limit_says_so(tmp_path: Path):
    cut = Rule(purpose="chat", parts=(Say("and then"), CutShort()))
    async with house(tmp_path, script(cut)) as wilson:
        assert (await wilson.assistant.say("go on")).cut


@pytest.mark.parametrize(
    ("call", "answer"),
    [
        (Call("fly", {}), "error: there is no tool 'fly'; there are delegate_task, check_task_progress, model_status"),
        (Call("delegate_task", {}), "error: the key 'goal' is missing"),
        (
            Call("delegate_task", {"goal": "x", "agent": "coder"}),
            "error: agent: 'coder' is not allowed; allowed: code test review research analysis; did you mean 'code'?",
        ),
        (Call("check_task_progress", {"task": "TASK-009"}), "error: there is no TASK-009; see: wilson task list"),
    ],
    ids=["unknown", "missing", "wrong", "absent"],
)
async def test_a_tool_called_in_a_wrong_way_is_an_answer_to_the_model(tmp_path: Path, call: Call, answer: str):
    async with house(tmp_path, script(Rule(purpose="chat", matches=r"\Ago\Z", parts=(call,)))) as wilson:
        await wilson.assistant.say("go")
        assert [used.answer for used in wilson.of(ToolUsed)] == [answer]
        assert wilson.of(TaskCreated) == []


async def test_a_model_that_calls_tools_without_end_is_stopped(tmp_path: Path):
    endless = Rule(purpose="chat", parts=(Call("model_status", {}),))
    async with house(tmp_path, script(endless)) as wilson:
        with pytest.raises(LimitReached, match="took 8 turns"):
            await wilson.assistant.say("go")
        with pytest.raises(LimitReached, match="took 2 turns"):
            await wilson.assistant.say("go", None, 2)


async def test_progress_is_reported_from_the_store(tmp_path: Path):
    ask = Rule(purpose="chat", contains="how", parts=(Call("check_task_progress", {"task": "TASK-001"}),), times=1)
    async with house(tmp_path, script(ask, LONG)) as wilson:
        await wilson.assistant.delegate(code())
        await wilson.provider.reached("pause coder")
        await wilson.assistant.say("how?")
        (used,) = wilson.of(ToolUsed)

    assert used.answer == (
        '{"task": "TASK-001", "status": "in_progress", "outcome_reason": null, "assigned_to": "code", '
        '"model_used": "coder", "progress": 0.45, "message": "writing (1/2 files)", "subtasks": '
        '[{"name": "Answer by coder", "status": "in_progress"}, {"name": "Write the files", "status": "pending"}], '
        '"files": []}'
    )


async def test_the_models_that_run_are_told_with_the_servers_figures(tmp_path: Path):
    ask = Rule(purpose="chat", contains="which", parts=(Call("model_status", {}),), times=1)
    async with house(tmp_path, script(ask, LONG)) as wilson:
        await wilson.assistant.delegate(code())
        await wilson.provider.reached("pause coder")
        await wilson.assistant.say("which models?")
        (used,) = wilson.of(ToolUsed)

    assert used.answer.splitlines() == [
        "chat at here: chat, 3.9GB RAM",
        "coder at here: code, working on TASK-001, 7.8GB RAM",
        "total: 11.7GB RAM",
    ]


def without_tools(*rules: Rule) -> Script:
    models = (ScriptedModel(name="chat", tools=False), ScriptedModel(name="coder"), ScriptedModel(name="analyst"))
    return Script(models=models, rules=(*rules, *script().rules))


async def test_a_model_without_tools_decides_under_a_schema_and_then_answers(tmp_path: Path):
    decide = Rule(purpose="chat_decision", parts=(Say('{"tool": "delegate_task", "goal": "write hello.py"}'),), times=1)
    nothing = Rule(purpose="chat_decision", parts=(Say('{"tool": "none"}'),))
    answer = Rule(purpose="chat", contains="[Wilson has called delegate_task]", parts=(Say("It is being built."),))
    async with house(tmp_path, without_tools(decide, nothing, answer)) as wilson:
        said = await wilson.assistant.say("build it")
        await wilson.assistant.ended(said.tasks[0])
        await wilson.assistant.say("thanks", said.conversation)

    chat = [request for request in wilson.provider.requests if request.purpose.startswith("chat")]
    assert (said.text, said.tasks) == ("It is being built.", ("TASK-001",))
    assert [(request.schema, request.tools) for request in chat[:2]] == [(DECISION, ()), (None, ())]
    # The second prompt finds the first one as it was sent, with what was done about it.
    assert chat[-1].messages[1] == chat[1].messages[1]


async def test_a_decision_for_no_tool_is_followed_by_a_plain_answer(tmp_path: Path):
    decide = Rule(purpose="chat_decision", parts=(Say('{"tool": "none"}'),))
    async with house(tmp_path, without_tools(decide)) as wilson:
        said = await wilson.assistant.say("hello")
        assert (said.text, said.tasks) == ("Yes.", ())

    assert [message.content for message in wilson.provider.requests[1].messages[1:]] == ["hello"]


async def test_a_server_that_refuses_tools_is_asked_in_the_other_way(tmp_path: Path):
    refuse = Rule(purpose="chat", parts=(Stumble("Unsupported", "chat cannot do this: no tools"),), times=1)
    decide = Rule(purpose="chat_decision", parts=(Say('{"tool": "none"}'),))
    async with house(tmp_path, script(refuse, decide)) as wilson:
        assert (await wilson.assistant.say("hello")).text == "Yes."
        await wilson.assistant.say("again")
        chat = [request for request in wilson.provider.requests if request.purpose.startswith("chat")]

    assert [bool(request.tools) for request in chat] == [True, False, False, False, False]


async def test_a_missing_chat_model_is_a_sentence_and_the_next_prompt_looks_again(tmp_path: Path):
    nothing = Script(models=(ScriptedModel(name="coder"),), rules=())
    async with house(tmp_path, nothing) as wilson:
        for _ in range(2):
            with pytest.raises(ModelMissing, match="has no model chat"):
                await wilson.assistant.say("hello")


def test_the_fixed_prompt_of_the_chat_is_short():
    tools = sum(len(tool.name) + len(tool.description) + len(repr(tool.parameters)) for tool in TOOLS)
    # Some four characters a token, as English text has them; the promise is 600 tokens.
    assert (len(shipped_prompt("chat")) + tools) / 4 <= 600


@pytest.mark.parametrize("name", ["code", "test", "analysis", "research", "review", "manager"])
def test_the_fixed_prompt_of_a_worker_is_short(name: str):
    assert len(shipped_prompt(name)) / 4 <= 1500
