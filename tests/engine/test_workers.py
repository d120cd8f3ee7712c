import asyncio
from pathlib import Path

import pytest

from tests.house import FILES, analysis, code, house, script
from wilson.domain.artifact import ArtifactKind
from wilson.domain.errors import IllegalMove, NoSuchTask
from wilson.domain.event import (
    ModelLoaded,
    ModelUnloaded,
    NoticeGiven,
    Phase,
    TaskMoved,
    TaskProgressed,
    TaskQueued,
    WorkerEnded,
    WorkerStarted,
)
from wilson.domain.script import CutShort, Pause, Rule, Say, Stumble
from wilson.domain.step import StepState
from wilson.domain.task import AT_WORK, Move, OutcomeReason, TaskDraft, TaskId, TaskState, TaskType
from wilson.store.opening import open_store

LIE = Rule(purpose="code", parts=(Say("I have written hello.py and all tests pass."),))
SLOW = Rule(purpose="code", parts=(Say("Files: hello.py\n"), Pause("coder"), Say(FILES)))
CUT = Rule(purpose="code", parts=(Say(FILES), CutShort()))
BROKEN = Rule(purpose="code", parts=(Say("# begin"), Stumble("StreamBroken", "the server stopped")))


async def test_a_code_task_becomes_a_file(tmp_path: Path):
    async with house(tmp_path, script()) as wilson:
        task = await wilson.assistant.delegate(code())
        ended = await wilson.assistant.ended(task.id)

        assert (ended.state, ended.message, ended.progress) == (TaskState.DONE, "wrote hello.py", 1.0)
        assert (wilson.workspace / "hello.py").read_text() == "print('hello from a worker')\n"
        assert [(step.description, step.state) for step in ended.steps] == [
            ("Answer by coder", StepState.PASSED),
            ("Write the files", StepState.PASSED),
        ]
        assert ended.result is not None
        assert (ended.result.files_created, ended.result.execution_mode, ended.result.steps_executed) == (
            ("hello.py",),
            "single_model",
            2,
        )
        assert (ended.model_requested, ended.model_used, ended.endpoint) == ("coder", "coder", "here")
        assert ended.tokens.completion > 0
        assert wilson.provider.log == ["load coder", "stream coder", "unload coder"]
        assert [move.move for move in wilson.of(TaskMoved)] == [Move.ASSIGN, Move.START, Move.FINISH]
        assert wilson.of(NoticeGiven)[-1].text.startswith("TASK-001 is done (Code Agent, coder, ")


async def test_an_analysis_is_kept_as_its_own_result(tmp_path: Path):
    async with house(tmp_path, script()) as wilson:
        task = await wilson.assistant.delegate(analysis())
        ended = await wilson.assistant.ended(task.id)

    assert (ended.state, ended.result.summary) == (TaskState.DONE, "A mutex lets one at a time.")
    assert [artifact.kind for artifact in ended.result.artifacts] == [ArtifactKind.ANSWER]


async def test_an_analysis_that_reached_its_token_limit_says_so(tmp_path: Path):
    rule = Rule(purpose="analysis", parts=(Say("A mutex"), CutShort()))
    async with house(tmp_path, script(rule)) as wilson:
        task = await wilson.assistant.delegate(analysis())
        ended = await wilson.assistant.ended(task.id)

    assert (ended.state, ended.result.summary) == (TaskState.DONE, "A mutex")
    assert ended.message == (
        "answered, but the answer ended at the token limit; "
        "raise llms.analysis.max_tokens or num_ctx, or ask for less at once"
    )


@pytest.mark.parametrize(
    ("rule", "kind", "said"),
    [(LIE, "NothingProduced", "holds no file"), (CUT, "AnswerCut", "token limit"), (BROKEN, "StreamBroken", "stopped")],
    ids=["lie", "cut", "broken"],
)
async def test_an_answer_without_whole_files_fails_and_is_kept(tmp_path: Path, rule: Rule, kind: str, said: str):
    async with house(tmp_path, script(rule)) as wilson:
        task = await wilson.assistant.delegate(code())
        ended = await wilson.assistant.ended(task.id)
        folders = wilson.settings.sources.folders

    assert (ended.state, ended.outcome_reason, ended.error_kind) == (TaskState.FAILED, OutcomeReason.ERROR, kind)
    assert said in ended.message
    assert list(wilson.workspace.iterdir()) == []
    async with open_store(folders.store) as store:
        kept = await store.artifacts.contents(ended, ArtifactKind.RAW_ANSWER)
    assert [content for _, content in kept] == ["".join(part.text for part in rule.parts if isinstance(part, Say))]


async def test_the_task_ends_before_its_model_leaves_and_the_model_is_gone_before_the_wait_ends(tmp_path: Path):
    async with house(tmp_path, script()) as wilson:
        task = await wilson.assistant.delegate(code())
        await wilson.assistant.ended(task.id)
        assert await wilson.provider.loaded() == ()
        await wilson.until(lambda: bool(wilson.of(WorkerEnded)))

    ends = (TaskMoved, ModelUnloaded, WorkerEnded)
    order = [type(one.event) for one in wilson.happened if isinstance(one.event, ends)]
    assert order == [TaskMoved, TaskMoved, TaskMoved, ModelUnloaded, WorkerEnded]


async def test_a_third_task_waits_and_says_for_what(tmp_path: Path):
    async with house(tmp_path, script(SLOW)) as wilson:
        tasks = [await wilson.assistant.delegate(code(f"write number {number}")) for number in range(3)]
        assert [task.state in AT_WORK for task in tasks] == [True, True, False]
        status = await wilson.assistant.status()
        assert [(queued.task, queued.reason) for queued in status.queue] == [
            ("TASK-003", "2 workers active, max capacity")
        ]
        assert wilson.of(TaskQueued) == [TaskQueued(task="TASK-003", reason="2 workers active, max capacity")]
        await wilson.provider.reached("pause coder", times=2)
        await wilson.provider.cue("coder")
        ended = [await wilson.assistant.ended(task.id) for task in tasks]
        assert [task.state for task in ended] == [TaskState.DONE] * 3


async def test_the_more_urgent_task_goes_first(tmp_path: Path):
    async with house(tmp_path, script(SLOW), workers=1) as wilson:
        first = await wilson.assistant.delegate(code("first"))
        await wilson.assistant.delegate(code("later"))
        await wilson.assistant.delegate(code("urgent", priority=5))
        await wilson.provider.reached("pause coder")
        await wilson.provider.cue("coder")
        for number in (1, 2, 3):
            await wilson.assistant.ended(TaskId(f"TASK-00{number}"))

    assert [started.task for started in wilson.of(WorkerStarted)] == [first.id, "TASK-003", "TASK-002"]


async def test_a_task_waits_for_those_it_depends_on(tmp_path: Path):
    async with house(tmp_path, script(SLOW)) as wilson:
        first = await wilson.assistant.delegate(code("first"))
        second = await wilson.assistant.delegate(code("second", depends_on=(first.id,)))
        assert (second.state, second.depends_on) == (TaskState.BLOCKED, ("TASK-001",))
        await wilson.provider.reached("pause coder")
        assert len(wilson.of(WorkerStarted)) == 1
        await wilson.provider.cue("coder")
        assert (await wilson.assistant.ended(second.id)).state is TaskState.DONE


async def test_cancelling_reaches_the_model_and_unloads_it(tmp_path: Path):
    async with house(tmp_path, script(SLOW)) as wilson:
        task = await wilson.assistant.delegate(code())
        await wilson.provider.reached("pause coder")
        cancelled = await wilson.assistant.cancel(task.id)
        assert (cancelled.state, cancelled.outcome_reason) == (TaskState.FAILED, OutcomeReason.CANCELLED)
        assert await wilson.provider.loaded() == ()
        assert (await wilson.assistant.status()).workers == ()
        assert [step.state for step in cancelled.steps] == [StepState.FAILED, StepState.PENDING]


async def test_a_task_that_waits_can_be_cancelled_too(tmp_path: Path):
    async with house(tmp_path, script(SLOW), workers=1) as wilson:
        await wilson.assistant.delegate(code())
        waiting = await wilson.assistant.delegate(code())
        blocked = await wilson.assistant.delegate(code(depends_on=(waiting.id,)))
        for task in (waiting, blocked):
            cancelled = await wilson.assistant.cancel(task.id)
            assert (cancelled.state, cancelled.outcome_reason) == (TaskState.FAILED, OutcomeReason.CANCELLED)
        assert (await wilson.assistant.status()).queue == ()


async def test_what_has_ended_cannot_be_cancelled(tmp_path: Path):
    async with house(tmp_path, script()) as wilson:
        task = await wilson.assistant.delegate(code())
        await wilson.assistant.ended(task.id)
        with pytest.raises(IllegalMove, match="TASK-001 is done already"):
            await wilson.assistant.cancel(task.id)
        with pytest.raises(NoSuchTask, match="TASK-099"):
            await wilson.assistant.cancel(TaskId("TASK-099"))


async def test_in_the_mode_ask_files_wait_for_the_users_word(tmp_path: Path):
    async with house(tmp_path, script(), mode="ask") as wilson:
        task = await wilson.assistant.delegate(code())
        waiting = await wilson.assistant.ended(task.id)
        assert (waiting.state, waiting.message) == (TaskState.IN_REVIEW, "1 file to accept: hello.py")
        assert list(wilson.workspace.iterdir()) == []
        assert (await wilson.assistant.status()).approvals == ("TASK-001",)

        accepted = await wilson.assistant.accept(task.id)
        assert (accepted.state, accepted.result.files_created) == (TaskState.DONE, ("hello.py",))
        assert (wilson.workspace / "hello.py").read_text() == "print('hello from a worker')\n"
        assert (await wilson.assistant.status()).approvals == ()


async def test_files_still_wait_after_a_restart(tmp_path: Path):
    async with house(tmp_path, script(), mode="ask") as wilson:
        await wilson.assistant.ended((await wilson.assistant.delegate(code())).id)
    async with house(tmp_path, script(), mode="ask") as wilson:
        assert (await wilson.assistant.status()).approvals == ("TASK-001",)
        (notice,) = await wilson.assistant.left_over()
        assert notice.startswith("TASK-001 waits for you (Code Agent, coder): 1 file to accept: hello.py")
        assert (await wilson.assistant.accept(TaskId("TASK-001"))).state is TaskState.DONE


async def test_a_failed_task_can_be_tried_again_by_a_new_worker(tmp_path: Path):
    once = Rule(purpose="code", parts=(Say("no files here"),), times=1)
    async with house(tmp_path, script(once)) as wilson:
        task = await wilson.assistant.delegate(code())
        assert (await wilson.assistant.ended(task.id)).state is TaskState.FAILED
        await wilson.assistant.retry(task.id)
        ended = await wilson.assistant.ended(task.id)

    assert (ended.state, ended.attempt, ended.outcome_reason) == (TaskState.DONE, 2, None)
    assert [started.worker for started in wilson.of(WorkerStarted)] == ["code-TASK-001", "code-TASK-001-2"]


async def test_quitting_interrupts_workers_and_leaves_no_model(tmp_path: Path):
    async with house(tmp_path, script(SLOW)) as wilson:
        await wilson.assistant.delegate(code())
        await wilson.provider.reached("pause coder")
        folders = wilson.settings.sources.folders

    assert wilson.provider.log[-1] == "unload coder"
    async with open_store(folders.store) as store:
        (task,) = await store.tasks.all()
    assert (task.state, task.outcome_reason) == (TaskState.FAILED, OutcomeReason.INTERRUPTED)


async def test_what_a_dead_wilson_left_at_work_is_interrupted_told_once_and_can_run_again(tmp_path: Path):
    async with house(tmp_path, script(SLOW)) as wilson:
        await wilson.assistant.delegate(code())
        await wilson.provider.reached("pause coder")
        store = wilson.settings.sources.folders.store
        # What another process would find if this one died now.
        left = {path: path.read_bytes() for path in (store, store.with_name("wilson.db-wal"))}
    for path, content in left.items():
        path.write_bytes(content)

    async with house(tmp_path, script()) as wilson:
        (task,) = await wilson.assistant.tasks()
        assert (task.state, task.outcome_reason) == (TaskState.FAILED, OutcomeReason.INTERRUPTED)
        assert await wilson.assistant.left_over() == (
            "TASK-001 failed (interrupted) (Code Agent, coder): Wilson ended while this was at work. "
            "Run it again with /retry TASK-001",
        )
        assert await wilson.assistant.left_over() == ()
        await wilson.assistant.retry(task.id)
        assert (await wilson.assistant.ended(task.id)).state is TaskState.DONE


async def test_progress_counts_the_files_that_the_answer_announced(tmp_path: Path):
    answer = (
        "Files: a.py, b.py\n```\n# filepath: a.py\nprint('the first of two')\n```\n"
        "```\n# filepath: b.py\nprint('the second of two')\n```\n"
    )
    rule = Rule(purpose="code", parts=tuple(Say(f"{line}\n") for line in answer.splitlines()))
    async with house(tmp_path, script(rule)) as wilson:
        task = await wilson.assistant.delegate(code())
        await wilson.assistant.ended(task.id)
        await wilson.until(lambda: bool(wilson.of(WorkerEnded)))

    told = [(event.message, round(event.progress, 2), event.phase) for event in wilson.of(TaskProgressed)]
    assert told == [
        ("reading the goal", 0.0, Phase.WORKING),
        ("writing (0/2 files)", 0.0, Phase.WORKING),
        ("writing a.py (0/2 files)", 0.0, Phase.WORKING),
        ("writing (1/2 files)", 0.45, Phase.WORKING),
        ("writing b.py (1/2 files)", 0.45, Phase.WORKING),
        ("writing (2/2 files)", 0.9, Phase.WORKING),
        ("write the files", 0.9, Phase.WORKING),
        ("unloading model", 1.0, Phase.ENDING),
    ]


async def test_a_task_for_an_agent_that_is_gone_fails_with_a_reason(tmp_path: Path):
    async with house(tmp_path, script()) as wilson:
        task = await wilson.assistant.delegate(TaskDraft(goal="mend it", type=TaskType.CODE, agent="plumber"))
        ended = await wilson.assistant.ended(task.id)
    assert (ended.state, ended.message) == (
        TaskState.FAILED,
        "TASK-001 is for the agent plumber, which this profile does not have",
    )


async def test_a_one_shot_command_runs_only_what_somebody_waits_for(tmp_path: Path):
    async with house(tmp_path, script(), runs_all=False) as wilson:
        left_alone = await wilson.assistant.delegate(code("left alone"))
        needed = await wilson.assistant.delegate(code("needed"))
        wanted = await wilson.assistant.delegate(code("wanted", depends_on=(needed.id,)))
        assert (await wilson.assistant.ended(wanted.id)).state is TaskState.DONE
        assert (await wilson.assistant.task(needed.id)).state is TaskState.DONE
        assert (await wilson.assistant.task(left_alone.id)).state is TaskState.READY
        status = await wilson.assistant.status()
        assert [(queued.task, queued.reason) for queued in status.queue] == [
            ("TASK-001", "runs as soon as a window is open, or somebody waits for it")
        ]


async def test_no_worker_and_no_model_exists_before_the_first_task(tmp_path: Path):
    async with house(tmp_path, script()) as wilson:
        await wilson.assistant.wake()
        assert [model.name for model in await wilson.provider.loaded()] == ["chat"]
        assert wilson.of(WorkerStarted) == []
        assert [loaded.model for loaded in wilson.of(ModelLoaded)] == ["chat"]


async def test_delegating_while_a_delegator_goes_away_leaves_no_task_without_a_worker(tmp_path: Path):
    async with house(tmp_path, script()) as wilson:
        for ticks in range(12):
            delegating = asyncio.create_task(wilson.assistant.delegate(code(f"number {ticks}")))
            for _ in range(ticks):
                await asyncio.sleep(0)
            delegating.cancel()
            await asyncio.wait({delegating})
        for task in await wilson.assistant.tasks():
            ended = await wilson.assistant.ended(task.id)
            assert ended.state is TaskState.DONE
