"""What a window may ask of Wilson, whether Wilson runs in this process or in another one."""

from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from wilson.domain.agent import Agent
from wilson.domain.event import Happened
from wilson.domain.model import EndpointReport, ProviderKind
from wilson.domain.status import StatusLine
from wilson.domain.task import Task, TaskDraft, TaskId
from wilson.domain.value import Struct


class Said(Struct, frozen=True, kw_only=True):
    """How the answer to one prompt ended."""

    conversation: str
    text: str
    model: str
    tasks: tuple[TaskId, ...] = ()
    """Tasks that the answer started."""
    stopped: bool = False
    cut: bool = False
    """The reply reached its token limit, or the limit of turns."""
    prompt_tokens: int | None = None
    completion_tokens: int | None = None


class SaidBefore(Struct, frozen=True):
    """One turn of a conversation, as it is shown when it is taken up again."""

    by_user: bool
    text: str


class Served(Struct, frozen=True):
    """What an address turned out to be."""

    provider: ProviderKind
    url: str
    models: tuple[str, ...]


class EventStream(Protocol):
    """What one listener has yet to hear, in order."""

    def __aiter__(self) -> AsyncIterator[Happened]: ...

    async def __anext__(self) -> Happened: ...

    async def caught_up(self) -> None:
        """Wait until the listener has dealt with everything that has happened so far."""
        ...


class FrontDoor(Protocol):
    """Verbs go in, events come out."""

    @property
    def agents(self) -> Mapping[str, Agent]:
        """Those that may be given tasks."""
        ...

    def events(self) -> AbstractAsyncContextManager[EventStream]:
        """Everything that happens from now on."""
        ...

    async def wake(self) -> None:
        """Load the chat model, so that the first prompt need not wait for it."""
        ...

    async def begin_conversation(self) -> str: ...

    async def last_conversation(self) -> str | None:
        """The one that was last continued in this folder."""
        ...

    async def said_before(self, conversation: str) -> tuple[SaidBefore, ...]:
        """What has been said, as it is shown when a conversation is taken up again."""
        ...

    async def say(self, prompt: str, conversation: str | None = None, max_turns: int | None = None) -> Said:
        """Answer ``prompt``; none for ``conversation`` opens a new one. The reply grows in the events."""
        ...

    async def stop(self, conversation: str) -> None:
        """End the reply that is running in ``conversation``, keeping what came."""
        ...

    async def delegate(self, draft: TaskDraft) -> Task:
        """Store a task; whoever runs tasks takes it from there."""
        ...

    async def ended(self, task: TaskId) -> Task:
        """The task once it has ended or waits for the user's word."""
        ...

    async def cancel(self, task: TaskId) -> Task: ...

    async def accept(self, task: TaskId) -> Task:
        """Write the files of a finished task into the workspace."""
        ...

    async def retry(self, task: TaskId) -> Task: ...

    async def task(self, task: TaskId) -> Task: ...

    async def left_over(self) -> tuple[str, ...]:
        """What the last Wilson left for the user to know: tasks that were interrupted, files that wait."""
        ...

    async def tasks(self) -> tuple[Task, ...]: ...

    async def models(self) -> tuple[EndpointReport, ...]: ...

    async def status(self) -> StatusLine: ...

    async def served_at(self, url: str) -> Served:
        """Which protocol is spoken at an address, and which models there are."""
        ...

    async def use_server(self, served: Served, chat: str, code: str) -> None:
        """Write a profile of the user's own for a server, and switch to it."""
        ...

    async def use_file(self, path: str) -> None:
        """Write a profile of the user's own for a model file, and switch to it."""
        ...

    async def profiles(self) -> tuple[str, ...]:
        """The names of all profiles."""
        ...

    async def use_profile(self, name: str) -> None:
        """Another profile for everything that starts from now on; running tasks end on the models they have."""
        ...
