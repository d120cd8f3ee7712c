from hypothesis import given
from hypothesis import strategies as st

from wilson.domain.task import TaskId
from wilson.engine.scheduler import Hold, Scene, Start, Waiting, decide


def waiting(*names: str) -> tuple[Waiting, ...]:
    return tuple(Waiting(TaskId(name), 0, "coder") for name in names)


def test_tasks_start_in_their_order_up_to_the_limit_and_the_rest_is_told_why_it_waits():
    assert decide(Scene(waiting("A", "B", "C"), (), 2)) == (
        Start("A"),
        Start("B"),
        Hold("C", "2 workers active, max capacity"),
    )


def test_what_runs_already_counts():
    assert decide(Scene(waiting("C"), waiting("A"), 1)) == (Hold("C", "1 worker active, max capacity"),)
    assert decide(Scene(waiting("C"), waiting("A"), 2)) == (Start("C"),)


def test_a_smaller_limit_than_what_runs_starts_nothing():
    assert decide(Scene(waiting("C"), waiting("A", "B"), 1)) == (Hold("C", "2 workers active, max capacity"),)


@given(ready=st.integers(0, 20), running=st.integers(0, 10), limit=st.integers(1, 10))
def test_every_waiting_task_gets_one_answer_and_the_limit_holds(ready: int, running: int, limit: int) -> None:
    names = tuple(f"TASK-{number:03}" for number in range(ready))
    actions = decide(Scene(waiting(*names), waiting(*(f"R{n}" for n in range(running))), limit))
    assert tuple(action.task for action in actions) == names
    started = sum(isinstance(action, Start) for action in actions)
    assert started == min(ready, max(0, limit - running))
