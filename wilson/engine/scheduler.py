"""The scheduler: which waiting task starts now, decided from values alone."""

from wilson.domain.task import TaskId
from wilson.domain.value import Struct


class Waiting(Struct, frozen=True):
    """A task that could run."""

    task: TaskId
    priority: int
    model: str
    """The model that its profile wants for it."""


class Scene(Struct, frozen=True):
    """Everything that the choice depends on."""

    waiting: tuple[Waiting, ...]
    """The more urgent first, then in the order of their arrival."""
    running: tuple[Waiting, ...]
    max_concurrent: int


class Start(Struct, frozen=True):
    """Give the task a worker now."""

    task: TaskId


class Hold(Struct, frozen=True):
    """Let the task wait, and say why."""

    task: TaskId
    reason: str


Action = Start | Hold


def decide(scene: Scene) -> tuple[Action, ...]:
    """What to do with every waiting task: they start in their order, up to the limit."""
    places = max(0, scene.max_concurrent - len(scene.running))
    starting, held = scene.waiting[:places], scene.waiting[places:]
    active = len(scene.running) + len(starting)
    reason = f"{active} worker{'' if active == 1 else 's'} active, max capacity"
    return (*(Start(waiting.task) for waiting in starting), *(Hold(waiting.task, reason) for waiting in held))
