"""The dialects of OpenAI's chat protocol, and how each of their failures is told."""

import json
import socket
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from tests.loopback.openai import Dialect, LoopbackOpenAI, ServedModel
from tests.loopback.replies import Call, Drop, End, Fail, Framing, NoEnd, Piece, Raw, Refusal, Silence, Thought, every
from tests.providers.talk import ADD, PATIENT, STEP, asked, finish_of, heard, heard_until, ignore, text_of
from wilson.domain.chat import ChatRequest, Finish, FinishReason, Message, Role, TextPiece, ThoughtPiece, ToolCall
from wilson.domain.errors import (
    AccessDenied,
    BadReply,
    Busy,
    ContextExceeded,
    LoadFailed,
    ModelMissing,
    StreamBroken,
    Unreachable,
    Unsupported,
)
from wilson.domain.model import Endpoint, Health, LoadedModel, ModelFacts, ModelSpec, ProviderKind
from wilson.domain.value import replace
from wilson.providers.openai import OpenAIProvider

CODER = ModelSpec(endpoint="there", name="coder", context=None)
SHORT = 0.05
"""Seconds of patience, where patience is to end."""

Opened = Callable[..., OpenAIProvider]


@pytest.fixture
async def server() -> AsyncIterator[LoopbackOpenAI]:
    async with LoopbackOpenAI(ServedModel("coder", context=2000), ServedModel("chat", size_mb=4100)) as made:
        yield made


@pytest.fixture
async def opened(server: LoopbackOpenAI) -> AsyncIterator[Opened]:
    """A provider for the server; keys come from the environment, as they always do."""
    made: list[OpenAIProvider] = []

    def open_it(key_env: str | None = None, **patience: float) -> OpenAIProvider:
        endpoint = Endpoint(name="there", provider=ProviderKind.OPENAI, url=server.url, api_key_env=key_env)
        made.append(OpenAIProvider(endpoint, replace(PATIENT, **patience)))
        return made[-1]

    yield open_it
    for provider in made:
        await provider.aclose()


@pytest.fixture
def provider(opened: Opened) -> OpenAIProvider:
    return opened()


class TestWhatIsAsked:
    async def test_a_chat_asks_for_a_stream_with_counts(self, server: LoopbackOpenAI, provider: OpenAIProvider) -> None:
        await heard(provider, CODER, asked("Hello.", system="Be brief.", temperature=0.25, max_tokens=77))

        assert server.bodies("/v1/chat/completions") == [
            {
                "model": "coder",
                "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello."}],
                "stream": True,
                "stream_options": {"include_usage": True},
                "temperature": 0.25,
                "max_tokens": 77,
            }
        ]

    async def test_a_schema_goes_as_a_strict_response_format(
        self, server: LoopbackOpenAI, provider: OpenAIProvider
    ) -> None:
        await heard(provider, CODER, asked(schema=STEP))

        assert server.bodies("/v1/chat/completions")[0]["response_format"] == {
            "type": "json_schema",
            "json_schema": {"name": "answer", "strict": True, "schema": STEP},
        }

    async def test_calls_and_their_results_go_back_as_the_protocol_has_them(
        self, server: LoopbackOpenAI, provider: OpenAIProvider
    ) -> None:
        call = ToolCall("call_0", "add", {"length": 1, "unit": "µm"})
        request = ChatRequest(
            messages=(
                Message(role=Role.USER, content="Add."),
                Message(role=Role.ASSISTANT, content="", tool_calls=(call,)),
                Message(role=Role.TOOL, content="2", tool_call_id="call_0", tool_name="add"),
            ),
            tools=(ADD,),
        )

        await heard(provider, CODER, request)

        [body] = server.bodies("/v1/chat/completions")
        function = {"name": "add", "description": "Adds a length.", "parameters": ADD.parameters}
        assert body["tools"] == [{"type": "function", "function": function}]
        assert body["messages"][1:] == [
            {
                "role": "assistant",
                "content": "",
                "tool_calls": [
                    {
                        "id": "call_0",
                        "type": "function",
                        "function": {"name": "add", "arguments": '{"length": 1, "unit": "µm"}'},
                    }
                ],
            },
            {"role": "tool", "content": "2", "tool_call_id": "call_0"},
        ]

    async def test_a_server_that_refuses_the_question_for_counts_is_asked_without_it_from_then_on(
        self, server: LoopbackOpenAI, provider: OpenAIProvider
    ) -> None:
        server.dialect.refuses_stream_options = True

        first = await heard(provider, CODER, asked("One."))
        second = await heard(provider, CODER, asked("Two."))

        assert (first, second) == (
            [TextPiece("One."), Finish(FinishReason.STOP, None, None)],
            [TextPiece("Two."), Finish(FinishReason.STOP, None, None)],
        )
        sent = ["stream_options" in body for body in server.bodies("/v1/chat/completions")]
        assert sent == [True, False, False]

    async def test_the_key_is_read_from_the_environment(
        self, server: LoopbackOpenAI, opened: Opened, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        server.key = "sesame"
        monkeypatch.setenv("THERE_KEY", "sesame")

        assert (await opened("THERE_KEY").health()).ok
        assert server.requests[-1].headers["authorization"] == "Bearer sesame"

    async def test_no_key_is_sent_when_none_is_configured(
        self, server: LoopbackOpenAI, provider: OpenAIProvider
    ) -> None:
        await heard(provider, CODER, asked())

        assert "authorization" not in server.requests[-1].headers


class TestWhatIsKnown:
    async def test_models_are_listed_with_what_the_server_tells(self, provider: OpenAIProvider) -> None:
        assert await provider.installed() == (
            ModelFacts(name="coder", context=2000),
            ModelFacts(name="chat", size_mb=4100),
        )

    async def test_everything_that_is_served_counts_as_loaded_with_unknown_memory(
        self, provider: OpenAIProvider
    ) -> None:
        assert await provider.loaded() == (
            LoadedModel(name="coder", memory_mb=None, context=2000),
            LoadedModel(name="chat", memory_mb=None, context=None),
        )

    async def test_loading_only_looks(self, server: LoopbackOpenAI, provider: OpenAIProvider) -> None:
        await provider.load(CODER, ignore)
        await provider.unload(CODER)
        await provider.release(CODER)

        assert [(request.method, request.path) for request in server.requests] == [("GET", "/v1/models")]

    async def test_a_missing_model_comes_with_those_that_are_there(
        self, server: LoopbackOpenAI, provider: OpenAIProvider
    ) -> None:
        with pytest.raises(ModelMissing) as missing:
            await provider.show("mixtral")

        assert str(missing.value) == f"there ({server.url}) does not serve mixtral; it serves: coder, chat"

    async def test_a_server_without_models_says_none(self, server: LoopbackOpenAI, provider: OpenAIProvider) -> None:
        server.models.clear()

        with pytest.raises(ModelMissing, match="it serves: none"):
            await provider.show("mixtral")

    @pytest.mark.parametrize(
        ("entry", "facts"),
        [
            ({"id": "m", "max_model_len": 4096}, ModelFacts(name="m", context=4096)),
            ({"id": "m", "max_context_length": 8192}, ModelFacts(name="m", context=8192)),
            ({"id": "m", "meta": {"n_ctx": 2048, "size": 3 << 20}}, ModelFacts(name="m", context=2048, size_mb=3)),
            ({"id": "m", "meta": None, "max_model_len": None}, ModelFacts(name="m")),
        ],
        ids=["vLLM", "LM Studio", "llama-server", "nothing"],
    )
    @pytest.mark.parametrize("wrapped", [True, False], ids=["wrapped", "bare"])
    async def test_servers_tell_the_context_in_their_own_ways(
        self,
        server: LoopbackOpenAI,
        provider: OpenAIProvider,
        entry: dict[str, Any],
        facts: ModelFacts,
        wrapped: bool,
    ) -> None:
        server.instead("/v1/models", Raw(json.dumps({"data": [entry]} if wrapped else [entry]).encode()))

        assert await provider.installed() == (facts,)


class TestHealth:
    async def test_it_is_well_when_the_models_can_be_listed(self, provider: OpenAIProvider) -> None:
        assert await provider.health() == Health(ok=True, detail="OpenAI-compatible")

    async def test_nobody_at_the_address_is_said_in_a_sentence(self) -> None:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            url = f"http://127.0.0.1:{taken.getsockname()[1]}/v1"
            provider = OpenAIProvider(Endpoint(name="there", provider=ProviderKind.OPENAI, url=url), PATIENT)

            health = await provider.health()
            await provider.aclose()

        assert health == Health(
            ok=False, detail=f"nobody answers at there ({url}) (connection refused); is the server running?"
        )

    async def test_a_missing_key_is_named_by_its_variable_without_asking(
        self, server: LoopbackOpenAI, opened: Opened
    ) -> None:
        assert await opened("THERE_KEY").health() == Health(
            ok=False, detail=f"there ({server.url}) needs a key; set THERE_KEY"
        )
        assert server.requests == []

    @pytest.mark.parametrize(
        ("fault", "detail"),
        [
            (Refusal(401, "no"), "there (URL) wants another key (401: no); set api_key_env of the endpoint"),
            (Refusal(500, "boom"), "there (URL) answered with error 500: boom"),
            (
                Raw(b"<html><body>Log in</body></html>"),
                "there (URL) answered /models with something that is not JSON: Log in",
            ),
            (Drop(), "the connection to there (URL) broke (Server disconnected without sending a response.)"),
        ],
        ids=["key", "error", "html", "drop"],
    )
    async def test_whatever_is_wrong_is_a_sentence_and_no_exception(
        self, server: LoopbackOpenAI, provider: OpenAIProvider, fault: Any, detail: str
    ) -> None:
        server.instead("/v1/models", fault)

        assert await provider.health() == Health(ok=False, detail=detail.replace("URL", server.url))

    async def test_a_silent_server_is_not_healthy(self, server: LoopbackOpenAI, opened: Opened) -> None:
        server.instead("/v1/models", Silence())

        assert await opened(probe_s=SHORT).health() == Health(
            ok=False, detail=f"there ({server.url}) gave no sign of life for 0.05 s; is it overloaded, or stuck?"
        )


DIALECTS: dict[str, dict[str, Any]] = {
    "usual": {},
    "counts without being asked": {"usage": "always"},
    "no [DONE]": {"done": False},
    "no space after data": {"space": False},
    "event lines": {"event_lines": True},
    "no null content": {"null_content": False},
    "reasoning": {"thoughts": "reasoning"},
    "think tags": {"thoughts": "tags"},
    "whole calls": {"calls": "whole"},
    "calls with index 0": {"calls": "all zero"},
    "arguments as objects": {"calls": "objects"},
    "calls without index": {"calls": "no index"},
    "stop after calls": {"finish_of_calls": "stop"},
    "no stream": {"streams": False},
    "no stream, nothing null": {"streams": False, "null_content": False, "thoughts": "reasoning"},
}
FRAMINGS: dict[str, dict[str, Any]] = {
    "usual": {},
    "CRLF": {"line_end": b"\r\n"},
    "heartbeats": {"between": b": ping\n\n"},
    "byte by byte": {"cut": every(1)},
    "CRLF, heartbeats, three bytes at a time": {"line_end": b"\r\n", "between": b":\r\n\r\n", "cut": every(3)},
}
# Every dialect in the usual framing, and some of them in every framing.
PAIRS = [
    (dialect, framing)
    for dialect in DIALECTS
    for framing in FRAMINGS
    if framing == "usual" or dialect in {"usual", "think tags", "event lines"}
]
REPLY: tuple[Piece, ...] = (
    Thought("Hm"),
    Thought("m."),
    "Grüße, ",
    "世界",
    Call("add", {"length": 1, "unit": "mm"}, id="call_a"),
    Call("add", {"length": 22, "unit": "cm"}, id="call_b"),
    End(prompt_tokens=11, tokens=22),
)


class TestDialects:
    @pytest.mark.parametrize(("dialect", "framing"), PAIRS)
    async def test_a_reply_is_the_same_in_every_dialect(
        self, server: LoopbackOpenAI, provider: OpenAIProvider, dialect: str, framing: str
    ) -> None:
        server.dialect = Dialect(**DIALECTS[dialect])
        server.framing = Framing(**FRAMINGS[framing])
        # Tags open the text or are none, and one thought is enough for them.
        server.say(*(Thought("Hmm."), *REPLY[2:]) if dialect == "think tags" else REPLY)

        assert await heard(provider, CODER, asked()) == [
            ThoughtPiece("Hmm."),
            TextPiece("Grüße, 世界"),
            ToolCall("call_a", "add", {"length": 1, "unit": "mm"}),
            ToolCall("call_b", "add", {"length": 22, "unit": "cm"}),
            Finish(FinishReason.STOP, 11, 22),
        ]

    async def test_without_counts_the_end_has_none(self, server: LoopbackOpenAI, provider: OpenAIProvider) -> None:
        server.dialect.usage = "never"

        assert finish_of(await heard(provider, CODER, asked())) == Finish(FinishReason.STOP, None, None)

    async def test_calls_without_an_id_get_one_each(self, server: LoopbackOpenAI, provider: OpenAIProvider) -> None:
        server.say(Call("add", {"n": 1}, id=""), Call("take", {"n": 2}, id=""))

        assert (await heard(provider, CODER, asked()))[:-1] == [
            ToolCall("call-1", "add", {"n": 1}),
            ToolCall("call-2", "take", {"n": 2}),
        ]

    async def test_arguments_that_are_no_object_have_a_problem(
        self, server: LoopbackOpenAI, provider: OpenAIProvider
    ) -> None:
        server.say(Call("add", '{"n": ', id="a"), Call("add", "[1]", id="b"), Call("add", "", id="c"))

        cut, wrong, empty = (await heard(provider, CODER, asked()))[:-1]

        assert isinstance(cut, ToolCall)
        assert (cut.id, cut.arguments) == ("a", {})
        assert cut.problem.startswith("the arguments are not JSON: ")
        assert wrong == ToolCall("b", "add", {}, "the arguments are not an object")
        assert empty == ToolCall("c", "add", {})

    async def test_a_reply_at_the_token_limit_says_so(self, server: LoopbackOpenAI, provider: OpenAIProvider) -> None:
        server.say("One ", "two ", "three.")

        assert await heard(provider, CODER, asked(max_tokens=2)) == [
            TextPiece("One two "),
            Finish(FinishReason.LENGTH, 4, 2),
        ]

    async def test_a_stream_of_other_events_is_passed_over(
        self, server: LoopbackOpenAI, provider: OpenAIProvider
    ) -> None:
        server.say("One.", Raw(b"id: 7\nretry: 10\nevent: ping\ndata:\n\n: still here\n\nnonsense\n\n"), " Two.")

        assert text_of(await heard(provider, CODER, asked())) == "One. Two."


REFUSALS = [
    (
        Refusal(400, "This model's maximum context length is 2000 tokens. However, you requested 5000."),
        ContextExceeded,
        "the prompt does not fit into the context of coder at there (URL): This model's maximum context length is "
        "2000 tokens. However, you requested 5000.; begin a new conversation, or raise num_ctx",
    ),
    (
        Refusal(401, "Incorrect API key provided"),
        AccessDenied,
        "there (URL) wants another key (401: Incorrect API key provided); set api_key_env of the endpoint",
    ),
    (
        Refusal(404, "The model `coder` does not exist."),
        ModelMissing,
        "there (URL) does not have the model coder (The model `coder` does not exist.)",
    ),
    (
        Refusal(429, "Rate limit reached", headers={"Retry-After": "7"}),
        Busy,
        "there (URL) is busy (429: Rate limit reached); try again in a moment",
    ),
    (Refusal(529, "Overloaded"), Busy, "there (URL) is busy (529: Overloaded); try again in a moment"),
    (
        Refusal(400, '"auto" tool choice requires --enable-auto-tool-choice'),
        Unsupported,
        'coder cannot do this: "auto" tool choice requires --enable-auto-tool-choice',
    ),
    (
        Refusal(502, b"<!doctype html><title>502</title><script>1 < 2</script><h1>Bad gateway</h1>", "text/html"),
        BadReply,
        "there (URL) answered with error 502: 502 Bad gateway",
    ),
    (
        Refusal(422, {"detail": [{"loc": ["body"], "msg": "no"}]}),
        BadReply,
        'there (URL) answered with error 422: [{"loc": ["body"], "msg": "no"}]',
    ),
    (
        Refusal(302, b"", headers={"Location": "http://elsewhere/"}),
        BadReply,
        "there (URL) answered with error 302: Found",
    ),
]


class TestFailures:
    @pytest.mark.parametrize(
        ("refusal", "kind", "sentence"), REFUSALS, ids=[f"{each[0].status}-{each[1].__name__}" for each in REFUSALS]
    )
    async def test_a_refused_chat_has_a_name_and_a_sentence(
        self,
        server: LoopbackOpenAI,
        provider: OpenAIProvider,
        refusal: Refusal,
        kind: type[Exception],
        sentence: str,
    ) -> None:
        server.say(refusal)

        chunks, error = await heard_until(provider, CODER, asked(), kind)

        assert (chunks, type(error)) == ([], kind)
        assert str(error) == sentence.replace("URL", server.url)
        assert len(server.bodies("/v1/chat/completions")) == 1

    async def test_a_wrong_key_is_refused_and_not_told(
        self, server: LoopbackOpenAI, opened: Opened, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        server.key = "sesame"
        monkeypatch.setenv("THERE_KEY", "open-barley")

        chunks, error = await heard_until(opened("THERE_KEY"), CODER, asked(), AccessDenied)

        assert chunks == []
        assert "barley" not in str(error)

    async def test_a_prompt_beyond_the_context_is_refused(
        self, server: LoopbackOpenAI, provider: OpenAIProvider
    ) -> None:
        chunks, error = await heard_until(provider, CODER, asked("word " * 5000), ContextExceeded)

        assert chunks == []
        assert "maximum context length is 2000 tokens" in str(error)

    async def test_a_model_the_server_does_not_have_is_missing(self, provider: OpenAIProvider) -> None:
        absent = ModelSpec(endpoint="there", name="mixtral", context=None)

        _, error = await heard_until(provider, absent, asked(), ModelMissing)

        assert "mixtral" in str(error)

    @pytest.mark.parametrize("errors", ["data", "field", "text"])
    @pytest.mark.parametrize("space", [True, False], ids=["space", "no space"])
    async def test_an_error_in_mid_stream_comes_after_what_was_said(
        self, server: LoopbackOpenAI, provider: OpenAIProvider, errors: Any, space: bool
    ) -> None:
        server.dialect = Dialect(errors=errors, space=space)
        server.say("One ", "two ", Fail("the engine died"))

        chunks, error = await heard_until(provider, CODER, asked(), StreamBroken)

        assert chunks == [TextPiece("One two ")]
        assert str(error) == f"there ({server.url}) answered with error 500: the engine died"

    @pytest.mark.parametrize(
        ("text", "kind"),
        [
            ("CUDA error: out of memory", LoadFailed),
            ("request (5000 tokens) exceeds the available context size (4096 tokens)", ContextExceeded),
        ],
    )
    async def test_an_error_in_mid_stream_that_means_something_has_its_own_name(
        self, server: LoopbackOpenAI, provider: OpenAIProvider, text: str, kind: type[Exception]
    ) -> None:
        server.say("One ", Fail(text))

        chunks, error = await heard_until(provider, CODER, asked(), kind)

        assert chunks == [TextPiece("One ")]
        assert text in str(error)

    @pytest.mark.parametrize(
        ("breaks", "kind", "sentence"),
        [
            (
                (NoEnd(),),
                StreamBroken,
                "the reply of coder at there (URL) stopped before its end; did the server stop?",
            ),
            (
                (Drop(),),
                StreamBroken,
                "the connection to there (URL) broke (peer closed connection without sending complete message body "
                "(incomplete chunke…)",
            ),
            ((Raw(b"data: {oops\n\n"),), BadReply, "there (URL) sent an event that is not JSON: '{oops'"),
            ((Raw(b"data: [1]\n\n"),), BadReply, "there (URL) sent an event that is no object: '[1]'"),
            (
                (Raw(b'data: {"id": 1}{"id": 2}\n\n'),),
                BadReply,
                'there (URL) sent an event that is not JSON: \'{"id": 1}{"id": 2}\'',
            ),
            (
                (Raw(b"data: " + b"[" * 100_000 + b"\n\n"),),
                BadReply,
                f"there (URL) sent an event that is not JSON: '{'[' * 80}'",
            ),
            (
                (*[Raw(b"x" * (1 << 20))] * 16,),
                BadReply,
                "the server sent a line of more than 8 MB; that is no chat",
            ),
        ],
        ids=["no end", "killed", "not JSON", "not an object", "two objects", "too deep", "too long"],
    )
    async def test_what_was_said_before_a_break_is_delivered_first(
        self,
        server: LoopbackOpenAI,
        provider: OpenAIProvider,
        breaks: tuple[Piece, ...],
        kind: type[Exception],
        sentence: str,
    ) -> None:
        server.say("One ", "two ", *breaks)

        chunks, error = await heard_until(provider, CODER, asked(), kind)

        assert (chunks, type(error)) == ([TextPiece("One two ")], kind)
        assert str(error) == sentence.replace("URL", server.url)
        await server.until(lambda: server.running == 0)

    async def test_an_error_body_under_status_200_is_an_error(
        self, server: LoopbackOpenAI, provider: OpenAIProvider
    ) -> None:
        server.instead("/v1/chat/completions", Raw(b'{"error": {"message": "no such route"}}'))

        chunks, error = await heard_until(provider, CODER, asked(), StreamBroken)

        assert chunks == []
        assert str(error) == f"there ({server.url}) answered with error 500: no such route"

    async def test_silence_between_words_is_told_with_its_seconds(self, server: LoopbackOpenAI, opened: Opened) -> None:
        server.say("One ", Silence())

        chunks, error = await heard_until(opened(between_tokens_s=0.5), CODER, asked(), StreamBroken)

        assert chunks == [TextPiece("One ")]
        assert str(error) == f"there ({server.url}) gave no sign of life for 0.5 s; is it overloaded, or stuck?"
        await server.until(lambda: server.running == 0)

    async def test_a_server_that_says_nothing_at_all_is_left(self, server: LoopbackOpenAI, opened: Opened) -> None:
        server.instead("/v1/chat/completions", Silence())

        chunks, error = await heard_until(opened(first_token_s=SHORT), CODER, asked(), Unreachable)

        assert chunks == []
        assert str(error) == f"there ({server.url}) gave no sign of life for 0.05 s; is it overloaded, or stuck?"

    async def test_half_a_call_is_not_passed_on(self, server: LoopbackOpenAI, provider: OpenAIProvider) -> None:
        server.say("One ", Call("add", {"length": 1, "unit": "mm"}), NoEnd())

        chunks, _ = await heard_until(provider, CODER, asked(), StreamBroken)

        assert chunks == [TextPiece("One ")]
