"""Ollama's own manners: what every request carries, how a model comes and goes, and what can go wrong."""

import re
import socket
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from tests.loopback.ollama import LoopbackOllama, Model
from tests.loopback.replies import (
    Call,
    Drop,
    End,
    Fail,
    Framing,
    Hold,
    NoEnd,
    Piece,
    Raw,
    Refusal,
    Silence,
    Thought,
    every,
)
from tests.providers.talk import (
    ADD,
    PATIENT,
    STEP,
    asked,
    finish_of,
    going_on,
    heard,
    heard_until,
    ignore,
    joined,
    text_of,
)
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
from wilson.providers.ollama import OllamaProvider

CODER = ModelSpec(endpoint="here", name="coder:14b", context=4096, threads=2)
CHAT = ModelSpec(endpoint="here", name="chat", context=8192, resident=True)
THINKER = ModelSpec(endpoint="here", name="thinker:8b", context=4096)
SHORT = 0.05
"""Seconds of patience, where patience is to end."""

Opened = Callable[..., OllamaProvider]


@pytest.fixture
async def server() -> AsyncIterator[LoopbackOllama]:
    models = (
        Model("coder:14b", 9100, context=32768),
        Model("chat", 4100),
        Model("thinker:8b", capabilities=("completion", "tools", "thinking")),
        Model("plain:3b", capabilities=("completion",)),
    )
    async with LoopbackOllama(*models) as made:
        yield made


@pytest.fixture
async def opened(server: LoopbackOllama) -> AsyncIterator[Opened]:
    """A provider for the server, with another patience than usual if need be."""
    made: list[OllamaProvider] = []

    def open_it(**patience: float) -> OllamaProvider:
        endpoint = Endpoint(name="here", provider=ProviderKind.OLLAMA, url=server.url)
        made.append(OllamaProvider(endpoint, replace(PATIENT, **patience)))
        return made[-1]

    yield open_it
    for provider in made:
        await provider.aclose()


@pytest.fixture
def provider(opened: Opened) -> OllamaProvider:
    return opened()


class TestWhatEveryRequestCarries:
    async def test_load_options_and_keep_alive_are_the_same_in_all_of_them(
        self, server: LoopbackOllama, provider: OllamaProvider
    ) -> None:
        await provider.load(CODER, ignore)
        await heard(provider, CODER, asked())
        await heard(provider, CODER, asked(temperature=0.5, max_tokens=100, tools=(ADD,)))
        await heard(provider, CODER, asked(schema=STEP))

        bodies = server.bodies("/api/chat")
        assert [body["keep_alive"] for body in bodies] == ["10m"] * 4
        chosen = [{key: body["options"].get(key) for key in ("num_ctx", "num_thread")} for body in bodies]
        assert chosen == [{"num_ctx": 4096, "num_thread": 2}] * 4
        assert server.loads == {"coder:14b": 1}

    async def test_a_resident_model_is_asked_to_stay_every_time(
        self, server: LoopbackOllama, provider: OllamaProvider
    ) -> None:
        await provider.load(CHAT, ignore)
        await heard(provider, CHAT, asked())

        assert [body["keep_alive"] for body in server.bodies("/api/chat")] == [-1, -1]
        assert server.runners["chat:latest"].keep_alive == -1

    async def test_without_a_context_the_server_decides(self, server: LoopbackOllama, provider: OllamaProvider) -> None:
        await heard(provider, ModelSpec(endpoint="here", name="chat", context=None), asked())

        assert [body["options"] for body in server.bodies("/api/chat")] == [{}]

    async def test_a_chat_forbids_the_server_to_drop_messages(
        self, server: LoopbackOllama, provider: OllamaProvider
    ) -> None:
        await heard(provider, CODER, asked("Hello.", system="Be brief.", temperature=0.25, max_tokens=77))

        assert server.bodies("/api/chat") == [
            {
                "model": "coder:14b",
                "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello."}],
                "stream": True,
                "truncate": False,
                "options": {"num_ctx": 4096, "num_thread": 2, "temperature": 0.25, "num_predict": 77},
                "keep_alive": "10m",
            }
        ]

    async def test_a_schema_goes_as_the_format(self, server: LoopbackOllama, provider: OllamaProvider) -> None:
        await heard(provider, CODER, asked(schema=STEP))

        assert server.bodies("/api/chat")[0]["format"] == STEP

    async def test_tools_and_their_results_go_in_the_shapes_that_ollama_knows(
        self, server: LoopbackOllama, provider: OllamaProvider
    ) -> None:
        call = ToolCall("call-1", "add", {"length": 1, "unit": "mm"})
        request = ChatRequest(
            messages=(
                Message(role=Role.USER, content="Add."),
                Message(role=Role.ASSISTANT, content="", tool_calls=(call,)),
                Message(role=Role.TOOL, content="2", tool_call_id="call-1", tool_name="add"),
            ),
            tools=(ADD,),
        )

        await heard(provider, CODER, request)

        [body] = server.bodies("/api/chat")
        function = {"name": "add", "description": "Adds a length.", "parameters": ADD.parameters}
        assert body["tools"] == [{"type": "function", "function": function}]
        assert body["messages"] == [
            {"role": "user", "content": "Add."},
            {
                "role": "assistant",
                "content": "",
                "tool_calls": [{"function": {"name": "add", "arguments": {"length": 1, "unit": "mm"}}}],
            },
            {"role": "tool", "content": "2", "tool_name": "add"},
        ]

    @pytest.mark.parametrize(
        ("spec", "think"), [(THINKER, [False]), (CODER, []), (CHAT, [])], ids=["8b", "14b", "chat"]
    )
    async def test_thinking_is_switched_off_for_models_that_think_and_not_mentioned_to_others(
        self, server: LoopbackOllama, provider: OllamaProvider, spec: ModelSpec, think: list[bool]
    ) -> None:
        chunks = await heard(provider, spec, asked("Well?"))

        assert [body["think"] for body in server.bodies("/api/chat") if "think" in body] == think
        assert chunks == [TextPiece("Well?"), finish_of(chunks)]


class TestComingAndGoing:
    async def test_a_load_asks_with_no_messages_and_without_a_stream(
        self, server: LoopbackOllama, provider: OllamaProvider
    ) -> None:
        told: list[float | None] = []

        await provider.load(CODER, told.append)

        assert server.bodies("/api/chat") == [
            {
                "model": "coder:14b",
                "messages": [],
                "stream": False,
                "options": {"num_ctx": 4096, "num_thread": 2},
                "keep_alive": "10m",
            }
        ]
        assert told == [None]

    async def test_what_is_loaded_is_told_with_its_memory_and_its_context(
        self, server: LoopbackOllama, provider: OllamaProvider
    ) -> None:
        await provider.load(CODER, ignore)
        server.load_by_other("chat", num_ctx=2048)

        assert await provider.loaded() == (
            LoadedModel(name="coder:14b", memory_mb=9100, context=4096),
            LoadedModel(name="chat:latest", memory_mb=4100, context=2048),
        )

    async def test_a_model_that_is_still_loading_is_not_loaded(
        self, server: LoopbackOllama, provider: OllamaProvider
    ) -> None:
        server.hold("load coder:14b")

        async with going_on(provider.load(CODER, ignore)):
            await server.reached("load coder:14b")
            assert await provider.loaded() == ()

        await server.until(lambda: server.aborted == {"coder:14b": 1})

    async def test_an_unload_returns_when_the_list_of_models_says_so(
        self, server: LoopbackOllama, provider: OllamaProvider
    ) -> None:
        await provider.load(CODER, ignore)
        server.hold("unload coder:14b")

        async with going_on(provider.unload(CODER)) as unloading:
            await server.until(lambda: [request.path for request in server.requests].count("/api/ps") >= 2)
            assert not unloading.done()
            server.release("unload coder:14b")
            await unloading

        assert server.bodies("/api/chat")[-1] == {
            "model": "coder:14b",
            "messages": [],
            "stream": False,
            "options": {"num_ctx": 4096, "num_thread": 2},
            "keep_alive": 0,
        }
        assert (server.runners, server.unloads) == ({}, {"coder:14b": 1})

    async def test_an_unload_that_hangs_fails_with_the_seconds_and_the_remedy(
        self, server: LoopbackOllama, opened: Opened
    ) -> None:
        provider = opened(unload_s=1)
        await provider.load(CODER, ignore)
        server.hold("unload coder:14b")

        with pytest.raises(LoadFailed) as failed:
            await provider.unload(CODER)

        assert str(failed.value) == (
            "coder:14b is still in memory 1 s after Ollama was asked to unload it; try: ollama stop coder:14b"
        )

    async def test_an_unload_waits_for_the_last_reply(self, server: LoopbackOllama, provider: OllamaProvider) -> None:
        server.say("One", Hold("middle"), " two.")

        async with going_on(heard(provider, CODER, asked())) as reply:
            await server.reached("middle")
            async with going_on(provider.unload(CODER)) as unloading:
                await server.until(lambda: server.requests[-1].path == "/api/ps")
                server.release("middle")
                assert text_of(await reply) == "One two."
                await unloading

        assert server.runners == {}

    async def test_a_released_model_stays_as_long_as_ollama_keeps_others(
        self, server: LoopbackOllama, provider: OllamaProvider
    ) -> None:
        await provider.load(CHAT, ignore)

        await provider.release(CHAT)

        assert server.runners["chat:latest"].keep_alive == 300
        assert server.bodies("/api/chat")[-1] == {
            "model": "chat",
            "messages": [],
            "stream": False,
            "options": {"num_ctx": 8192},
            "keep_alive": "5m",
        }
        assert server.loads == {"chat": 1}

    async def test_a_model_that_has_left_is_not_loaded_to_be_released(
        self, server: LoopbackOllama, provider: OllamaProvider
    ) -> None:
        await provider.load(CHAT, ignore)
        server.evict("chat")

        await provider.release(CHAT)

        assert (server.runners, server.loads) == ({}, {"chat": 1})

    async def test_a_model_that_somebody_evicted_comes_back_with_the_next_question(
        self, server: LoopbackOllama, provider: OllamaProvider
    ) -> None:
        await provider.load(CHAT, ignore)
        server.evict("chat")

        assert text_of(await heard(provider, CHAT, asked("Still there?"))) == "Still there?"
        assert await provider.loaded() == (LoadedModel(name="chat:latest", memory_mb=4100, context=8192),)
        assert server.loads == {"chat": 2}

    async def test_a_model_that_somebody_loaded_otherwise_is_loaded_as_it_should_be(
        self, server: LoopbackOllama, provider: OllamaProvider
    ) -> None:
        server.load_by_other("chat", num_ctx=2048)

        await provider.load(CHAT, ignore)

        assert await provider.loaded() == (LoadedModel(name="chat:latest", memory_mb=4100, context=8192),)

    async def test_a_server_that_was_restarted_is_spoken_to_on_a_new_connection(
        self, server: LoopbackOllama, provider: OllamaProvider
    ) -> None:
        await provider.load(CHAT, ignore)
        await server.restart("chat", "other:1b", version="0.13.0")

        assert await provider.health() == Health(ok=True, detail="Ollama 0.13.0")
        assert await provider.loaded() == ()
        assert [facts.name for facts in await provider.installed()] == ["chat:latest", "other:1b"]
        assert text_of(await heard(provider, CHAT, asked("Back?"))) == "Back?"


class TestWhatIsKnownOfModels:
    async def test_the_list_has_sizes_and_parameters(self, provider: OllamaProvider) -> None:
        installed = await provider.installed()

        assert installed[:2] == (
            ModelFacts(name="coder:14b", size_mb=9100, parameters="14B"),
            ModelFacts(name="chat:latest", size_mb=4100, parameters="8B"),
        )

    @pytest.mark.parametrize(
        ("asked_for", "facts"),
        [
            ("coder:14b", ModelFacts(name="coder:14b", size_mb=9100, context=32768, parameters="14B", tools=True)),
            ("chat", ModelFacts(name="chat:latest", size_mb=4100, context=131072, parameters="8B", tools=True)),
            ("chat:latest", ModelFacts(name="chat:latest", size_mb=4100, context=131072, parameters="8B", tools=True)),
            (
                "thinker:8b",
                ModelFacts(name="thinker:8b", size_mb=1000, context=131072, parameters="8B", tools=True, thinks=True),
            ),
            ("plain:3b", ModelFacts(name="plain:3b", size_mb=1000, context=131072, parameters="3B", tools=False)),
        ],
    )
    async def test_a_model_is_shown_with_what_it_can_do(
        self, provider: OllamaProvider, asked_for: str, facts: ModelFacts
    ) -> None:
        assert await provider.show(asked_for) == facts

    async def test_a_missing_model_comes_with_the_command_that_fetches_it(
        self, server: LoopbackOllama, provider: OllamaProvider
    ) -> None:
        with pytest.raises(ModelMissing) as missing:
            await provider.show("mixtral:8x7b")

        assert str(missing.value) == (
            f"Ollama at {server.url} does not have mixtral:8x7b; try: ollama pull mixtral:8x7b"
        )

    async def test_looking_at_models_loads_none(self, server: LoopbackOllama, provider: OllamaProvider) -> None:
        await provider.health()
        await provider.installed()
        await provider.show("coder:14b")
        await provider.loaded()

        assert (server.loads, server.runners) == ({}, {})


class TestHealth:
    async def test_it_has_the_version(self, provider: OllamaProvider) -> None:
        assert await provider.health() == Health(ok=True, detail="Ollama 0.12.6")

    async def test_nobody_at_the_address_is_said_in_a_sentence(self) -> None:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            url = f"http://127.0.0.1:{taken.getsockname()[1]}"
            provider = OllamaProvider(Endpoint(name="here", provider=ProviderKind.OLLAMA, url=url), PATIENT)

            health = await provider.health()
            await provider.aclose()

        assert health == Health(
            ok=False, detail=f"nobody answers at Ollama at {url} (connection refused); is the server running?"
        )

    async def test_a_silent_server_is_not_healthy(self, server: LoopbackOllama, opened: Opened) -> None:
        server.instead("/api/version", Silence())

        assert await opened(probe_s=SHORT).health() == Health(
            ok=False,
            detail=f"Ollama at {server.url} gave no sign of life for 0.05 s; is it overloaded, or stuck?",
        )

    @pytest.mark.parametrize(
        ("fault", "detail"),
        [
            (Refusal(500, "boom"), "Ollama at URL answered with error 500: boom"),
            (Refusal(503, "later"), "Ollama at URL is busy (503: later); try again in a moment"),
            (Refusal(401, "who?"), "Ollama at URL wants another key (401: who?); set api_key_env of the endpoint"),
            (
                Raw(b"<html><title>Router</title><body>Log in</body></html>"),
                "Ollama at URL answered /api/version with something that is not JSON: Router Log in",
            ),
            (Drop(), "the connection to Ollama at URL broke (Server disconnected without sending a response.)"),
        ],
        ids=["error", "busy", "key", "html", "drop"],
    )
    async def test_whatever_is_wrong_is_a_sentence_and_no_exception(
        self, server: LoopbackOllama, provider: OllamaProvider, fault: Any, detail: str
    ) -> None:
        server.instead("/api/version", fault)

        assert await provider.health() == Health(ok=False, detail=detail.replace("URL", server.url))


class TestReplies:
    async def test_thoughts_and_text_and_calls_come_in_their_order(
        self, server: LoopbackOllama, provider: OllamaProvider
    ) -> None:
        server.say(Thought("Hm"), Thought("m."), "Yes", ".", Call("add", {"length": 1, "unit": "mm"}), "Done.")

        assert await heard(provider, CODER, asked()) == [
            ThoughtPiece("Hmm."),
            TextPiece("Yes."),
            ToolCall("call_00000000", "add", {"length": 1, "unit": "mm"}),
            TextPiece("Done."),
            Finish(FinishReason.STOP, 4, 6),
        ]

    async def test_a_call_in_the_last_line_is_not_lost(self, server: LoopbackOllama, provider: OllamaProvider) -> None:
        server.say("Calling. ", End(last=(Call("add", {"length": 1, "unit": "mm"}),), prompt_tokens=7, tokens=9))

        assert await heard(provider, CODER, asked()) == [
            TextPiece("Calling. "),
            ToolCall("call_00000000", "add", {"length": 1, "unit": "mm"}),
            Finish(FinishReason.STOP, 7, 9),
        ]

    async def test_text_and_thoughts_in_the_last_line_are_not_lost(
        self, server: LoopbackOllama, provider: OllamaProvider
    ) -> None:
        server.say("One", End(last=(" two",)))
        server.say(End(last=(Thought("Hm"),)))

        assert text_of(await heard(provider, CODER, asked())) == "One two"
        assert (await heard(provider, CODER, asked()))[0] == ThoughtPiece("Hm")

    async def test_several_calls_keep_their_order_and_their_names(
        self, server: LoopbackOllama, provider: OllamaProvider
    ) -> None:
        server.say(Call("add", {"n": 1}, id="a"), Call("add", {"n": 2}, id=""), Call("take", {"n": 3}, id=""))

        assert (await heard(provider, CODER, asked()))[:-1] == [
            ToolCall("a", "add", {"n": 1}),
            ToolCall("call-2", "add", {"n": 2}),
            ToolCall("call-3", "take", {"n": 3}),
        ]

    async def test_arguments_that_come_as_text_are_read(self, server: LoopbackOllama, provider: OllamaProvider) -> None:
        server.say(Call("add", '{"n": 1}', id="a"), Call("add", '{"n": ', id="b"), Call("add", [1], id="c"))

        good, cut, wrong = (await heard(provider, CODER, asked()))[:-1]

        assert good == ToolCall("a", "add", {"n": 1})
        assert isinstance(cut, ToolCall)
        assert (cut.id, cut.arguments) == ("b", {})
        assert cut.problem.startswith("the arguments are not JSON: ")
        assert wrong == ToolCall("c", "add", {}, "the arguments are not an object")

    async def test_a_reply_at_the_token_limit_says_so(self, server: LoopbackOllama, provider: OllamaProvider) -> None:
        server.say("One ", "two ", "three.")

        assert await heard(provider, CODER, asked(max_tokens=2)) == [
            TextPiece("One two "),
            Finish(FinishReason.LENGTH, 4, 2),
        ]

    async def test_counts_of_zero_are_left_out_by_the_server_and_unknown_here(
        self, server: LoopbackOllama, provider: OllamaProvider
    ) -> None:
        server.say(End(prompt_tokens=0, tokens=0))

        assert await heard(provider, CODER, asked()) == [Finish(FinishReason.STOP, None, None)]

    async def test_thoughts_between_tags_are_told_apart(self, server: LoopbackOllama, provider: OllamaProvider) -> None:
        server.say("<thi", "nk>Hm", "m.</th", "ink>Yes.")

        assert (await heard(provider, CODER, asked()))[:-1] == [ThoughtPiece("Hmm."), TextPiece("Yes.")]

    @pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
    async def test_text_survives_wherever_the_network_cuts(
        self, server: LoopbackOllama, provider: OllamaProvider, size: int
    ) -> None:
        server.framing.cut = every(size)
        server.say("grüß ", "dich, 世界 ", "\u2028\x85\v\f ", "🙂👩‍👩‍👧\x00", '"quoted"\n\\')

        chunks = await heard(provider, CODER, asked())

        assert text_of(chunks) == 'grüß dich, 世界 \u2028\x85\v\f 🙂👩‍👩‍👧\x00"quoted"\n\\'

    @pytest.mark.parametrize(
        "framing",
        [
            {"line_end": b"\r\n"},
            {"between": b"\n\n"},
            {"between": b"  \r\n"},
            {"first": b"\xef\xbb\xbf"},
            {"line_end": b"\r\n", "between": b"\r\n", "cut": every(1)},
        ],
        ids=["crlf", "blank", "spaces", "bom", "all at once"],
    )
    async def test_unusual_lines_are_borne(
        self, server: LoopbackOllama, provider: OllamaProvider, framing: dict[str, Any]
    ) -> None:
        server.framing = Framing(**framing)
        server.say("One ", "two.")

        assert text_of(await heard(provider, CODER, asked())) == "One two."

    async def test_a_last_line_without_a_line_end_is_read(
        self, server: LoopbackOllama, provider: OllamaProvider
    ) -> None:
        server.say("One.", Raw(b'{"done": true, "done_reason": "stop", "eval_count": 3}'), NoEnd())

        assert await heard(provider, CODER, asked()) == [TextPiece("One."), Finish(FinishReason.STOP, None, 3)]

    async def test_what_comes_after_the_end_is_not_listened_to(
        self, server: LoopbackOllama, provider: OllamaProvider
    ) -> None:
        server.say("One.", Raw(b'{"done": true}\n{"message": {"content": "Two."}, "done": true}\n'), NoEnd())

        assert await heard(provider, CODER, asked()) == [TextPiece("One."), Finish(FinishReason.STOP, None, None)]

    async def test_invalid_bytes_are_replaced(self, server: LoopbackOllama, provider: OllamaProvider) -> None:
        server.say(Raw(b'{"message": {"content": "a\xff\xc3"}}\n'), "b")

        assert text_of(await heard(provider, CODER, asked())) == "a\ufffd\ufffdb"

    async def test_replies_of_one_model_wait_for_their_turn(
        self, server: LoopbackOllama, provider: OllamaProvider
    ) -> None:
        server.say("One", Hold("middle"), " two.")
        server.say("Three.")
        await provider.load(CODER, ignore)

        async with going_on(heard(provider, CODER, asked())) as first:
            await server.reached("middle")
            async with going_on(heard(provider, CODER, asked())) as second:
                await server.until(lambda: server.runners["coder:14b"].users == 2)
                assert server.running == 1
                server.release("middle")
                assert text_of(await first) == "One two."
                assert text_of(await second) == "Three."

    async def test_text_is_told_as_soon_as_it_comes(self, server: LoopbackOllama, provider: OllamaProvider) -> None:
        server.say("One", Hold("middle"), " two.")

        async with provider.chat(CODER, asked()) as chunks:
            assert await anext(chunks) == TextPiece("One")
            server.release("middle")
            assert [chunk async for chunk in chunks] == [TextPiece(" two."), Finish(FinishReason.STOP, 4, 2)]


REFUSALS = [
    (
        Refusal(404, "model 'coder:14b' not found"),
        ModelMissing,
        "Ollama at URL does not have the model coder:14b (model 'coder:14b' not found)",
    ),
    (
        Refusal(503, "server busy, please try again.  maximum pending requests exceeded"),
        Busy,
        "Ollama at URL is busy (503: server busy, please try again. maximum pending requests exceeded); "
        "try again in a moment",
    ),
    (Refusal(429, "slow down"), Busy, "Ollama at URL is busy (429: slow down); try again in a moment"),
    (
        Refusal(401, "unauthorized"),
        AccessDenied,
        "Ollama at URL wants another key (401: unauthorized); set api_key_env of the endpoint",
    ),
    (
        Refusal(403, "remote models are disabled"),
        AccessDenied,
        "Ollama at URL wants another key (403: remote models are disabled); set api_key_env of the endpoint",
    ),
    (
        Refusal(400, "registry.ollama.ai/library/coder:14b does not support tools"),
        Unsupported,
        "coder:14b cannot do this: registry.ollama.ai/library/coder:14b does not support tools",
    ),
    (
        Refusal(400, "the input length exceeds the context length"),
        ContextExceeded,
        "the prompt does not fit into the context of coder:14b at Ollama at URL: "
        "the input length exceeds the context length; begin a new conversation, or raise num_ctx",
    ),
    (
        Refusal(500, "model requires more system memory (9.1 GiB) than is available (3.2 GiB)"),
        LoadFailed,
        "Ollama at URL has not enough memory for coder:14b: model requires more system memory (9.1 GiB) than is "
        "available (3.2 GiB); try a smaller model",
    ),
    (
        Refusal(500, "llama runner process has terminated: cudaMalloc failed: out of memory"),
        LoadFailed,
        "Ollama at URL has not enough memory for coder:14b: llama runner process has terminated: cudaMalloc failed: "
        "out of memory; try a smaller model",
    ),
    (Refusal(500, "unexpected EOF"), BadReply, "Ollama at URL answered with error 500: unexpected EOF"),
    (
        Refusal(502, b"<html><style>b {}</style><body><h1>502 Bad\nGateway</h1></body></html>", "text/html"),
        BadReply,
        "Ollama at URL answered with error 502: 502 Bad Gateway",
    ),
    (Refusal(500, b"", "text/plain"), BadReply, "Ollama at URL answered with error 500: Internal Server Error"),
    (
        Refusal(500, b"\x1b]0;owned\x07red \x1b[31malert", "text/plain"),
        BadReply,
        "Ollama at URL answered with error 500: red alert",
    ),
]
each_refusal = pytest.mark.parametrize(
    ("refusal", "kind", "sentence"), REFUSALS, ids=[f"{each[0].status}-{each[1].__name__}" for each in REFUSALS]
)


class TestRefusals:
    @each_refusal
    async def test_a_refused_chat_has_a_name_and_a_sentence(
        self,
        server: LoopbackOllama,
        provider: OllamaProvider,
        refusal: Refusal,
        kind: type[Exception],
        sentence: str,
    ) -> None:
        server.say(refusal)

        chunks, error = await heard_until(provider, CODER, asked(), kind)

        assert (chunks, type(error)) == ([], kind)
        assert str(error) == sentence.replace("URL", server.url)

    @each_refusal
    async def test_after_a_refusal_the_next_chat_goes_well(
        self,
        server: LoopbackOllama,
        provider: OllamaProvider,
        refusal: Refusal,
        kind: type[Exception],
        sentence: str,
    ) -> None:
        server.say(refusal)
        await heard_until(provider, CODER, asked(), kind)

        assert text_of(await heard(provider, CODER, asked("Now?"))) == "Now?"

    async def test_tools_are_refused_by_a_model_that_has_none(
        self, server: LoopbackOllama, provider: OllamaProvider
    ) -> None:
        plain = ModelSpec(endpoint="here", name="plain:3b", context=4096)

        _, error = await heard_until(provider, plain, asked(tools=(ADD,)), Unsupported)

        assert str(error) == "plain:3b cannot do this: registry.ollama.ai/library/plain:3b does not support tools"

    async def test_a_prompt_beyond_the_context_is_refused_and_not_cut(
        self, server: LoopbackOllama, provider: OllamaProvider
    ) -> None:
        chunks, error = await heard_until(provider, CODER, asked("word " * 5000), ContextExceeded)

        assert chunks == []
        assert "raise num_ctx" in str(error)

    async def test_the_evaluated_tokens_tell_of_a_prompt_that_was_cut(
        self, server: LoopbackOllama, provider: OllamaProvider
    ) -> None:
        # An old server knows no `truncate`, and its own context is used when none is asked for.
        server.say("Fine.", End(prompt_tokens=2050))

        chunks = await heard(provider, ModelSpec(endpoint="here", name="chat", context=None), asked("word " * 3000))

        assert finish_of(chunks).prompt_tokens == 2050

    async def test_a_load_without_enough_memory_says_so(self, server: LoopbackOllama, provider: OllamaProvider) -> None:
        server.fail_load("coder:14b", "model requires more system memory (9.1 GiB) than is available (3.2 GiB)")

        with pytest.raises(LoadFailed, match=r"not enough memory for coder:14b.*9\.1 GiB.*try a smaller model"):
            await provider.load(CODER, ignore)

        assert await provider.loaded() == ()

    async def test_a_load_beyond_all_patience_is_given_up(self, server: LoopbackOllama, opened: Opened) -> None:
        server.hold("load coder:14b")

        with pytest.raises(Unreachable, match=re.escape("no sign of life for 0.5 s")):
            await opened(load_s=0.5).load(CODER, ignore)

        await server.until(lambda: server.aborted == {"coder:14b": 1})

    async def test_an_absent_model_is_not_even_asked_to_load(
        self, server: LoopbackOllama, provider: OllamaProvider
    ) -> None:
        with pytest.raises(ModelMissing):
            await provider.load(ModelSpec(endpoint="here", name="mixtral:8x7b", context=4096), ignore)

        assert server.bodies("/api/chat") == []


BREAKS: list[tuple[str, tuple[Piece, ...], type[Exception], str]] = [
    (
        "error line",
        (Fail("an error was encountered while running the model: unexpected EOF"),),
        StreamBroken,
        "Ollama at URL answered with error 500: an error was encountered while running the model: unexpected EOF",
    ),
    (
        "out of memory",
        (Fail("llama runner process has terminated: CUDA error: out of memory"),),
        LoadFailed,
        "Ollama at URL has not enough memory for coder:14b: llama runner process has terminated: CUDA error: "
        "out of memory; try a smaller model",
    ),
    (
        "killed",
        (Drop(),),
        StreamBroken,
        "the connection to Ollama at URL broke (peer closed connection without sending complete message body "
        "(incomplete chunke…)",
    ),
    (
        "no done line",
        (NoEnd(),),
        StreamBroken,
        "the reply of coder:14b at Ollama at URL stopped before its end; was the server stopped?",
    ),
    ("not JSON", (Raw(b"oops\n"),), BadReply, "Ollama at URL sent a line that is not JSON: 'oops'"),
    ("half a line", (Raw(b'{"mess'), NoEnd()), BadReply, "Ollama at URL sent a line that is not JSON: '{\"mess'"),
    ("not an object", (Raw(b"[1]\n"),), BadReply, "Ollama at URL sent a line that is no object: '[1]'"),
    ("null", (Raw(b"null\n"),), BadReply, "Ollama at URL sent a line that is no object: 'null'"),
    (
        "two objects",
        (Raw(b'{"message": {"content": "a"}}{"message": {"content": "b"}}\n'),),
        BadReply,
        'Ollama at URL sent a line that is not JSON: \'{"message": {"content": "a"}}{"message": {"content": "b"}}\'',
    ),
    (
        "too deep",
        (Raw(b"[" * 100_000 + b"\n"),),
        BadReply,
        f"Ollama at URL sent a line that is not JSON: '{'[' * 80}'",
    ),
]


class TestBreaks:
    @pytest.mark.parametrize(
        ("breaks", "kind", "sentence"), [each[1:] for each in BREAKS], ids=[each[0] for each in BREAKS]
    )
    async def test_what_was_said_before_the_break_is_delivered_first(
        self,
        server: LoopbackOllama,
        provider: OllamaProvider,
        breaks: tuple[Piece, ...],
        kind: type[Exception],
        sentence: str,
    ) -> None:
        server.say("One ", "two ", *breaks)

        chunks, error = await heard_until(provider, CODER, asked(), kind)

        assert (chunks, type(error)) == ([TextPiece("One two ")], kind)
        assert str(error) == sentence.replace("URL", server.url)
        await server.until(lambda: server.running == 0)

    async def test_a_line_beyond_eight_megabytes_is_not_read_to_its_end(
        self, server: LoopbackOllama, provider: OllamaProvider
    ) -> None:
        endless = [Raw(b"x" * (1 << 20))] * 64
        server.say("One ", *endless)

        chunks, error = await heard_until(provider, CODER, asked(), BadReply)

        assert chunks == [TextPiece("One ")]
        assert str(error) == "the server sent a line of more than 8 MB; that is no chat"
        await server.until(lambda: server.running == 0)

    async def test_a_server_that_says_nothing_at_all_is_left(self, server: LoopbackOllama, opened: Opened) -> None:
        server.instead("/api/chat", Silence())

        chunks, error = await heard_until(opened(first_token_s=SHORT), CODER, asked(), Unreachable)

        assert chunks == []
        assert str(error) == f"Ollama at {server.url} gave no sign of life for 0.05 s; is it overloaded, or stuck?"

    async def test_silence_before_the_first_word_is_borne_as_long_as_a_prompt_takes(
        self, server: LoopbackOllama, opened: Opened
    ) -> None:
        server.say(Silence())

        provider = opened(first_token_s=0.5, between_tokens_s=60)
        chunks, error = await heard_until(provider, CODER, asked(), StreamBroken)

        assert chunks == []
        assert str(error) == f"Ollama at {server.url} gave no sign of life for 0.5 s; is it overloaded, or stuck?"
        await server.until(lambda: server.running == 0)

    async def test_silence_between_words_is_borne_for_a_shorter_time(
        self, server: LoopbackOllama, opened: Opened
    ) -> None:
        server.say("One ", "two ", Silence())

        chunks, error = await heard_until(opened(between_tokens_s=0.5), CODER, asked(), StreamBroken)

        assert chunks == [TextPiece("One two ")]
        assert str(error) == f"Ollama at {server.url} gave no sign of life for 0.5 s; is it overloaded, or stuck?"
        await server.until(lambda: server.running == 0)

    async def test_a_listener_that_takes_its_time_is_no_silence(
        self, server: LoopbackOllama, provider: OllamaProvider
    ) -> None:
        server.say("One ", "two.")

        async with provider.chat(CODER, asked()) as chunks:
            first = await anext(chunks)
            await server.until(lambda: server.running == 0)
            rest = [chunk async for chunk in chunks]

        assert joined([first, *rest]) == [TextPiece("One two."), Finish(FinishReason.STOP, 4, 2)]

    async def test_a_server_killed_before_it_answers_is_a_broken_stream(
        self, server: LoopbackOllama, provider: OllamaProvider
    ) -> None:
        server.instead("/api/chat", Drop())

        chunks, error = await heard_until(provider, CODER, asked(), StreamBroken)

        assert chunks == []
        assert str(error) == (
            f"the connection to Ollama at {server.url} broke (Server disconnected without sending a response.)"
        )

    async def test_nothing_is_asked_twice_by_itself(self, server: LoopbackOllama, provider: OllamaProvider) -> None:
        server.say("One ", Drop())

        await heard_until(provider, CODER, asked(), StreamBroken)

        assert len(server.bodies("/api/chat")) == 1
