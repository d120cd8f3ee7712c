"""The other end of the control socket: a Wilson in another process, seen as if it were here."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from wilson.assistant.control import write_line
from wilson.domain.agent import Agent
from wilson.domain.errors import OwnerGone
from wilson.domain.front_door import Said, SaidBefore, Served
from wilson.domain.model import EndpointReport
from wilson.domain.status import StatusLine
from wilson.domain.task import Task, TaskDraft, TaskId
from wilson.domain.wire import error_from_plain, event_from_plain, parsed, plain
from wilson.engine.bus import Events


class Attached:
    """A front door whose house is elsewhere."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, agents: Mapping[str, Agent]) -> None:
        self._agents = agents
        self._reader = reader
        self._writer = writer
        self._count = 0
        self._answers: dict[int, asyncio.Future[Any]] = {}
        self._listeners: list[Events] = []
        self._hears_events = False
        self._gone = False

    @classmethod
    @asynccontextmanager
    async def over(
        cls, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, agents: Mapping[str, Agent]
    ) -> AsyncIterator["Attached"]:
        """Speak with the owner as long as the block lasts."""
        attached = cls(reader, writer, agents)
        hearing = asyncio.create_task(attached._hear(), name="answers of the owner")
        try:
            yield attached
        finally:
            writer.close()
            hearing.cancel()
            await asyncio.wait({hearing})

    @property
    def agents(self) -> Mapping[str, Agent]:
        return self._agents

    @asynccontextmanager
    async def events(self) -> AsyncIterator[Events]:
        if not self._hears_events:
            await self._ask("events")
            self._hears_events = True
        listener = Events()
        self._listeners.append(listener)
        try:
            yield listener
        finally:
            self._listeners.remove(listener)

    async def wake(self) -> None:
        await self._ask("wake")

    async def begin_conversation(self) -> str:
        return str(await self._ask("begin_conversation"))

    async def last_conversation(self) -> str | None:
        answer = await self._ask("last_conversation")
        return None if answer is None else str(answer)

    async def said_before(self, conversation: str) -> tuple[SaidBefore, ...]:
        return parsed(await self._ask("said_before", conversation=conversation), tuple[SaidBefore, ...])

    async def served_at(self, url: str) -> Served:
        return parsed(await self._ask("served_at", url=url), Served)

    async def use_server(self, served: Served, chat: str, code: str) -> None:
        await self._ask("use_server", served=plain(served), chat=chat, code=code)

    async def use_file(self, path: str) -> None:
        await self._ask("use_file", path=path)

    async def profiles(self) -> tuple[str, ...]:
        return parsed(await self._ask("profiles"), tuple[str, ...])

    async def say(self, prompt: str, conversation: str | None = None, max_turns: int | None = None) -> Said:
        answer = await self._ask("say", prompt=prompt, conversation=conversation, max_turns=max_turns)
        return parsed(answer, Said)

    async def stop(self, conversation: str) -> None:
        await self._ask("stop", conversation=conversation)

    async def delegate(self, draft: TaskDraft) -> Task:
        return parsed(await self._ask("delegate", draft=plain(draft)), Task)

    async def ended(self, task: TaskId) -> Task:
        return parsed(await self._ask("ended", task=task), Task)

    async def cancel(self, task: TaskId) -> Task:
        return parsed(await self._ask("cancel", task=task), Task)

    async def accept(self, task: TaskId) -> Task:
        return parsed(await self._ask("accept", task=task), Task)

    async def retry(self, task: TaskId) -> Task:
        return parsed(await self._ask("retry", task=task), Task)

    async def task(self, task: TaskId) -> Task:
        return parsed(await self._ask("task", task=task), Task)

    async def left_over(self) -> tuple[str, ...]:
        return parsed(await self._ask("left_over"), tuple[str, ...])

    async def tasks(self) -> tuple[Task, ...]:
        return parsed(await self._ask("tasks"), tuple[Task, ...])

    async def models(self) -> tuple[EndpointReport, ...]:
        return parsed(await self._ask("models"), tuple[EndpointReport, ...])

    async def status(self) -> StatusLine:
        return parsed(await self._ask("status"), StatusLine)

    async def use_profile(self, name: str) -> None:
        await self._ask("use_profile", name=name)

    async def _ask(self, verb: str, **args: Any) -> Any:
        """
        Raises:
            OwnerGone: the owner ended before it answered.
        """
        if self._gone:
            raise _gone()
        self._count += 1
        number = self._count
        self._answers[number] = asyncio.get_running_loop().create_future()
        try:
            await write_line(self._writer, {"id": number, "verb": verb, "args": args})
            return await self._answers[number]
        except ConnectionError as error:
            raise _gone() from error
        finally:
            del self._answers[number]

    async def _hear(self) -> None:
        try:
            while line := await self._reader.readline():
                self._heard(json.loads(line))
        except (ConnectionError, ValueError):
            pass  # Said below, to everybody who waits.
        finally:
            self._gone = True
            for answer in self._answers.values():
                if not answer.done():
                    answer.set_exception(_gone())
            for listener in self._listeners:
                listener.close()

    def _heard(self, line: Mapping[str, Any]) -> None:
        match line:
            case {"event": event}:
                # An owner of a newer version may tell of things that this one has no word for.
                with contextlib.suppress(ValueError):
                    happened = event_from_plain(event)
                    for listener in self._listeners:
                        listener.tell(happened)
            case {"id": number, "ok": answer} if waiting := self._answers.get(number):
                waiting.set_result(answer)
            case {"id": number, "error": error} if waiting := self._answers.get(number):
                waiting.set_exception(error_from_plain(error))


def _gone() -> OwnerGone:
    return OwnerGone("the Wilson that owns the store has ended; ask again, and see: wilson task list")
