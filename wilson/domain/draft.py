"""A task in the words of a command line: flags first, then the goal as it was typed."""

import re
from collections.abc import Mapping
from typing import Final

from wilson.domain.agent import Agent, pair
from wilson.domain.errors import UsageError
from wilson.domain.schema import nearest
from wilson.domain.task import TaskDraft, TaskId

_PRIORITY: Final = re.compile(r"[-+]?[0-9]{1,6}")
FLAGS = ("--agent", "--type", "--priority", "--depends-on")


def draft_from_line(line: str, agents: Mapping[str, Agent]) -> TaskDraft:
    """``--agent code write hello.py`` as a draft; only the beginning is read as flags.

    Raises:
        UsageError: a flag is unknown or lacks its value, or there is no goal.
    """
    given: dict[str, str] = {}
    rest = line.strip()
    while rest.startswith("--"):
        word, rest = _first_word(rest)
        flag, equals, value = word.partition("=")
        if flag not in FLAGS:
            close = nearest(flag, FLAGS)
            hint = f"; did you mean {close}?" if close else ""
            raise UsageError(f"unknown flag {flag}; there are {' '.join(FLAGS)}{hint}")
        if not equals:
            value, rest = _first_word(rest)
        if not value:
            raise UsageError(f"{flag} needs a value")
        given[flag] = value
    return draft(
        rest,
        agents,
        agent=given.get("--agent"),
        kind=given.get("--type"),
        priority=given.get("--priority", "0"),
        depends_on=given.get("--depends-on", ""),
    )


def draft(
    goal: str,
    agents: Mapping[str, Agent],
    *,
    agent: str | None = None,
    kind: str | None = None,
    priority: str = "0",
    depends_on: str = "",
) -> TaskDraft:
    """A draft from the texts of its flags.

    Raises:
        UsageError: one of them makes no sense; the message says what would.
    """
    name, type_ = pair(agents, agent, kind)
    if not _PRIORITY.fullmatch(priority.strip()):
        raise UsageError(f"--priority takes a whole number of at most six digits, not {priority[:40]!r}")
    needs = dict.fromkeys(task_id(part) for part in depends_on.split(",") if part.strip())
    return TaskDraft(goal=goal, type=type_, agent=name, priority=int(priority), depends_on=tuple(needs))


def task_id(text: str) -> TaskId:
    """``TASK-001`` from ``TASK-001``, ``task-1`` or ``1``.

    Raises:
        UsageError: it is no task's name.
    """
    digits = text.strip().upper().removeprefix("TASK-")
    if not (digits.isascii() and digits.isdigit() and len(digits) <= 12):
        raise UsageError(f"{text.strip()[:40]!r} is no task; tasks are called TASK-001, TASK-002 and so on")
    return task_name(int(digits))


def _first_word(text: str) -> tuple[str, str]:
    word, *rest = text.split(maxsplit=1) or [""]
    return word, rest[0] if rest else ""


def task_name(number: int) -> TaskId:
    return TaskId(f"TASK-{number:03}")
