"""Everything that can go wrong, by name.

    WilsonError
    ├── UsageError             the command asks for something that does not exist
    ├── ConfigError            a file of settings says something it may not
    ├── ProviderError
    │   ├── Unreachable        nobody answers at the endpoint
    │   ├── ModelMissing       the endpoint answers and does not have the model
    │   ├── AccessDenied       the key is missing or wrong
    │   ├── Busy               the server's queue is full, or a rate limit is reached
    │   ├── LoadFailed         the model could not be brought into memory
    │   ├── ContextExceeded    the prompt is longer than the model's context
    │   ├── Unsupported        the model cannot do what was asked of it
    │   ├── StreamBroken       the reply stopped before its end
    │   └── BadReply           the server's answer does not follow its protocol
    ├── TaskError
    │   ├── IllegalMove        the state does not allow this move
    │   ├── NoSuchTask         there is no task of that name
    │   ├── TaskChanged        somebody else moved the task first
    │   ├── NothingProduced    the worker's answer holds no file
    │   └── AnswerCut          the worker's answer ended at the token limit
    ├── LimitReached           a limit that the user has set, or that protects them, was reached
    ├── StoreError             the database could not be opened, read or written
    ├── WorkspaceError         a file could not be read or written
    │   └── PathRefused        the path leads out of the workspace
    └── OwnerGone              the Wilson that this command was attached to has ended

A door turns foreign exceptions into these, with ``from``. A message says what was tried and what
would help.
"""


class WilsonError(Exception):
    """Any failure that Wilson can explain in a sentence."""


class UsageError(WilsonError):
    """The command asks for something that does not exist."""


class ConfigError(WilsonError):
    """A file of settings says something it may not; every place is named."""

    def __init__(self, problems: tuple[str, ...]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class ProviderError(WilsonError):
    """A model server, or a model, did not do what was asked."""


class Unreachable(ProviderError):
    """Nobody answers at the endpoint."""


class ModelMissing(ProviderError):
    """The endpoint answers and does not have the model."""


class AccessDenied(ProviderError):
    """The key is missing or wrong."""


class Busy(ProviderError):
    """The server's queue is full, or a rate limit is reached; asking later may help."""


class LoadFailed(ProviderError):
    """The model could not be brought into memory."""


class ContextExceeded(ProviderError):
    """The prompt is longer than the context that the model was loaded with."""


class Unsupported(ProviderError):
    """The model or its server cannot do what was asked, such as calling tools."""


class StreamBroken(ProviderError):
    """The reply stopped before its end."""


class BadReply(ProviderError):
    """The server's answer does not follow its protocol."""


class TaskError(WilsonError):
    """A task cannot do what was asked of it."""


class IllegalMove(TaskError):
    """The state does not allow this move; the message lists those that it does."""


class NoSuchTask(TaskError):
    """There is no task of that name."""


class TaskChanged(TaskError):
    """Somebody else moved the task first, so this move was not made."""


class NothingProduced(TaskError):
    """The worker's answer holds no file, although the task was to write some."""


class AnswerCut(TaskError):
    """The worker's answer ended at the token limit, so its last part is missing."""


class LimitReached(WilsonError):
    """A limit that the user has set, or that protects them, was reached."""


class StoreError(WilsonError):
    """The database could not be opened, read or written."""


class WorkspaceError(WilsonError):
    """A file could not be read or written."""


class PathRefused(WorkspaceError):
    """The path leads out of the workspace, or to something that is not a plain file."""


class OwnerGone(WilsonError):
    """The Wilson that this command was attached to has ended."""
