"""What every provider can do, whatever it speaks to."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from wilson.domain.chat import ChatRequest, Chunk
from wilson.domain.model import Endpoint, Health, LoadedModel, ModelFacts, ModelSpec

Progress = Callable[[float | None], None]
"""Told now and then how far a load has come, from 0 to 1, or none when nobody knows."""


class Provider(Protocol):
    """An adapter to one endpoint.

    Every method may raise ``Unreachable`` when nobody answers, ``AccessDenied`` when the key is wrong, ``Busy`` when
    the server turns the request away, and ``BadReply`` when it does not keep to its protocol.
    """

    endpoint: Endpoint
    manages_memory: bool
    """Models are loaded and unloaded on request; otherwise they are there or not, and ``load`` only looks."""

    async def health(self) -> Health:
        """Whether anybody is there; never raises a provider's error and never loads a model."""
        ...

    async def installed(self) -> tuple[ModelFacts, ...]:
        """The models that can be had without a download."""
        ...

    async def show(self, model: str) -> ModelFacts:
        """What is known of one model.

        Raises:
            ModelMissing: it is not installed here.
        """
        ...

    async def loaded(self) -> tuple[LoadedModel, ...]:
        """The models in memory, whoever loaded them."""
        ...

    async def load(self, spec: ModelSpec, progress: Progress) -> None:
        """Bring the model into memory; returns when it answers. Cancelling gives the load up.

        Raises:
            ModelMissing: it is not installed here.
            LoadFailed: it could not be loaded; the message has the server's reason.
        """
        ...

    async def unload(self, spec: ModelSpec) -> None:
        """Send the model out of memory; returns when it is seen to be gone, at once when it was not there.

        Raises:
            LoadFailed: it is still there after ``Patience.unload_s``.
        """
        ...

    async def release(self, spec: ModelSpec) -> None:
        """Let go of a model that was meant to stay, because Wilson ends.

        A server that others use too keeps it for as long as it does by itself; elsewhere this is ``unload``.
        """
        ...

    def chat(self, spec: ModelSpec, request: ChatRequest) -> AbstractAsyncContextManager[AsyncIterator[Chunk]]:
        """A reply as it grows; leaving the block ends the generation at the server.

        Raises:
            ContextExceeded: the prompt does not fit.
            Unsupported: the model cannot do what the request asks.
            StreamBroken: the reply ended before its end.
        """
        ...

    async def aclose(self) -> None:
        """Let go of connections and processes."""
        ...


def canonical(name: str) -> str:
    """A model's name as Ollama lists it: without a tag it is ``:latest``."""
    last = name.rpartition("/")[2]
    return name if ":" in last else f"{name}:latest"
