"""What tests of providers share: benches for the contract, models to run, and a look at what is left behind."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import psutil
import pytest

from tests.providers.benches import BENCHES, Bench, ModelFile, children
from tests.providers.spoken_models import answering_model, calling_model


@pytest.fixture
def no_process_is_left() -> Iterator[None]:
    """Whatever a test has started is gone when it ends."""
    before = set(children())
    yield
    left = [process for process in children() if process not in before]
    _, alive = psutil.wait_procs(left, timeout=1)
    for process in alive:
        process.kill()
    assert not alive, f"left behind: {alive}"


@pytest.fixture(scope="session")
def any_model(model_file: ModelFile, tmp_path_factory: pytest.TempPathFactory) -> ModelFile:
    """The files of ``model_file``, and two that say what a test wants to hear: ``answering`` and ``calling``."""
    folder = tmp_path_factory.mktemp("spoken")
    made = {
        "answering": answering_model(model_file("tiny"), folder / "answering.gguf"),
        "calling": calling_model(model_file("tiny"), folder / "calling.gguf"),
    }
    return lambda name: made.get(name) or model_file(name)


@pytest.fixture(params=list(BENCHES))
async def bench(
    request: pytest.FixtureRequest, tmp_path: Path, any_model: ModelFile, no_process_is_left: None
) -> AsyncIterator[Bench]:
    """Every provider in turn; it is closed after the test, whether or not the test has done so."""
    async with BENCHES[request.param](tmp_path, any_model) as made:
        try:
            yield made
        finally:
            async with asyncio.timeout(10):
                await made.provider.aclose()
