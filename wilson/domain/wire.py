"""Values as JSON and back: what streams, sockets, columns and scripts see of them."""

from collections.abc import Mapping
from datetime import datetime
from types import MappingProxyType
from typing import Any, Final, TypeVar

import msgspec

from wilson.domain import errors
from wilson.domain import event as events
from wilson.domain.event import Event, Happened

T = TypeVar("T")

EVENT_TYPES: Final[Mapping[str, type[Event]]] = MappingProxyType({
    "prompt_said": events.PromptSaid,
    "reply_delta": events.ReplyGrew,
    "reply_done": events.ReplyEnded,
    "tool_used": events.ToolUsed,
    "task_created": events.TaskCreated,
    "task_queued": events.TaskQueued,
    "task_moved": events.TaskMoved,
    "task_progress": events.TaskProgressed,
    "step_moved": events.StepMoved,
    "worker_started": events.WorkerStarted,
    "worker_seated": events.WorkerSeated,
    "worker_ended": events.WorkerEnded,
    "chat_seated": events.ChatSeated,
    "model_loading": events.ModelLoading,
    "model_loaded": events.ModelLoaded,
    "model_memory": events.ModelMeasured,
    "model_unloading": events.ModelUnloading,
    "model_unloaded": events.ModelUnloaded,
    "notice": events.NoticeGiven,
    "profile_changed": events.ProfileChanged,
    "warning": events.Warned,
    "error": events.Erred,
})
"""The name of each event in a stream; names are for ever."""

_NAMES: Final = MappingProxyType({kind: name for name, kind in EVENT_TYPES.items()})
_ERRORS: Final = MappingProxyType({
    name: kind for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, errors.WilsonError)
})


def plain(value: Any) -> Any:
    """``value`` in the types that JSON has; times in RFC 3339."""
    return msgspec.to_builtins(value)


def parsed(value: Any, kind: type[T]) -> T:
    """The ``kind`` that plain data describes.

    Raises:
        ValueError: it describes none.
    """
    return msgspec.convert(value, kind)


def event_to_plain(happened: Happened) -> dict[str, Any]:
    """One object of a stream: its ``type``, ``at``, ``number``, and the event's own fields."""
    head = {"type": _NAMES[type(happened.event)], "at": plain(happened.at), "number": happened.number}
    return {**head, **plain(happened.event)}


def event_from_plain(value: Mapping[str, Any]) -> Happened:
    """The other way round.

    Raises:
        ValueError: no event looks like this.
    """
    name = value.get("type")
    kind = EVENT_TYPES.get(name) if isinstance(name, str) else None
    if kind is None:
        raise ValueError(f"{name!r} is no event")
    body = {key: inner for key, inner in value.items() if key not in {"type", "at", "number"}}
    number, at = msgspec.convert(value.get("number"), int), msgspec.convert(value.get("at"), datetime)
    return Happened(number, at, msgspec.convert(body, kind))


def error_to_plain(error: errors.WilsonError) -> dict[str, Any]:
    return {"kind": type(error).__name__, "text": str(error)}


def error_from_plain(value: Mapping[str, Any]) -> errors.WilsonError:
    """The error of that name and text; a plain ``WilsonError`` when this version has no such name."""
    text = str(value.get("text", ""))
    kind = _ERRORS.get(str(value.get("kind")), errors.WilsonError)
    return errors.ConfigError(tuple(text.splitlines())) if kind is errors.ConfigError else kind(text)
