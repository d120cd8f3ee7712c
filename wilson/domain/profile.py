"""A profile: what this machine can carry, and which model does what."""

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Final

from wilson.domain.agent import BUILT_IN, Agent
from wilson.domain.errors import ConfigError
from wilson.domain.model import Endpoint, ModelChoice, ModelSpec, Patience, ProviderKind, Purpose
from wilson.domain.value import Struct, field

STANDS_IN: Final[Mapping[Purpose, Purpose]] = MappingProxyType({
    Purpose.PLANNING: Purpose.CHAT,
    Purpose.ORCHESTRATION: Purpose.PLANNING,
    Purpose.ANALYSIS: Purpose.CHAT,
})
"""Whose model serves a purpose that names none of its own."""


class Setting(Struct, frozen=True):
    """One effective value, and where it comes from."""

    path: str
    """``workers.max_concurrent``."""
    value: Any
    layer: str
    """``built-in``, ``profile``, ``user``, ``project``, ``environment`` or ``command line``."""
    origin: str
    """``FILE:LINE:COL``, or the variable or flag."""


class PermissionMode(StrEnum):
    """What workers may do unasked."""

    ASK = "ask"
    """Finished files wait until the user accepts them."""
    ACCEPT_EDITS = "accept-edits"
    AUTO = "auto"
    PLAN = "plan"
    """Nothing is written."""


class SchedulingPolicy(StrEnum):
    """How the next task is chosen."""

    AUTO = "auto"
    SINGLE = "single"
    BATCHED = "batched"
    DEPENDENCY = "dependency"


class WorkerLimits(Struct, frozen=True, kw_only=True):
    """How many workers there may be, and how long their models stay."""

    max_concurrent: int = 2
    kill_after_task: bool = True
    """The model goes with its worker; otherwise it stays until Wilson ends, or the profile changes."""


class Resources(Struct, frozen=True, kw_only=True):
    """Memory, in units of 2**20 bytes."""

    max_memory_mb: int
    warn_threshold_mb: int
    reserve_mb: int | None = None
    """Kept free of what the machine has available; none means that Wilson works it out."""


class Profile(Struct, frozen=True, kw_only=True):
    """Everything that the configuration says, after all layers are merged."""

    name: str
    endpoints: tuple[Endpoint, ...] = ()
    llms: Mapping[Purpose, ModelChoice] = field(default_factory=dict)
    workers: WorkerLimits = field(default_factory=WorkerLimits)
    resources: Resources
    policy: SchedulingPolicy = SchedulingPolicy.AUTO
    permissions: PermissionMode = PermissionMode.ASK
    agents: Mapping[str, Agent] = field(default_factory=lambda: BUILT_IN)
    patience: Patience = field(default_factory=Patience)

    @property
    def is_demo(self) -> bool:
        """Its chat is played from a script."""
        chat = self.llms.get(Purpose.CHAT)
        return chat is not None and chat.provider is ProviderKind.SCRIPTED

    def choice(self, purpose: Purpose) -> ModelChoice:
        """The model for ``purpose``, or for the purpose that stands in for it.

        Raises:
            ConfigError: no model is configured for either.
        """
        wanted: Purpose | None = purpose
        while wanted is not None:
            if wanted in self.llms:
                return self.llms[wanted]
            wanted = STANDS_IN.get(wanted)
        raise ConfigError((f"no model is configured for {purpose}; set llms.{purpose}.model",))

    def endpoints_for(self, choice: ModelChoice) -> tuple[Endpoint, ...]:
        """Where a model may be served, in the order in which to ask.

        Raises:
            ConfigError: no endpoint speaks the provider's protocol.
        """
        fitting = tuple(
            endpoint
            for endpoint in self.endpoints
            if endpoint.provider is choice.provider and choice.endpoint in (None, endpoint.name)
        )
        if not fitting:
            named = f" named {choice.endpoint}" if choice.endpoint else ""
            wanted = f"llms.{choice.purpose} uses the provider {choice.provider}"
            raise ConfigError((f"{wanted}, but no endpoint{named} has it; add one to endpoints",))
        return fitting

    def spec(self, choice: ModelChoice, endpoint: Endpoint, most_context: int | None) -> ModelSpec:
        """The one way in which this profile asks ``endpoint`` for the model, whatever the purpose.

        ``most_context`` is what the model was trained for, as far as known.
        """
        same = [
            other for other in self.llms.values() if other.model == choice.model and other.provider is choice.provider
        ]
        wanted = max((other.num_ctx for other in same), default=choice.num_ctx)
        stays = any(other.keep_alive for other in same) or not self.workers.kill_after_task
        threads = [other.threads for other in same if other.threads is not None]
        return ModelSpec(
            endpoint=endpoint.name,
            name=choice.model,
            context=min(wanted, most_context) if most_context else wanted,
            resident=any(other.keep_alive for other in same),
            linger=float("inf") if stays else max((other.idle_timeout for other in same), default=0.0),
            threads=max(threads) if threads else None,
        )

    def purposes_of(self, model: str) -> tuple[str, ...]:
        """What the profile wants ``model`` for."""
        return tuple(purpose.value for purpose in Purpose if purpose in self.llms and self.llms[purpose].model == model)
