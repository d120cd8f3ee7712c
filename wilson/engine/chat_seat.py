"""The chat seat: the front door's lease on the chat model, taken once and held until the end."""

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack

from wilson.domain.event import ChatSeated
from wilson.domain.model import Purpose
from wilson.domain.profile import Profile
from wilson.domain.value import Struct
from wilson.engine.bus import Emit
from wilson.engine.chat import ChatModel
from wilson.engine.endpoints import Endpoints
from wilson.engine.model_pool import ModelPool


class _Held(Struct, frozen=True):
    model: ChatModel
    profile: Profile
    stack: AsyncExitStack


class ChatSeat:
    """Taken when the chat model is first needed; given up when Wilson ends, or the profile wants another model."""

    def __init__(self, endpoints: Endpoints, pool: ModelPool, profile: Callable[[], Profile], emit: Emit) -> None:
        self._endpoints = endpoints
        self._pool = pool
        self._profile = profile
        self._emit = emit
        self._door = asyncio.Lock()
        self._held: _Held | None = None

    @property
    def taken(self) -> bool:
        return self._held is not None

    async def model(self) -> ChatModel:
        """The chat model of the profile in force, loaded.

        Raises:
            ProviderError: it could not be found or loaded.
        """
        async with self._door:
            profile = self._profile()
            if self._held is not None and self._held.profile is profile and not self._held.model.lease.lost:
                return self._held.model
            choice = profile.choice(Purpose.CHAT)
            found = await self._endpoints.find(profile, choice)
            if self._held is not None:
                held = self._held.model.lease
                if held.spec == found.spec and not held.lost:
                    model = ChatModel(held, found.facts, choice)
                    self._held = _Held(model, profile, self._held.stack)
                    return model
                # The old model leaves before the new one comes: there may not be room for both.
                await self._give_up()
            self._emit(ChatSeated(model=found.spec.name, endpoint=found.spec.endpoint))
            async with AsyncExitStack() as stack:
                lease = await stack.enter_async_context(self._pool.lease(found.provider, found.spec))
                model = ChatModel(lease, found.facts, choice)
                self._held = _Held(model, profile, stack.pop_all())
            return model

    async def give_up(self) -> None:
        """Let the chat model go; it is taken anew when it is next needed."""
        async with self._door:
            await self._give_up()

    async def _give_up(self) -> None:
        if self._held is not None:
            held, self._held = self._held, None
            held.model.lease.dismiss()
            await held.stack.aclose()

    async def leave(self) -> None:
        """Wilson ends: let go, and leave it to the pool how the model takes its leave."""
        async with self._door:
            if self._held is not None:
                held, self._held = self._held, None
                await held.stack.aclose()
