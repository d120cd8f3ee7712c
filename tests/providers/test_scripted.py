"""The provider that plays a script: which reply is due, how it is paced, and where it pauses or breaks."""

import asyncio
from typing import Any

import pytest

from tests.providers.talk import ADD, asked, finish_of, going_on, heard, heard_until, ignore, text_of
from wilson.domain import errors
from wilson.domain.chat import Finish, FinishReason, TextPiece, ToolCall
from wilson.domain.errors import BadReply, LoadFailed, ModelMissing, ProviderError
from wilson.domain.model import Endpoint, Health, LoadedModel, ModelFacts, ModelSpec, ProviderKind
from wilson.domain.script import Call, CutShort, Part, Pause, Rule, Say, Script, ScriptedModel, Stumble
from wilson.providers.scripted import ScriptedProvider, Sleep

CODER = ModelSpec(endpoint="here", name="coder", context=4096)
KINDS = sorted(
    name for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, ProviderError)
)


def playing(*rules: Rule, sleep: Sleep = asyncio.sleep, **coder: Any) -> ScriptedProvider:
    script = Script(models=(ScriptedModel(name="coder", **coder), ScriptedModel(name="chat:8b")), rules=rules)
    return ScriptedProvider(Endpoint(name="here", provider=ProviderKind.SCRIPTED), script, sleep=sleep)


def rule(*parts: Part | str, **conditions: Any) -> Rule:
    return Rule(parts=tuple(Say(part) if isinstance(part, str) else part for part in parts), **conditions)


async def said(provider: ScriptedProvider, question: str, *, model: str = "coder", purpose: str = "chat") -> str:
    spec = ModelSpec(endpoint="here", name=model, context=4096)
    return text_of(await heard(provider, spec, asked(question, purpose=purpose)))


class Clock:
    """Seconds that pass only here."""

    def __init__(self) -> None:
        self.slept: list[float] = []

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)


class TestWhichReplyIsDue:
    async def test_the_first_rule_that_fits_speaks(self) -> None:
        provider = playing(rule("first"), rule("second"))

        assert await said(provider, "?") == "first"

    async def test_a_rule_that_is_used_up_leaves_its_turn_to_those_below(self) -> None:
        provider = playing(rule("once", times=1), rule("twice", times=2), rule("always"), rule("never", times=0))

        assert [await said(provider, "?") for _ in range(5)] == ["once", "twice", "twice", "always", "always"]

    @pytest.mark.parametrize(
        ("model", "purpose", "answer"),
        [
            ("coder", "code", "both"),
            ("coder", "chat", "model"),
            ("chat:8b", "code", "purpose"),
            ("chat:8b", "chat", "neither"),
        ],
    )
    async def test_purpose_and_model_must_be_those_that_are_given(self, model: str, purpose: str, answer: str) -> None:
        provider = playing(
            rule("both", purpose="code", model="coder"),
            rule("model", model="coder"),
            rule("purpose", purpose="code"),
            rule("neither"),
        )

        assert await said(provider, "write a test", model=model, purpose=purpose) == answer

    @pytest.mark.parametrize(
        ("question", "answer"),
        [
            ("Write TESTS for it", "contains"),
            ("write 12 files", "matches"),
            ("WRITE 3 FILES", "matches"),
            ("write no files", "otherwise"),
        ],
    )
    async def test_the_last_message_is_searched_whatever_its_case(self, question: str, answer: str) -> None:
        provider = playing(
            rule("contains", contains="tests"), rule("matches", matches=r"write \d+ files"), rule("otherwise")
        )

        assert await said(provider, question) == answer

    async def test_every_condition_must_hold(self) -> None:
        provider = playing(rule("all", contains="a", matches="b", purpose="chat", model="coder"), rule("otherwise"))

        assert [await said(provider, question) for question in ("a", "b", "ab")] == ["otherwise", "otherwise", "all"]

    async def test_groups_of_the_expression_go_into_text_and_calls(self) -> None:
        call = Call("delegate", {"goal": r"write \1", "files": [r"\1.py", {"name": r"\2"}], "count": 3})
        provider = playing(rule(r"\2 makes \1.", call, matches=r"(\w+) by (\w+)"))

        chunks = await heard(provider, CODER, asked("Please: poem by Ada"))

        assert chunks[:-1] == [
            TextPiece("Ada makes poem."),
            ToolCall("call-2", "delegate", {"goal": "write poem", "files": ["poem.py", {"name": "Ada"}], "count": 3}),
        ]

    async def test_without_groups_backslashes_are_only_backslashes(self) -> None:
        assert await said(playing(rule(r"C:\1\new", matches="x")), "x") == r"C:\1\new"

    async def test_without_a_fitting_rule_the_script_is_at_fault(self) -> None:
        chunks, error = await heard_until(
            playing(rule("x", contains="x")), CODER, asked("what?", purpose="chat"), BadReply
        )

        assert chunks == []
        assert str(error) == "the script has no reply for the purpose 'chat' to 'what?'"


class TestReplies:
    async def test_parts_come_in_their_order_and_the_end_counts_words(self) -> None:
        provider = playing(rule("One ", Call("add", {"length": 1}), "two."))

        assert await heard(provider, CODER, asked("three little words", tools=(ADD,))) == [
            TextPiece("One "),
            ToolCall("call-2", "add", {"length": 1}),
            TextPiece("two."),
            Finish(FinishReason.STOP, 3, 2),
        ]

    async def test_a_reply_that_is_cut_short_ends_at_the_limit(self) -> None:
        chunks = await heard(playing(rule("One", CutShort())), CODER, asked())

        assert (text_of(chunks), finish_of(chunks).reason) == ("One", FinishReason.LENGTH)

    @pytest.mark.parametrize("kind", KINDS)
    async def test_a_reply_stumbles_with_any_error_a_provider_knows(self, kind: str) -> None:
        chunks, error = await heard_until(
            playing(rule("One ", Stumble(kind, "the words"))), CODER, asked(), ProviderError
        )

        assert chunks == [TextPiece("One ")]
        assert (type(error).__name__, str(error)) == (kind, "the words")

    async def test_every_request_is_kept(self) -> None:
        provider = playing(rule("yes"))
        request = asked("?", purpose="code")

        await heard(provider, CODER, request)

        assert provider.requests == [request]

    async def test_words_come_at_the_pace_of_the_model(self) -> None:
        clock = Clock()
        provider = playing(rule("One  two\nthree. "), sleep=clock.sleep, tokens_per_second=4)

        async with provider.chat(CODER, asked()) as stream:
            chunks = [chunk async for chunk in stream]

        assert chunks == [
            TextPiece("One  "),
            TextPiece("two\n"),
            TextPiece("three. "),
            Finish(FinishReason.STOP, 2, 3),
        ]
        assert clock.slept == [0.25] * 3

    async def test_without_a_pace_everything_comes_at_once(self) -> None:
        clock = Clock()

        chunks = await heard(playing(rule("One two three."), sleep=clock.sleep), CODER, asked())

        assert chunks == [TextPiece("One two three."), Finish(FinishReason.STOP, 2, 1)]
        assert clock.slept == []

    async def test_a_pause_lasts_until_its_cue(self) -> None:
        provider = playing(rule("One ", Pause("middle"), "two."))

        async with going_on(heard(provider, CODER, asked())) as reply:
            await provider.reached("pause middle")
            assert not reply.done()
            await provider.cue("middle")
            assert text_of(await reply) == "One two."

        assert provider.log == ["stream coder", "pause middle"]

    async def test_a_cue_that_comes_first_is_kept(self) -> None:
        provider = playing(rule("One ", Pause("middle"), "two."))
        await provider.cue("middle")

        assert [await said(provider, "?") for _ in range(2)] == ["One two.", "One two."]

    async def test_a_cue_is_for_its_own_pause_only(self) -> None:
        provider = playing(rule(Pause("first"), "One ", Pause("second"), "two."))

        async with going_on(heard(provider, CODER, asked())) as reply:
            await provider.reached("pause first")
            await provider.cue("first")
            await provider.reached("pause second")
            assert not reply.done()

    async def test_one_can_wait_for_the_second_time(self) -> None:
        provider = playing(rule("yes"))

        async with going_on(provider.reached("stream coder", times=2)) as waiting:
            await said(provider, "?")
            assert not waiting.done()
            await said(provider, "?")
            await waiting

    async def test_replies_that_pause_do_not_hold_up_others(self) -> None:
        provider = playing(rule(Pause("for ever"), contains="wait"), rule("yes"))

        async with going_on(heard(provider, CODER, asked("wait"))):
            await provider.reached("pause for ever")
            assert await said(provider, "go on") == "yes"


class TestComingAndGoing:
    async def test_it_is_always_well(self) -> None:
        assert await playing().health() == Health(ok=True, detail="scripted replies, no model")

    async def test_models_are_known_as_the_script_has_them(self) -> None:
        provider = playing(size_mb=9000, context=16384, parameters="14B", tools=False)
        facts = ModelFacts(name="coder", size_mb=9000, context=16384, parameters="14B", tools=False)

        assert await provider.installed() == (facts, ModelFacts(name="chat:8b", size_mb=0, context=8192, tools=True))
        assert await provider.show("coder") == facts
        assert await provider.show("coder:latest") == facts

    async def test_a_model_comes_and_goes_by_its_seconds(self) -> None:
        clock = Clock()
        provider = playing(sleep=clock.sleep, size_mb=9000, load_seconds=5, unload_seconds=2)
        told: list[float | None] = []

        await provider.load(CODER, told.append)
        assert await provider.loaded() == (LoadedModel(name="coder", memory_mb=9000, context=4096),)
        await provider.unload(CODER)
        assert await provider.loaded() == ()

        assert told == [tenth / 10 for tenth in range(10)]
        assert clock.slept == [0.5] * 10 + [2]
        assert provider.log == ["load coder", "unload coder"]

    async def test_without_a_context_the_models_own_counts(self) -> None:
        provider = playing(context=2048)

        await provider.load(ModelSpec(endpoint="here", name="coder", context=None), ignore)

        assert await provider.loaded() == (LoadedModel(name="coder", memory_mb=0, context=2048),)

    async def test_a_load_can_pause(self) -> None:
        provider = playing(pause_load=True)

        async with going_on(provider.load(CODER, ignore)) as loading:
            await provider.reached("pause load coder")
            assert await provider.loaded() == ()
            await provider.cue("load coder")
            await loading

        assert [model.name for model in await provider.loaded()] == ["coder"]

    async def test_a_load_can_fail(self) -> None:
        provider = playing(load_error="no memory left")

        with pytest.raises(LoadFailed) as failed:
            await provider.load(CODER, ignore)

        assert str(failed.value) == "coder could not be loaded: no memory left"
        assert await provider.loaded() == ()

    async def test_a_released_model_goes(self) -> None:
        provider = playing()
        await provider.load(CODER, ignore)

        await provider.release(CODER)

        assert (await provider.loaded(), provider.log) == ((), ["load coder", "unload coder"])

    async def test_a_model_the_script_has_not_is_missing(self) -> None:
        with pytest.raises(ModelMissing) as missing:
            await playing().show("mixtral")

        assert str(missing.value) == "the script of here has no model mixtral"
