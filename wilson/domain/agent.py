"""Agents: who does which kind of work, with which model and which words."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from wilson.domain.errors import UsageError
from wilson.domain.model import Purpose, model_label
from wilson.domain.schema import nearest
from wilson.domain.task import Task, TaskType
from wilson.domain.value import Struct


class Agent(Struct, frozen=True, kw_only=True):
    """A purpose, a prompt and a set of tools."""

    name: str
    purpose: Purpose
    writes_files: bool = False
    """Its answers are files; otherwise the answer itself is the result."""
    prompt_file: str | None = None
    """The user's own prompt; otherwise the one that ships under the agent's name."""
    tools: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        """``Code Agent``."""
        return agent_title(self.name)


BUILT_IN: Final[Mapping[str, Agent]] = MappingProxyType({
    agent.name: agent
    for agent in (
        Agent(name="manager", purpose=Purpose.PLANNING),
        Agent(name="code", purpose=Purpose.CODE, writes_files=True),
        Agent(name="test", purpose=Purpose.CODE, writes_files=True),
        Agent(name="review", purpose=Purpose.ANALYSIS),
        Agent(name="research", purpose=Purpose.ANALYSIS),
        Agent(name="analysis", purpose=Purpose.ANALYSIS),
    )
})

AGENT_OF_TYPE: Final[Mapping[TaskType, str]] = MappingProxyType({
    TaskType.CODE: "code",
    TaskType.TEST: "test",
    TaskType.REVIEW: "review",
    TaskType.RESEARCH: "research",
    TaskType.ANALYSIS: "analysis",
    TaskType.GENERAL: "analysis",
})


def pair(agents: Mapping[str, Agent], agent: str | None, kind: str | None) -> tuple[str, TaskType]:
    """Agent and task type, each completed from the other; a plain task is code.

    Raises:
        UsageError: there is no such agent or type.
    """
    if agent is not None and agent not in agents:
        raise UsageError(_unknown("agent", agent, tuple(agents)))
    if kind is not None and kind not in tuple(TaskType):
        raise UsageError(_unknown("task type", kind, tuple(TaskType)))
    if agent is None:
        type_ = TaskType(kind or TaskType.CODE)
        return AGENT_OF_TYPE[type_], type_
    if kind is None:
        first = next((type_ for type_, name in AGENT_OF_TYPE.items() if name == agent), None)
        return agent, first or (TaskType.CODE if agents[agent].writes_files else TaskType.GENERAL)
    return agent, TaskType(kind)


def agent_title(name: str) -> str:
    """``Code Agent`` for ``code``."""
    return f"{name.replace('_', ' ').title()} Agent"


def handed_over(task: Task, queue_reason: str | None) -> str:
    """What is said of a task that has just been given away: its name, who does it, with which model."""
    model = f" ({model_label(task.model_requested)})" if task.model_requested else ""
    who = f"{agent_title(task.agent)}{model}"
    if queue_reason:
        return f"{task.id} is queued ({queue_reason}); the {who} will take it"
    return f"{task.id} is with the {who}"


def _unknown(what: str, name: str, known: tuple[str, ...]) -> str:
    close = nearest(name, known)
    hint = f"; did you mean {close}?" if close else ""
    return f"there is no {what} {name!r}; there are {', '.join(known)}{hint}"
