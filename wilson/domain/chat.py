"""What is said between a person, a model and its tools."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from wilson.domain.schema import Schema
from wilson.domain.value import Struct, field


class Role(StrEnum):
    """Who speaks."""

    SYSTEM = "system"
    USER = "user"
    ASSISTANT = "assistant"
    TOOL = "tool"


class ToolCall(Struct, frozen=True):
    """A model asks for a tool."""

    id: str
    name: str
    arguments: Mapping[str, Any]
    problem: str = ""
    """Why the arguments could not be read, if they could not."""


class Message(Struct, frozen=True, kw_only=True):
    """One turn of a conversation, exactly as it is sent."""

    role: Role
    content: str
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None
    tool_name: str | None = None


class ToolSpec(Struct, frozen=True, kw_only=True):
    """A tool that a model may call."""

    name: str
    description: str
    parameters: Schema


class ChatRequest(Struct, frozen=True, kw_only=True):
    """What a model is asked: messages, and either tools or a schema for the answer, never both."""

    messages: tuple[Message, ...]
    tools: tuple[ToolSpec, ...] = ()
    schema: Schema | None = None
    temperature: float | None = None
    max_tokens: int | None = None
    purpose: str = ""
    """Why the model is asked; the scripted provider chooses its reply by it."""

    def __post_init__(self) -> None:
        # Servers drop the constraint, or the calls, when they get both (ollama#8095).
        assert not (self.tools and self.schema), "a request carries tools or a schema, not both"


class FinishReason(StrEnum):
    """Why a reply ended."""

    STOP = "stop"
    LENGTH = "length"
    """The token limit was reached: what came is not the whole answer."""


class TextPiece(Struct, frozen=True):
    """Some more of the answer."""

    text: str


class ThoughtPiece(Struct, frozen=True):
    """Some more of what the model thinks before it answers; never part of the answer."""

    text: str


class Finish(Struct, frozen=True):
    """The end of a reply; every whole stream has exactly one, last."""

    reason: FinishReason
    prompt_tokens: int | None = None
    completion_tokens: int | None = None


Chunk = TextPiece | ThoughtPiece | ToolCall | Finish
"""What a stream is made of."""


class Answer(Struct, frozen=True, kw_only=True):
    """A whole reply."""

    text: str
    finish: Finish
    tool_calls: tuple[ToolCall, ...] = field(default=())
