"""Models, the endpoints that serve them, and what is known of both."""

import re
from enum import StrEnum
from pathlib import PurePath
from typing import Final

from wilson.domain.value import Struct

DEFAULT_CONTEXT: Final = 8192
"""Tokens of context where no configuration says otherwise."""


class ProviderKind(StrEnum):
    """The protocols that Wilson speaks."""

    OLLAMA = "ollama"
    OPENAI = "openai"
    """Any compatible server: vLLM, llama-server, LM Studio."""
    LLAMACPP = "llamacpp"
    """A GGUF file, run by a child process of Wilson."""
    SCRIPTED = "scripted"
    """Plays a file; the demo and the tests."""


class Purpose(StrEnum):
    """What a model is wanted for."""

    CHAT = "chat"
    ORCHESTRATION = "orchestration"
    PLANNING = "planning"
    ANALYSIS = "analysis"
    CODE = "code"
    VISION = "vision"


class Endpoint(Struct, frozen=True, kw_only=True):
    """A place where models are served."""

    name: str
    provider: ProviderKind
    url: str = ""
    """Base address without a trailing slash; empty for a provider without a server."""
    max_memory_mb: int | None = None
    api_key_env: str | None = None
    """The environment variable that holds the key; keys themselves are never written down."""
    script: str | None = None
    """The file that a scripted endpoint plays."""
    command: str | None = None
    """The llama-server that a llamacpp endpoint runs; none for the one that is found."""

    @property
    def address(self) -> str:
        """How a message names it."""
        return f"{self.name} ({self.url})" if self.url else self.name


class ToolMode(StrEnum):
    """How a model is brought to call tools."""

    AUTO = "auto"
    """As the model's own description says."""
    NATIVE = "native"
    SCHEMA = "schema"
    """By a short constrained question before the answer, for models without native tools."""


class ModelChoice(Struct, frozen=True, kw_only=True):
    """What a profile says about the model for one purpose."""

    purpose: Purpose
    provider: ProviderKind
    model: str
    endpoint: str | None = None
    """Only this endpoint; otherwise the first healthy one that has the model."""
    temperature: float
    keep_alive: bool = False
    """The model stays loaded until Wilson ends."""
    idle_timeout: float = 0.0
    """Seconds that the model stays loaded after its last use."""
    num_ctx: int = DEFAULT_CONTEXT
    max_tokens: int | None = None
    """The longest reply, in tokens."""
    fallback: str | None = None
    tools: ToolMode = ToolMode.AUTO
    threads: int | None = None


class ModelSpec(Struct, frozen=True, kw_only=True):
    """A model as it is always asked for.

    Servers load a model anew when any load option differs from last time, so one spec per model serves loading, every
    request and unloading alike.
    """

    endpoint: str
    name: str
    """As the server knows it; for ``llamacpp`` the path of the file."""
    context: int | None
    """Tokens; none where the server fixes it."""
    resident: bool = False
    """It is meant to stay: the server is told so, and it gets the cores that a chat needs."""
    linger: float = 0.0
    """Seconds it stays loaded after its last lease; infinite when it is to stay until the end."""
    threads: int | None = None

    @property
    def seat(self) -> tuple[str, str]:
        """What makes two specs the same loaded model."""
        return (self.endpoint, self.name)

    @property
    def label(self) -> str:
        return model_label(self.name)


class ModelFacts(Struct, frozen=True, kw_only=True):
    """What an endpoint says of a model that is installed there."""

    name: str
    size_mb: int | None = None
    """On disk, in units of 2**20 bytes."""
    context: int | None = None
    """The longest context it was trained for, or that the server allows, in tokens."""
    parameters: str = ""
    """Such as ``14B``."""
    tools: bool | None = None
    """It can call tools; none when nobody knows before trying."""
    thinks: bool = False


class LoadedModel(Struct, frozen=True, kw_only=True):
    """A model in memory at an endpoint."""

    name: str
    memory_mb: int | None
    """In units of 2**20 bytes: the resident memory of an own process, or what the server says; none if it is silent."""
    context: int | None = None


class Health(Struct, frozen=True, kw_only=True):
    """Whether an endpoint answers."""

    ok: bool
    detail: str = ""
    """A version when it answers, the reason when it does not."""


class Patience(Struct, frozen=True, kw_only=True):
    """How long each kind of silence is borne, in seconds."""

    probe_s: float = 2.0
    connect_s: float = 3.0
    load_s: float = 600.0
    first_token_s: float = 300.0
    """While a prompt is read; minutes on a slow processor."""
    between_tokens_s: float = 30.0
    unload_s: float = 10.0


class ModelReport(Struct, frozen=True, kw_only=True):
    """A model in the list that people see."""

    name: str
    size_mb: int | None
    context: int | None
    loaded: bool
    memory_mb: int | None
    purposes: tuple[str, ...]
    """What the profile wants it for."""
    loaded_by: str | None
    """``wilson`` or ``other``; none when it is not loaded."""
    task: str | None = None


class EndpointReport(Struct, frozen=True, kw_only=True):
    """An endpoint in the list that people see."""

    name: str
    provider: ProviderKind
    url: str
    healthy: bool
    detail: str
    models: tuple[ModelReport, ...]


def model_label(name: str) -> str:
    """A model's name as it is shown: a file goes without its folders and ending."""
    return PurePath(name).stem if name.endswith(".gguf") else name


def parameter_count(name: str) -> str:
    """The size that a model's name tells, ``14B`` for ``qwen2.5-coder:14b``; empty when it tells none."""
    found = re.search(r"(?<![a-z0-9.])(\d+x)?(\d+(?:\.\d+)?)([bm])(?![a-z0-9])", name.casefold())
    return "".join(part or "" for part in found.groups()).upper().replace("X", "x") if found else ""
