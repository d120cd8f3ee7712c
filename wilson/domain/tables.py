"""Tasks, models and queues laid out as people read them, in plain lines."""

from collections.abc import Iterable

from wilson.domain.model import EndpointReport, model_label
from wilson.domain.status import StatusLine
from wilson.domain.task import OutcomeReason, Task
from wilson.domain.text import memory, one_line


def task_table(tasks: Iterable[Task]) -> str:
    """One line for each task, under a head."""
    return _table(("task", "state", "done", "agent", "model", "title"), [_row(task) for task in tasks])


def task_details(task: Task) -> str:
    """One task with its steps and its result."""
    lines = [f"{task.id} {task.title}", f"  {task.state_in_words}, {task.progress:.0%}, attempt {task.attempt}"]
    if task.message and (task.result is None or task.message != task.result.summary):
        lines.append(f"  {task.message}")
    who = f"  {task.agent} agent"
    lines.append(f"{who} on {model_label(task.model_used)} at {task.endpoint}" if task.model_used else who)
    lines += [f"  {step.number}. {step.description}: {step.state.value}" for step in task.steps]
    if task.result is not None:
        lines += [f"  file {path}" for path in task.result.files_created]
        lines += ["", task.result.summary]
    if task.outcome_reason is OutcomeReason.INTERRUPTED:
        lines.append(f"  run it again: wilson task retry {task.id}")
    return "\n".join(lines)


def queue_lines(status: StatusLine) -> list[str]:
    """What waits, and what for."""
    return [f"{queued.task} queued ({queued.reason})" for queued in status.queue] + [
        f"{task} waits to be accepted: wilson task accept {task}" for task in status.approvals
    ]


def endpoint_lines(reports: tuple[EndpointReport, ...]) -> list[str]:
    """Each endpoint with its health, and its models below it."""
    lines = []
    for report in reports:
        place = f" {report.url}" if report.url else ""
        lines.append(
            f"{report.name} ({report.provider}{place}): {'ok' if report.healthy else 'problem'}, {report.detail}"
        )
        for model in report.models:
            loaded = f"loaded by {model.loaded_by}, {memory(model.memory_mb)} RAM" if model.loaded else "not loaded"
            facts = [
                memory(model.size_mb) if model.size_mb is not None else "",
                f"{model.context} tokens" if model.context else "",
                loaded,
                f"for {'/'.join(model.purposes)}" if model.purposes else "",
                f"working on {model.task}" if model.task else "",
            ]
            lines.append(f"  {model.name}: {', '.join(fact for fact in facts if fact)}")
    return lines or ["no endpoint is configured"]


def _row(task: Task) -> tuple[str, ...]:
    model = model_label(task.model_used or task.model_requested or "-")
    return (task.id, task.state_in_words, f"{task.progress:.0%}", task.agent, model, one_line(task.title, 40))


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    widths = [max(len(row[column]) for row in (head, *rows)) for column in range(len(head))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in (head, *rows)
    )
