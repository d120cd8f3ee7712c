"""Few words for what every test of a provider says and hears."""

import asyncio
from collections.abc import AsyncIterator, Coroutine, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import Any

from hypothesis import settings

from wilson.domain.chat import ChatRequest, Chunk, Finish, Message, Role, TextPiece, ThoughtPiece, ToolCall, ToolSpec
from wilson.domain.model import ModelSpec, Patience
from wilson.domain.schema import Schema
from wilson.providers.base import Provider

PATIENT = Patience(probe_s=5, connect_s=5, load_s=30, first_token_s=30, between_tokens_s=30, unload_s=10)
"""For tests in which nothing is late: a busy machine may be slow."""
drawn = settings(deadline=None, derandomize=True, max_examples=60)
"""Property tests draw the same examples every time, and a busy machine may take its time over them."""
ADD: ToolSpec = ToolSpec(
    name="add",
    description="Adds a length.",
    parameters={
        "type": "object",
        "additionalProperties": False,
        "required": ["length", "unit"],
        "properties": {"length": {"type": "integer"}, "unit": {"enum": ["mm", "cm"]}},
    },
)
STEP: Schema = {
    "type": "object",
    "additionalProperties": False,
    "required": ["title", "action", "minutes", "done"],
    "properties": {
        "title": {"type": "string", "maxLength": 20},
        "action": {"enum": ["create", "edit"]},
        "minutes": {"type": "integer", "minimum": 1, "maximum": 60},
        "done": {"type": "boolean"},
    },
}


def asked(text: str = "Say something.", *, system: str = "", **more: Any) -> ChatRequest:
    """A question, after the words of a system if there are any."""
    messages = (Message(role=Role.SYSTEM, content=system),) if system else ()
    return ChatRequest(messages=(*messages, Message(role=Role.USER, content=text)), **more)


async def heard(provider: Provider, spec: ModelSpec, request: ChatRequest) -> list[Chunk]:
    """A whole reply, with neighbouring texts and neighbouring thoughts joined."""
    async with provider.chat(spec, request) as chunks:
        return joined([chunk async for chunk in chunks])


async def heard_until(
    provider: Provider, spec: ModelSpec, request: ChatRequest, error: type[Exception]
) -> tuple[list[Chunk], Exception]:
    """What came before a reply broke, and what it broke with."""
    heard_so_far: list[Chunk] = []
    try:
        async with provider.chat(spec, request) as chunks:
            async for chunk in chunks:
                heard_so_far.append(chunk)
    except error as broken:
        return joined(heard_so_far), broken
    raise AssertionError(f"the reply ended without {error.__name__}: {heard_so_far}")


def joined(chunks: Iterable[Chunk]) -> list[Chunk]:
    """The same reply in as few pieces as it has parts: how a text is shared out to pieces is nobody's business."""
    found: list[Chunk] = []
    for chunk in chunks:
        last = found[-1] if found else None
        if isinstance(chunk, (TextPiece, ThoughtPiece)) and type(last) is type(chunk):
            found[-1] = type(chunk)(last.text + chunk.text)
        else:
            found.append(chunk)
    return found


def text_of(chunks: Iterable[Chunk]) -> str:
    return "".join(chunk.text for chunk in chunks if isinstance(chunk, TextPiece))


def finish_of(chunks: Iterable[Chunk]) -> Finish:
    """The one end of a reply, which is its last part."""
    *before, last = chunks
    assert isinstance(last, Finish)
    assert not [chunk for chunk in before if isinstance(chunk, Finish)]
    return last


def calls_of(chunks: Iterable[Chunk]) -> list[tuple[str, Mapping[str, Any]]]:
    """Name and arguments of every call, none of which has a problem."""
    calls = [chunk for chunk in chunks if isinstance(chunk, ToolCall)]
    assert [call.problem for call in calls] == [""] * len(calls)
    return [(call.name, call.arguments) for call in calls]


def ignore(share: float | None) -> None:
    """Progress that nobody watches."""


@asynccontextmanager
async def going_on(work: Coroutine[Any, Any, Any]) -> AsyncIterator[asyncio.Task[Any]]:
    """Something that goes on beside the block, and is over with it."""
    task = asyncio.create_task(work)
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.wait({task})
