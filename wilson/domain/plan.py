"""A plan: the few steps that lead to a goal, in the only three actions there are."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Final, Self

from wilson.domain.schema import Schema, Stray, strays
from wilson.domain.value import Struct

MOST_STEPS: Final = 6


class PlanAction(StrEnum):
    """What a step of a plan does."""

    CREATE_FILE = "create_file"
    EDIT_FILE = "edit_file"
    RUN_COMMAND = "run_command"


# Every text is bounded: without that a small model under a grammar talks until its token limit, in mid-string.
PLAN_SCHEMA: Final[Schema] = {
    "type": "object",
    "additionalProperties": False,
    "required": ["title", "steps"],
    "properties": {
        "title": {"type": "string", "minLength": 1, "maxLength": 80},
        "steps": {
            "type": "array",
            "minItems": 1,
            "maxItems": MOST_STEPS,
            "items": {
                "type": "object",
                "additionalProperties": False,
                "required": ["step_number", "action", "target", "description", "code_needed"],
                "properties": {
                    "step_number": {"type": "integer", "minimum": 1, "maximum": MOST_STEPS},
                    "action": {"enum": [action.value for action in PlanAction]},
                    "target": {"type": "string", "minLength": 1, "maxLength": 200},
                    "description": {"type": "string", "minLength": 1, "maxLength": 400},
                    "code_needed": {"type": "boolean"},
                    "allow_small": {"type": "boolean"},
                },
            },
        },
    },
}


class PlannedStep(Struct, frozen=True, kw_only=True):
    """One step of a plan."""

    step_number: int
    action: PlanAction
    target: str
    """A file of the workspace, or a command line."""
    description: str
    code_needed: bool
    """A coder is asked for the content."""
    allow_small: bool = False
    """The file may be empty or tiny, such as a package marker."""


class Plan(Struct, frozen=True, kw_only=True):
    """The steps that lead to a goal."""

    title: str
    steps: tuple[PlannedStep, ...]

    @classmethod
    def checked(cls, value: Any) -> Self | tuple[Stray, ...]:
        """The plan that ``value`` describes, or every reason why it describes none."""
        if wrong := strays(value, PLAN_SCHEMA):
            return wrong
        if wrong := tuple(_contradictions(value["steps"])):
            return wrong
        steps = (PlannedStep(**{**step, "action": PlanAction(step["action"])}) for step in value["steps"])
        return cls(title=value["title"], steps=tuple(steps))

    @property
    def files_to_create(self) -> tuple[str, ...]:
        return tuple(step.target for step in self.steps if step.action is PlanAction.CREATE_FILE)


def _contradictions(steps: list[Mapping[str, Any]]) -> list[Stray]:
    found = []
    created: set[str] = set()
    for index, step in enumerate(steps):
        if step["step_number"] != index + 1:
            problem = f"step {step['step_number']} stands in place {index + 1}"
            found.append(Stray(("steps", index, "step_number"), problem))
        if step["action"] == PlanAction.CREATE_FILE:
            if step["target"] in created:
                found.append(Stray(("steps", index, "target"), f"{step['target']} is created twice"))
            created.add(step["target"])
    return found
