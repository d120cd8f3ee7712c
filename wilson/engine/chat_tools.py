"""The tools of the chat model: give work away, ask how it is going, look at the models."""

import json
from collections.abc import Awaitable, Callable
from typing import Any, Final

from wilson.domain.agent import handed_over, pair
from wilson.domain.chat import ToolCall, ToolSpec
from wilson.domain.draft import task_id
from wilson.domain.errors import WilsonError
from wilson.domain.model import EndpointReport, model_label
from wilson.domain.profile import Profile
from wilson.domain.schema import Schema, strays
from wilson.domain.task import Task, TaskDraft, TaskId
from wilson.domain.text import memory
from wilson.engine.worker_manager import WorkerManager
from wilson.store.opening import Store

_AGENTS: Final = ("code", "test", "review", "research", "analysis")

TOOLS: Final = (
    ToolSpec(
        name="delegate_task",
        description="Give work to a background worker. Returns the task's name at once; the work goes on.",
        parameters={
            "type": "object",
            "additionalProperties": False,
            "required": ["goal"],
            "properties": {
                "goal": {"type": "string", "minLength": 1, "maxLength": 2000, "description": "The whole goal"},
                "agent": {"enum": list(_AGENTS), "description": "Who does it; code if it makes files"},
            },
        },
    ),
    ToolSpec(
        name="check_task_progress",
        description="How a task is going, from the store.",
        parameters={
            "type": "object",
            "additionalProperties": False,
            "required": ["task"],
            "properties": {"task": {"type": "string", "maxLength": 20, "description": "Its name, such as TASK-001"}},
        },
    ),
    ToolSpec(
        name="model_status",
        description="Which models are loaded, for what, and how much memory they take.",
        parameters={"type": "object", "additionalProperties": False, "properties": {}},
    ),
)

DECISION: Final[Schema] = {
    "type": "object",
    "additionalProperties": False,
    "required": ["tool"],
    "properties": {
        "tool": {"enum": ["none", *(tool.name for tool in TOOLS)]},
        "goal": {"type": "string", "maxLength": 2000},
        "agent": {"enum": list(_AGENTS)},
        "task": {"type": "string", "maxLength": 20},
    },
}
"""The same choice as one flat object, for models that cannot call tools but can be held to a schema."""


class ChatTools:
    """Carries out what the chat model asks for, and answers in words that it can use."""

    def __init__(
        self,
        store: Store,
        manager: WorkerManager,
        profile: Callable[[], Profile],
        models: Callable[[], Awaitable[tuple[EndpointReport, ...]]],
    ) -> None:
        self._store = store
        self._manager = manager
        self._profile = profile
        self._models = models

    async def use(self, call: ToolCall, conversation: str) -> tuple[str, TaskId | None]:
        """The tool's answer, and the task that it started, if any. Mistakes of the model are answers too."""
        tool = next((tool for tool in TOOLS if tool.name == call.name), None)
        if tool is None:
            return f"error: there is no tool {call.name!r}; there are {', '.join(t.name for t in TOOLS)}", None
        if call.problem:
            return f"error: {call.problem}", None
        if wrong := strays(dict(call.arguments), tool.parameters):
            return f"error: {'; '.join(map(str, wrong))}", None
        try:
            match call.name:
                case "delegate_task":
                    return await self._delegate(call.arguments["goal"], call.arguments.get("agent"), conversation)
                case "check_task_progress":
                    return await self._progress(call.arguments["task"]), None
                case _:
                    return loaded_in_words(await self._models()), None
        except WilsonError as error:
            return f"error: {error}", None

    async def _delegate(self, goal: str, agent: str | None, conversation: str) -> tuple[str, TaskId]:
        name, kind = pair(self._profile().agents, agent, None)
        task = await self._manager.delegate(TaskDraft(goal=goal, type=kind, agent=name, conversation=conversation))
        return handed_over(task, self._manager.queue_reason(task.id)), task.id

    async def _progress(self, name: str) -> str:
        task = await self._store.tasks.get(task_id(name))
        return json.dumps(progress_report(task), ensure_ascii=False)


def progress_report(task: Task) -> dict[str, Any]:
    """What ``check_task_progress`` tells."""
    return {
        "task": task.id,
        "status": task.state.value,
        "outcome_reason": task.outcome_reason and task.outcome_reason.value,
        "assigned_to": task.agent,
        "model_used": task.model_used or task.model_requested,
        "progress": round(task.progress, 2),
        "message": task.message,
        "subtasks": [{"name": step.description, "status": step.state.value} for step in task.steps],
        "files": list(task.result.files_created) if task.result else [],
    }


def loaded_in_words(reports: tuple[EndpointReport, ...]) -> str:
    """Each loaded model with its endpoint, purpose, task and memory, and the total, one line each."""
    lines = []
    total = 0
    for endpoint in reports:
        for model in endpoint.models:
            if model.loaded:
                purpose = "/".join(model.purposes) or "no purpose of Wilson's"
                task = f", working on {model.task}" if model.task else ""
                lines.append(
                    f"{model_label(model.name)} at {endpoint.name}: {purpose}{task}, {memory(model.memory_mb)} RAM"
                )
                total += model.memory_mb or 0
    return "\n".join([*(lines or ["no model is loaded"]), f"total: {memory(total)} RAM"])
