"""The herald: tells everybody what has become of a task."""

from wilson.domain.agent import agent_title
from wilson.domain.event import NoticeGiven
from wilson.domain.model import model_label
from wilson.domain.task import OutcomeReason, Task, TaskState
from wilson.domain.text import one_line
from wilson.engine.bus import Clock, Emit
from wilson.engine.waiting import Pulse
from wilson.store.conversations import CommunicationType
from wilson.store.opening import Store
from wilson.store.tasks import Moved

_WORTH_A_NOTICE = frozenset({TaskState.DONE, TaskState.FAILED, TaskState.IN_REVIEW})


class Herald:
    """Turns changes that are on disk into events, and ends into notices."""

    def __init__(self, store: Store, emit: Emit, clock: Clock) -> None:
        self._store = store
        self._emit = emit
        self._clock = clock
        self._changes = 0
        self._pulse = Pulse()

    async def tell(self, moved: tuple[Moved, ...], message: str = "") -> None:
        """Tell of moves that were made together; ``message`` belongs to the task of the first."""
        for one in moved:
            own = one.task.id == moved[0].task.id
            self._emit(one.event(message if own else ""))
        for task in {one.task.id: one.task for one in moved}.values():
            if task.state in _WORTH_A_NOTICE:
                self._emit(NoticeGiven(text=notice(task), task=task.id))
                await self._store.conversations.communicate(
                    task.id, task.agent, "chat", CommunicationType.NOTIFICATION, notice(task), at=self._clock()
                )
        self.stir()

    def stir(self) -> None:
        """Wake those who wait for a change."""
        self._changes += 1
        self._pulse.beat()

    @property
    def changes(self) -> int:
        """How often something has changed."""
        return self._changes

    async def change_after(self, seen: int) -> None:
        """Wait until there are more than ``seen`` changes."""
        await self._pulse.until(lambda: self._changes > seen)


def notice(task: Task) -> str:
    """What a conversation is told when a task ends, or waits for the user."""
    who = agent_title(task.agent)
    by = f"{who}, {model_label(task.model_used)}" if task.model_used else who
    what = one_line(task.message, 300)
    match task.state:
        case TaskState.IN_REVIEW:
            return f"{task.id} waits for you ({by}): {what}. Accept with /accept {task.id}"
        case TaskState.DONE:
            return f"{task.id} is done ({by}, {task.cost.seconds:.0f} s): {what}"
        case _:
            again = f". Run it again with /retry {task.id}" if task.outcome_reason is OutcomeReason.INTERRUPTED else ""
            return f"{task.id} {task.state_in_words} ({by}): {what}{again}"
