"""The model pool: who may speak with which loaded model, and when a model has to leave.

A lease is a block. The first lease of a model loads it, the last one to be left unloads it, unless the model is to
linger. Every loaded model has a keeper, a coroutine that owns its life from load to unload; holders come and go, and
may be cancelled anywhere, without ever leaving a load or an unload half done.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from types import TracebackType
from typing import Self

from wilson.domain.chat import ChatRequest, Chunk
from wilson.domain.errors import ProviderError
from wilson.domain.event import ModelLoaded, ModelLoading, ModelMeasured, ModelUnloaded, ModelUnloading, Warned
from wilson.domain.model import LoadedModel, ModelSpec
from wilson.engine.bus import Emit
from wilson.engine.waiting import Pulse, see_through
from wilson.providers.base import Provider


class ModelLease:
    """The right to speak with a loaded model, for the length of a block."""

    def __init__(self, seat: "_Seat") -> None:
        self._seat = seat

    @property
    def spec(self) -> ModelSpec:
        return self._seat.spec

    @property
    def lost(self) -> bool:
        """The model is no longer in memory, although nobody here sent it away."""
        return self._seat.lost

    def chat(self, request: ChatRequest) -> AbstractAsyncContextManager[AsyncIterator[Chunk]]:
        """A reply as it grows; see :meth:`Provider.chat`."""
        return self._seat.provider.chat(self.spec, request)

    def dismiss(self) -> None:
        """The model is not to linger once everybody has left it."""
        self._seat.dismissed = True


class _Seat:
    """A model, and those who hold it."""

    def __init__(self, provider: Provider, spec: ModelSpec) -> None:
        self.provider = provider
        self.spec = spec
        self.holders = 0
        self.ready: asyncio.Future[None] = _future()
        """Done when the model answers, or could not be loaded."""
        self.gone = False
        self.lost = False
        self.dismissed = False
        self.memory_mb: int | None = None
        self.pulse = Pulse()

    @property
    def lingers(self) -> bool:
        return self.spec.linger > 0 and not self.dismissed and not self.lost


class ModelPool:
    """All leases of this program."""

    def __init__(self, emit: Emit, *, sample_s: float = 1.0) -> None:
        self._emit = emit
        self._sample_s = sample_s
        self._seats: dict[tuple[str, str], _Seat] = {}
        self._keepers: set[asyncio.Task[None]] = set()
        self._sampler: asyncio.Task[None] | None = None
        self._closing = False

    async def __aenter__(self) -> Self:
        self._sampler = asyncio.create_task(self._sample(), name="memory of loaded models")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await see_through(self._close())

    @asynccontextmanager
    async def lease(self, provider: Provider, spec: ModelSpec) -> AsyncIterator[ModelLease]:
        """Speak with a model; it is loaded on entering and unloaded on leaving, unless others hold it.

        Leaving waits until the model is gone, so that whoever comes next finds the memory free.

        Raises:
            ProviderError: the model could not be loaded.
        """
        seat = self._seats.get(spec.seat)
        if seat is None or seat.lost:
            seat = self._seats[spec.seat] = _Seat(provider, spec)
            keeper = asyncio.create_task(self._keep(seat), name=f"keeper of {spec.label}")
            self._keepers.add(keeper)
            keeper.add_done_callback(self._keepers.discard)
        seat.holders += 1
        seat.pulse.beat()
        try:
            # Shielded: a holder that goes away must not take the others' load with it.
            await asyncio.shield(seat.ready)
            yield ModelLease(seat)
        finally:
            seat.holders -= 1
            seat.pulse.beat()
            await seat.pulse.until(lambda: seat.gone or seat.holders > 0 or seat.lingers)

    def census(self) -> dict[tuple[str, str], int]:
        """How many hold each model that is loaded, or on its way in or out."""
        return {key: seat.holders for key, seat in self._seats.items()}

    def dismiss_idle(self) -> None:
        """Models that nobody holds stop lingering."""
        for seat in self._seats.values():
            if not seat.holders:
                seat.dismissed = True
                seat.pulse.beat()

    async def _keep(self, seat: _Seat) -> None:
        try:
            while seat.holders:
                seat.dismissed = False
                if await self._load(seat):
                    await self._until_unwanted(seat)
                await self._unload(seat)
        except ProviderError as error:
            # Those who come later may have better luck, so they get a seat of their own.
            self._forget(seat)
            seat.ready.set_exception(error)
            seat.ready.exception()  # Holders may all have gone; then nobody else looks at it.
        finally:
            self._forget(seat)
            seat.gone = True
            seat.pulse.beat()

    def _forget(self, seat: _Seat) -> None:
        if self._seats.get(seat.spec.seat) is seat:
            del self._seats[seat.spec.seat]

    async def _load(self, seat: _Seat) -> bool:
        """Whether the model answers; if not, everybody who wanted it has gone.

        Raises:
            ProviderError: it could not be loaded.
        """
        endpoint, model = seat.spec.seat
        began = asyncio.get_running_loop().time()
        progress = self._progress(seat) if seat.provider.manages_memory else _nothing
        progress(None)
        load = asyncio.create_task(seat.provider.load(seat.spec, progress), name=f"load of {seat.spec.label}")
        unwanted = asyncio.create_task(seat.pulse.until(lambda: not seat.holders), name=f"wish for {seat.spec.label}")
        try:
            await asyncio.wait({load, unwanted}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            unwanted.cancel()
            load.cancel()
            await see_through(_ended(load))
        if load.cancelled():
            return False
        try:
            load.result()
            seat.memory_mb = await self._measured(seat)
        except ProviderError:
            if seat.provider.manages_memory:
                self._emit(ModelUnloaded(endpoint=endpoint, model=model, seconds=0.0))
            raise
        seconds = asyncio.get_running_loop().time() - began
        self._emit(ModelLoaded(endpoint=endpoint, model=model, memory_mb=seat.memory_mb, seconds=seconds))
        seat.ready.set_result(None)
        return True

    async def _until_unwanted(self, seat: _Seat) -> None:
        while True:
            await seat.pulse.until(lambda: not seat.holders or self._closing)
            if seat.lingers and not self._closing:
                linger = None if seat.spec.linger == float("inf") else seat.spec.linger
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(linger):
                        await seat.pulse.until(lambda: seat.holders > 0 or not seat.lingers or self._closing)
            if not seat.holders or self._closing:
                return

    async def _unload(self, seat: _Seat) -> None:
        endpoint, model = seat.spec.seat
        began = asyncio.get_running_loop().time()
        # Whoever comes while the model leaves waits for the next load.
        if seat.ready.done():
            seat.ready = _future()
        replaced = self._seats.get(seat.spec.seat) is not seat
        if not seat.provider.manages_memory or replaced:
            return
        if not seat.lost:
            self._emit(ModelUnloading(endpoint=endpoint, model=model))
        try:
            if self._closing and seat.spec.resident:
                await seat.provider.release(seat.spec)
            else:
                await seat.provider.unload(seat.spec)
        except ProviderError as error:
            self._emit(Warned(text=str(error)))
            return
        if not seat.lost:
            seconds = asyncio.get_running_loop().time() - began
            self._emit(ModelUnloaded(endpoint=endpoint, model=model, seconds=seconds))

    def _progress(self, seat: _Seat) -> Callable[[float | None], None]:
        endpoint, model = seat.spec.seat
        return lambda fraction: self._emit(ModelLoading(endpoint=endpoint, model=model, fraction=fraction))

    async def _measured(self, seat: _Seat) -> int | None:
        for model in await seat.provider.loaded():
            if same_model(model, seat.spec):
                return model.memory_mb
        return None

    async def _sample(self) -> None:
        """Once in a while, ask what the loaded models really take, and whether they are still there."""
        while True:
            await asyncio.sleep(self._sample_s)
            awake = [seat for seat in self._seats.values() if seat.ready.done() and seat.provider.manages_memory]
            for provider in {id(seat.provider): seat.provider for seat in awake}.values():
                try:
                    there = await provider.loaded()
                except ProviderError:
                    continue  # Whoever speaks with the model next will be told why.
                for seat in awake:
                    if seat.provider is provider:
                        self._compare(seat, there)

    def _compare(self, seat: _Seat, there: tuple[LoadedModel, ...]) -> None:
        endpoint, name = seat.spec.seat
        if not seat.ready.done() or seat.ready.exception() or seat.lost:
            return  # It has begun to leave since the question was asked.
        found = next((model for model in there if same_model(model, seat.spec)), None)
        if found is None:
            seat.lost = True
            seat.pulse.beat()
            self._emit(ModelUnloaded(endpoint=endpoint, model=name, seconds=0.0))
            self._emit(Warned(text=f"{seat.spec.label} has left memory at {endpoint}, and nobody here sent it away"))
        elif found.memory_mb != seat.memory_mb:
            seat.memory_mb = found.memory_mb
            self._emit(ModelMeasured(endpoint=endpoint, model=name, memory_mb=found.memory_mb))

    async def _close(self) -> None:
        self._closing = True
        for seat in tuple(self._seats.values()):
            seat.pulse.beat()
        if self._keepers:
            await asyncio.wait(self._keepers)
        if self._sampler is not None:
            self._sampler.cancel()
            await asyncio.wait({self._sampler})


def same_model(model: LoadedModel, spec: ModelSpec) -> bool:
    """Servers add ``:latest`` to a name without a tag."""
    return model.name.removesuffix(":latest") == spec.name.removesuffix(":latest")


def _nothing(fraction: float | None) -> None:
    """Nobody is told of a load that is none."""


def _future() -> asyncio.Future[None]:
    return asyncio.get_running_loop().create_future()


async def _ended(task: asyncio.Task[None]) -> None:
    await asyncio.wait({task})
