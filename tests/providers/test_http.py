"""Error bodies in all their shapes, what a status means, and the few rules of the client itself."""

import json
from typing import Any

import httpx
import pytest

from tests.loopback.model_server import ModelServer
from tests.loopback.ollama import LoopbackOllama
from tests.loopback.openai import LoopbackOpenAI
from tests.loopback.replies import Drop, Refusal, Silence
from tests.providers.talk import PATIENT
from wilson.domain.errors import (
    AccessDenied,
    BadReply,
    Busy,
    ContextExceeded,
    LoadFailed,
    ModelMissing,
    ProviderError,
    StreamBroken,
    Unreachable,
    Unsupported,
)
from wilson.domain.value import replace
from wilson.providers.http import HttpClient, error_text, refusal


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ({"error": {"message": "the words"}}, "the words"),
        ({"error": {"message": "the words", "type": "x", "code": 400}}, "the words"),
        ({"error": "the words"}, "the words"),
        ({"message": "the words"}, "the words"),
        ({"detail": "the words"}, "the words"),
        ({"type": "error", "error": {"type": "overloaded_error", "message": "the words"}}, "the words"),
        ({"error": {"error": {"message": "the words"}}}, "the words"),
        ({"error": None, "message": "the words"}, "the words"),
        ({"error": "", "detail": "the words"}, "the words"),
        ({"detail": [{"msg": "the words"}]}, '[{"msg": "the words"}]'),
        ({"error": {"code": 500}}, ""),
        ({}, ""),
        ("the words", "the words"),
        (["the words"], '["the words"]'),
        (7, "7"),
    ],
)
def test_the_words_are_found_in_every_usual_shape(body: Any, text: str) -> None:
    assert error_text(json.dumps(body).encode()) == text
    assert error_text(json.dumps(body)) == text


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"", ""),
        (b"  plain words \n", "plain words"),
        (b"<html><body><h1>502</h1>Bad gateway</body></html>", "502 Bad gateway"),
        (b"<style>b { color: red }</style><SCRIPT>if (1 < 2) {}</SCRIPT>words", "words"),
        (b"cut <b", "cut <b"),
        (b"\xff\xfe words", "\ufffd\ufffd words"),
        (b'{"error": "cut', '{"error": "cut'),
    ],
)
def test_what_is_not_json_is_read_as_text_without_tags(body: bytes, text: str) -> None:
    assert " ".join(error_text(body).split()) == text


TABLE: list[tuple[int, str, type[ProviderError], str]] = [
    (400, "bad body", BadReply, "the server answered with error 400: bad body"),
    (400, "m does not support tools", Unsupported, "m cannot do this: m does not support tools"),
    (400, "the input length exceeds the context length", ContextExceeded, "raise num_ctx"),
    (400, "Prompt is too long: 9000 > 8192", ContextExceeded, "begin a new conversation"),
    (400, "This model's maximum context length is 8192 tokens", ContextExceeded, "8192 tokens"),
    (400, "request (9000 tokens) exceeds the available context size (8192 tokens)", ContextExceeded, "9000 tokens"),
    (401, "no", AccessDenied, "the server wants another key (401: no); set api_key_env of the endpoint"),
    (403, "no", AccessDenied, "the server wants another key (403: no); set api_key_env of the endpoint"),
    (404, "gone", ModelMissing, "the server does not have the model m (gone)"),
    (413, "too large", BadReply, "the server answered with error 413: too large"),
    (429, "slow", Busy, "the server is busy (429: slow); try again in a moment"),
    (499, "cancelled", BadReply, "the server answered with error 499: cancelled"),
    (500, "boom", BadReply, "the server answered with error 500: boom"),
    (500, "CUDA error: out of memory", LoadFailed, "not enough memory for m: CUDA error: out of memory; try a smaller"),
    (500, "failed to allocate buffer", LoadFailed, "try a smaller model"),
    (500, "insufficient memory", LoadFailed, "try a smaller model"),
    (500, "model requires more system memory (9 GiB)", LoadFailed, "9 GiB"),
    (500, "cudaMalloc failed", LoadFailed, "try a smaller model"),
    (502, "bad gateway", BadReply, "the server answered with error 502: bad gateway"),
    (503, "queue full", Busy, "the server is busy (503: queue full); try again in a moment"),
    (529, "overloaded", Busy, "the server is busy (529: overloaded); try again in a moment"),
]


@pytest.mark.parametrize(("status", "text", "kind", "sentence"), TABLE, ids=[f"{each[0]}-{each[1]}" for each in TABLE])
def test_a_status_and_its_words_have_a_name(status: int, text: str, kind: type[ProviderError], sentence: str) -> None:
    error = refusal(status, text, "the server", "m")

    assert type(error) is kind
    assert sentence in str(error)


def test_without_a_model_a_404_is_only_a_wrong_answer() -> None:
    error = refusal(404, "page not found", "the server", "")

    assert type(error) is BadReply
    assert str(error) == "the server answered with error 404: page not found"


def test_long_and_hostile_words_are_one_safe_line() -> None:
    error = refusal(500, "a\x1b[31mb\n\n" + "word " * 1000, "the server", "m")

    assert "\x1b" not in str(error)
    assert "\n" not in str(error)
    assert len(str(error)) < 400


async def test_a_proxy_of_the_environment_is_not_used_for_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")

    async with LoopbackOllama() as server:
        client = HttpClient(server.url, PATIENT, name="the server")
        assert await client.get("/api/version", timeout=5) == {"version": "0.12.6"}
        await client.aclose()


async def test_a_redirect_is_not_followed() -> None:
    async with LoopbackOllama() as server, LoopbackOpenAI() as elsewhere:
        server.instead("/api/version", Refusal(307, "moved", headers={"Location": f"{elsewhere.url}/models"}))
        client = HttpClient(server.url, PATIENT, name="the server")

        with pytest.raises(BadReply, match="the server answered with error 307: moved"):
            await client.get("/api/version", timeout=5)

        await client.aclose()
        assert elsewhere.requests == []


async def test_a_client_that_was_closed_opens_again() -> None:
    async with LoopbackOllama() as server:
        client = HttpClient(server.url, PATIENT, name="the server")

        for _ in range(2):
            assert await client.get("/api/version", timeout=5) == {"version": "0.12.6"}
            await client.aclose()


async def test_closing_what_was_never_opened_is_nothing() -> None:
    await HttpClient("http://127.0.0.1:9", PATIENT, name="the server").aclose()


async def test_a_key_goes_with_every_request() -> None:
    async with LoopbackOpenAI("m", key="sesame") as server:
        client = HttpClient(server.url, PATIENT, name="the server", key="sesame")

        await client.get("/models", timeout=5)
        body = {"model": "m", "messages": [], "stream": True}
        async with client.lines("/chat/completions", body, model="m") as lines:
            assert [line async for line in lines]
        await client.aclose()

        assert {request.headers["authorization"] for request in server.requests} == {"Bearer sesame"}


async def test_an_error_body_is_read_only_so_far() -> None:
    async with LoopbackOllama() as server:
        server.instead("/api/version", Refusal(500, b"x" * (8 << 20), "text/plain"))
        client = HttpClient(server.url, PATIENT, name="the server")

        with pytest.raises(BadReply) as refused:
            await client.get("/api/version", timeout=5)

        await client.aclose()
        assert len(str(refused.value)) < 400


async def test_an_answer_that_is_not_json_is_told_by_its_first_words() -> None:
    async with LoopbackOllama() as server:
        client = HttpClient(server.url, PATIENT, name="the server")

        with pytest.raises(BadReply) as refused:
            await client.get("/", timeout=5)

        await client.aclose()
        assert str(refused.value) == "the server answered / with something that is not JSON: Ollama is running"


@pytest.mark.parametrize(
    ("fault", "limit", "kind", "sentence"),
    [
        (Silence(), 0.05, Unreachable, "the server gave no sign of life for 0.05 s; is it overloaded, or stuck?"),
        (
            Drop(),
            5,
            StreamBroken,
            "the connection to the server broke (Server disconnected without sending a response.)",
        ),
    ],
    ids=["silence", "drop"],
)
async def test_silence_and_breaks_have_names(fault: Any, limit: float, kind: type[Exception], sentence: str) -> None:
    async with LoopbackOllama() as server:
        server.instead("/api/version", fault)
        client = HttpClient(server.url, PATIENT, name="the server")

        with pytest.raises(kind) as failed:
            await client.get("/api/version", timeout=limit)

        await client.aclose()
        assert str(failed.value) == sentence


class Trickling(ModelServer):
    """Sends its answer byte by byte, and never comes to an end."""

    async def handle(self, exchange: Any) -> None:
        await exchange.begin(200, "application/json")
        while True:
            await exchange.send(b" ")
            await self.sleep(0.01)


async def test_a_whole_answer_that_trickles_without_an_end_is_given_up() -> None:
    async with Trickling() as server:
        client = HttpClient(server.url, PATIENT, name="the server")

        with pytest.raises(Unreachable, match=r"no sign of life for 0\.2 s"):
            await client.get("/api/version", timeout=0.2)

        await client.aclose()


async def test_a_connection_that_takes_too_long_is_nobody() -> None:
    def never(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectTimeout("", request=request)

    client = HttpClient("http://here", PATIENT, name="the server", transport=httpx.MockTransport(never))

    with pytest.raises(Unreachable) as failed:
        await client.get("/", timeout=5)

    await client.aclose()
    assert str(failed.value) == (
        "nobody answers at the server (no connection within the time limit); is the server running?"
    )


async def test_the_time_to_connect_has_its_own_limit() -> None:
    asked: list[dict[str, float]] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.extensions["timeout"])
        return httpx.Response(200, json={})

    client = HttpClient("http://here", replace(PATIENT, connect_s=3), name="s", transport=httpx.MockTransport(answer))
    await client.get("/", timeout=600)
    await client.aclose()

    assert [each["connect"] for each in asked] == [3]
    assert asked[0]["read"] > 600
