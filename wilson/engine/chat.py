"""The chat: prompts in, replies out, on a model that is always there.

What is sent begins, byte for byte, with what was sent last time: the system prompt never changes, old turns are stored
as they were sent, and the status of tasks stands in the last message only. A server's prompt cache lives on that.
"""

import asyncio
import contextlib
import json
from collections import defaultdict
from collections.abc import Awaitable, Callable
from typing import Final

from wilson.domain.chat import ChatRequest, Finish, FinishReason, Message, Role, TextPiece, ToolCall
from wilson.domain.errors import BadReply, LimitReached, StreamBroken, Unsupported, UsageError, WilsonError
from wilson.domain.event import Erred, PromptSaid, ReplyEnded, ReplyGrew, ToolUsed
from wilson.domain.front_door import Said
from wilson.domain.model import ModelChoice, ModelFacts, ToolMode, model_label
from wilson.domain.schema import strays
from wilson.domain.task import Task, TaskId
from wilson.domain.text import one_line
from wilson.domain.value import Struct, field, replace
from wilson.engine.bus import Clock, Emit
from wilson.engine.chat_tools import DECISION, TOOLS, ChatTools
from wilson.engine.model_pool import ModelLease
from wilson.engine.prompts import shipped_prompt
from wilson.engine.waiting import Pulse, see_through
from wilson.store.conversations import Turn
from wilson.store.opening import Store

MOST_TURNS: Final = 8
"""Requests for one prompt: the first, and one after each round of tools."""
_MOST_MISTAKES: Final = 2
_DECISION_TOKENS: Final = 700
_HEAD: Final = "[Status from Wilson, not from the user]"


class ChatModel(Struct, frozen=True):
    """The chat model, ready to speak."""

    lease: ModelLease
    facts: ModelFacts
    choice: ModelChoice


class _Reply(Struct):
    """What one prompt has led to so far."""

    conversation: str
    limit: int
    text: list[str] = field(default_factory=list)
    """Of the round that is running."""
    tasks: list[TaskId] = field(default_factory=list)
    turns: int = 0
    mistakes: int = 0
    prompt_tokens: int | None = None
    completion_tokens: int = 0
    whole: list[str] = field(default_factory=list)
    """Of all rounds."""
    model: str = ""


class _Told(Struct):
    """What a conversation's model has been told of tasks."""

    active: dict[TaskId, str] = field(default_factory=dict)
    ended: set[TaskId] = field(default_factory=set)


class Chat:
    """All conversations with the chat model. Prompts of one conversation are answered one after the other."""

    def __init__(
        self, store: Store, tools: ChatTools, model: Callable[[], Awaitable[ChatModel]], emit: Emit, clock: Clock
    ) -> None:
        self._store = store
        self._tools = tools
        self._model = model
        self._emit = emit
        self._clock = clock
        self._since = clock()
        self._turn: dict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._stoppable: dict[str, asyncio.Timeout] = {}
        self._told: dict[str, _Told] = defaultdict(_Told)
        self._without_native_tools: set[str] = set()
        self._speakers: set[asyncio.Task[object]] = set()
        self._silence = Pulse()
        self._closing = False

    async def say(self, prompt: str, conversation: str, max_turns: int | None = None) -> Said:
        """Answer a prompt. The reply grows in the events; what came of it is stored even when it breaks off.

        Raises:
            ProviderError: the model could not be reached, or its reply broke off.
            LimitReached: the reply took more turns than it may.
        """
        if self._closing:
            raise UsageError("Wilson is ending; this prompt was not answered")
        speaker = asyncio.current_task()
        assert speaker is not None
        self._speakers.add(speaker)
        try:
            return await self._say(prompt, conversation, max_turns)
        finally:
            self._speakers.discard(speaker)
            self._silence.beat()

    async def close(self) -> None:
        """Give up every reply that is running, keeping what came; nothing is said afterwards."""
        self._closing = True
        for speaker in self._speakers:
            speaker.cancel()
        await self._silence.until(lambda: not self._speakers)

    async def _say(self, prompt: str, conversation: str, max_turns: int | None) -> Said:
        async with self._turn[conversation]:
            self._emit(PromptSaid(conversation=conversation, text=prompt))
            reply = _Reply(conversation, min(max_turns or MOST_TURNS, MOST_TURNS))
            try:
                async with asyncio.timeout(None) as stopper:
                    self._stoppable[conversation] = stopper
                    return await self._answer(reply, prompt)
            except TimeoutError:  # Only `stop` lets the time run out.
                await self._keep_what_came(reply)
                return self._ended(reply, stopped=True)
            except (WilsonError, asyncio.CancelledError) as error:
                await see_through(self._keep_what_came(reply))
                text = str(error) or "the reply was given up, because Wilson ends"
                self._emit(Erred(text=text, kind=type(error).__name__, conversation=conversation))
                raise
            finally:
                self._stoppable.pop(conversation, None)

    def stop(self, conversation: str) -> None:
        """End the reply that is running, keeping what came; nothing happens when none is."""
        if stopper := self._stoppable.get(conversation):
            with contextlib.suppress(RuntimeError):  # It is over already.
                stopper.reschedule(asyncio.get_running_loop().time())

    async def _answer(self, reply: _Reply, prompt: str) -> Said:
        earlier = await self._store.conversations.turns(reply.conversation)
        status = await self._status(reply.conversation)
        user = Message(role=Role.USER, content=f"{prompt}\n\n{status}" if status else prompt)
        await self._keep(reply, Turn(user, prompt))
        model = await self._model()
        reply.model = model.lease.spec.name
        messages = [
            Message(role=Role.SYSTEM, content=shipped_prompt("chat")),
            *(turn.message for turn in earlier),
            user,
        ]
        decided = False
        while True:
            natively = self._calls_natively(model)
            if not natively and not decided:
                decided = True
                messages[-1] = await self._decided(reply, model, messages)
                await self._store.conversations.amend(reply.conversation, Turn(messages[-1], prompt))
            try:
                finish, calls = await self._stream(reply, model, self._request(model, messages, natively))
            except Unsupported:
                if not natively or len(messages) > len(earlier) + 2:
                    raise
                # Some servers know only when they try; from now on this model is asked in the other way.
                self._without_native_tools.add(model.lease.spec.name)
                continue
            said = Message(role=Role.ASSISTANT, content="".join(reply.text), tool_calls=calls)
            if not calls:
                await self._keep(reply, Turn(said))
                return self._ended(reply, cut=finish.reason is FinishReason.LENGTH)
            answers = [await self._answered(reply, call) for call in calls]
            await self._keep(reply, Turn(said), *(Turn(answer, "") for answer in answers))
            messages += [said, *answers]
            reply.text.clear()
            if reply.turns >= reply.limit:
                raise LimitReached(f"the reply took {reply.turns} turns and was not done; ask for less at once")

    def _request(self, model: ChatModel, messages: list[Message], natively: bool) -> ChatRequest:
        return ChatRequest(
            messages=tuple(messages),
            tools=TOOLS if natively else (),
            temperature=model.choice.temperature,
            max_tokens=model.choice.max_tokens,
            purpose=model.choice.purpose.value,
        )

    async def _stream(
        self, reply: _Reply, model: ChatModel, request: ChatRequest
    ) -> tuple[Finish, tuple[ToolCall, ...]]:
        reply.turns += 1
        calls: list[ToolCall] = []
        finish: Finish | None = None
        async with model.lease.chat(request) as chunks:
            async for chunk in chunks:
                match chunk:
                    case TextPiece(text):
                        reply.text.append(text)
                        reply.whole.append(text)
                        self._emit(ReplyGrew(conversation=reply.conversation, text=text))
                    case ToolCall():
                        calls.append(chunk)
                    case Finish():
                        finish = chunk
        if finish is None:
            raise StreamBroken(f"{model.lease.spec.label} gave no end to its reply")
        reply.prompt_tokens = finish.prompt_tokens
        reply.completion_tokens += finish.completion_tokens or 0
        return finish, tuple(calls)

    async def _answered(self, reply: _Reply, call: ToolCall) -> Message:
        answer = await self._use(reply, call)
        return Message(role=Role.TOOL, content=answer, tool_call_id=call.id, tool_name=call.name)

    async def _use(self, reply: _Reply, call: ToolCall) -> str:
        if reply.mistakes > _MOST_MISTAKES:
            return "error: too many mistakes; answer in words now"
        answer, task = await self._tools.use(call, reply.conversation)
        reply.mistakes += answer.startswith("error:")
        if task is not None:
            reply.tasks.append(task)
        self._emit(ToolUsed(conversation=reply.conversation, tool=call.name, arguments=call.arguments, answer=answer))
        return answer

    def _calls_natively(self, model: ChatModel) -> bool:
        match model.choice.tools:
            case ToolMode.NATIVE:
                return True
            case ToolMode.SCHEMA:
                return False
        return model.facts.tools is not False and model.lease.spec.name not in self._without_native_tools

    async def _decided(self, reply: _Reply, model: ChatModel, messages: list[Message]) -> Message:
        """The prompt, with what Wilson did about it: one short question under a schema decides whether a tool is due.

        The question stands behind the prompt, so the answer that follows finds its own prefix in the cache.
        """
        prompt = messages[-1]
        asked = replace(prompt, content=f"{prompt.content}\n\n{shipped_prompt('chat_decide')}")
        request = ChatRequest(
            messages=(*messages[:-1], asked),
            schema=DECISION,
            temperature=0.0,
            max_tokens=_DECISION_TOKENS,
            purpose=f"{model.choice.purpose.value}_decision",
        )
        pieces: list[str] = []
        async with model.lease.chat(request) as chunks:
            async for chunk in chunks:
                if isinstance(chunk, TextPiece):
                    pieces.append(chunk.text)
        call = _chosen("".join(pieces))
        if call is None:
            return prompt
        answer = await self._use(reply, call)
        return replace(prompt, content=f"{prompt.content}\n\n[Wilson has called {call.name}]\n{answer}")

    async def _status(self, conversation: str) -> str:
        """Where tasks stand, if that has changed since the conversation's model was last told; otherwise empty."""
        told = self._told[conversation]
        tasks = await self._store.tasks.open_or_ended_since(self._since)
        active = {task.id: status_in_words(task) for task in tasks if not task.ended}
        ended = {task.id: status_in_words(task) for task in tasks if task.ended and task.id not in told.ended}
        if active == told.active and not ended:
            return ""
        told.active = active
        told.ended |= ended.keys()
        return "\n".join([_HEAD, *active.values(), *ended.values()])

    async def _keep(self, reply: _Reply, *turns: Turn) -> None:
        await self._store.conversations.append(reply.conversation, turns, at=self._clock())

    async def _keep_what_came(self, reply: _Reply) -> None:
        """Leave the conversation as both sides have seen it; a prompt without any answer is taken back."""
        text = "".join(reply.text)
        if text or reply.tasks:
            said = Message(role=Role.ASSISTANT, content=text or "(no answer)")
            await self._keep(reply, Turn(said, text))
        else:
            await self._store.conversations.take_back(reply.conversation)

    def _ended(self, reply: _Reply, *, stopped: bool = False, cut: bool = False) -> Said:
        said = Said(
            conversation=reply.conversation,
            text="".join(reply.whole),
            model=reply.model,
            tasks=tuple(reply.tasks),
            stopped=stopped,
            cut=cut,
            prompt_tokens=reply.prompt_tokens,
            completion_tokens=reply.completion_tokens,
        )
        self._emit(
            ReplyEnded(
                conversation=said.conversation,
                text=said.text,
                model=said.model,
                stopped=stopped,
                cut=cut,
                prompt_tokens=said.prompt_tokens,
                completion_tokens=said.completion_tokens,
            )
        )
        return said


def status_in_words(task: Task) -> str:
    """One line about a task for the chat model, with figures from the store."""
    model = task.model_used or task.model_requested
    on = f", on {model_label(model)}" if model else ""
    message = f": {one_line(task.message, 160)}" if task.message else ""
    share = f", {task.progress:.0%}" if not task.ended else ""
    return f"{task.id} ({task.type}, {task.agent} agent{on}) is {task.state_in_words}{share}{message}"


def _chosen(text: str) -> ToolCall | None:
    """The tool that a decision asks for.

    Raises:
        BadReply: it is not the JSON that was asked for.
    """
    try:
        decision = json.loads(text)
    except ValueError as error:
        raise BadReply(
            f"the model was asked for JSON and answered {one_line(text, 80)!r}; try another model"
        ) from error
    if wrong := strays(decision, DECISION):
        raise BadReply(f"the model's decision is not as asked: {'; '.join(map(str, wrong))}; try another model")
    if decision["tool"] == "none":
        return None
    wanted = next(tool.parameters["properties"] for tool in TOOLS if tool.name == decision["tool"])
    return ToolCall("call-1", decision["tool"], {key: value for key, value in decision.items() if key in wanted})
