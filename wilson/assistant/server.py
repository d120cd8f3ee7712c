"""The owner's end of the control socket."""

import asyncio
import contextlib
import json
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

from wilson.assistant.control import LONGEST_LINE, socket_path, write_line
from wilson.assistant.here import Assistant
from wilson.domain.errors import UsageError, WilsonError
from wilson.domain.front_door import Served
from wilson.domain.task import TaskDraft
from wilson.domain.wire import error_to_plain, event_to_plain, parsed, plain
from wilson.engine.waiting import Pulse

_LONG: Final = frozenset({"say", "ended", "wake"})
"""Verbs that may take minutes; whoever ends does not wait for them."""
_LAST_ANSWERS_S: Final = 1.0


class Server:
    """Answers other processes of the same user."""

    def __init__(self, assistant: Assistant) -> None:
        self._assistant = assistant
        self._connections: set[asyncio.Task[None]] = set()
        self._unanswered: Counter[str] = Counter()
        """How many requests of each verb are under way."""
        self._answered = Pulse()

    @classmethod
    @asynccontextmanager
    async def listening(cls, assistant: Assistant, folder: Path) -> AsyncIterator["Server"]:
        """Answer other processes as long as the block lasts."""
        server = cls(assistant)
        path = socket_path(folder)
        with contextlib.suppress(FileNotFoundError):
            path.unlink()  # It is ours to replace: only the owner gets here.
        listener = await asyncio.start_unix_server(server._accept, path, limit=LONGEST_LINE)
        path.chmod(0o600)  # Its folder is closed to others already.
        assistant.announce(str(path))
        try:
            yield server
        finally:
            # First nobody new, then nobody: who gets no answer has not been heard.
            assistant.announce(None)
            listener.close()
            with contextlib.suppress(OSError):
                path.unlink()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LAST_ANSWERS_S):
                    await server._answered.until(lambda: not server._unanswered.keys() - _LONG)
            for connection in server._connections:
                connection.cancel()
            if server._connections:
                await asyncio.wait(server._connections)

    async def drained(self) -> None:
        """Wait until nobody waits for an answer any more."""
        await self._answered.until(lambda: not self._unanswered)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = asyncio.current_task()
        assert connection is not None
        self._connections.add(connection)
        try:
            async with asyncio.TaskGroup() as requests:
                while line := await reader.readline():
                    requests.create_task(self._answer(line, writer), name="request over the control socket")
                raise _Closed
        except* (_Closed, ConnectionError, ValueError):
            pass  # The other side has gone, or its line has no end; either way there is nobody to answer.
        except* asyncio.CancelledError:
            pass
        finally:
            self._connections.discard(connection)
            writer.close()

    async def _answer(self, line: bytes, writer: asyncio.StreamWriter) -> None:
        try:
            request = json.loads(line)
            number, verb, args = request["id"], str(request["verb"]), request.get("args", {})
        except (ValueError, KeyError, TypeError, AttributeError):
            return  # Whoever talks nonsense gets no answer.
        if verb == "events":
            await write_line(writer, {"id": number, "ok": None})
            async with self._assistant.events() as events:
                async for happened in events:
                    await write_line(writer, {"event": event_to_plain(happened)})
            return
        self._unanswered[verb] += 1
        try:
            await write_line(writer, {"id": number, **await self._answer_to(verb, args)})
        finally:
            self._unanswered -= Counter([verb])
            self._answered.beat()

    async def _answer_to(self, verb: str, args: Mapping[str, Any]) -> dict[str, Any]:
        try:
            return {"ok": plain(await self._done(verb, args))}
        except WilsonError as error:
            return {"error": error_to_plain(error)}
        except (KeyError, TypeError, ValueError) as error:
            return {"error": error_to_plain(UsageError(f"{verb} was asked for in a wrong way: {error!r}"))}

    async def _done(self, verb: str, args: Mapping[str, Any]) -> Any:
        match verb:
            case "say":
                return await self._assistant.say(args["prompt"], args["conversation"], args["max_turns"])
            case "stop":
                return await self._assistant.stop(args["conversation"])
            case "delegate":
                return await self._assistant.delegate(parsed(args["draft"], TaskDraft))
            case "ended" | "cancel" | "accept" | "retry" | "task":
                return await getattr(self._assistant, verb)(args["task"])
            case (
                "tasks"
                | "models"
                | "status"
                | "wake"
                | "begin_conversation"
                | "last_conversation"
                | "profiles"
                | "left_over"
            ):
                return await getattr(self._assistant, verb)()
            case "served_at":
                return await self._assistant.served_at(args["url"])
            case "use_server":
                return await self._assistant.use_server(parsed(args["served"], Served), args["chat"], args["code"])
            case "use_file":
                return await self._assistant.use_file(args["path"])
            case "said_before":
                return await self._assistant.said_before(args["conversation"])
            case "use_profile":
                return await self._assistant.use_profile(args["name"])
        raise UsageError(f"the Wilson that owns the store does not know {verb!r}; it is perhaps of another version")


class _Closed(Exception):
    """The other side has closed the connection, so whatever it still waits for is given up."""
