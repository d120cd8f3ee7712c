"""The right adapter for an endpoint, and what the machine says of itself."""

from pathlib import Path

import pytest

from tests.providers.benches import children
from tests.providers.talk import PATIENT
from wilson.domain.model import Endpoint, ProviderKind
from wilson.domain.script import Script, ScriptedModel
from wilson.providers.base import canonical
from wilson.providers.llamacpp import LlamaCppProvider
from wilson.providers.machine import machine_memory
from wilson.providers.ollama import OllamaProvider
from wilson.providers.openai import OpenAIProvider
from wilson.providers.opening import open_provider
from wilson.providers.scripted import ScriptedProvider

ADAPTERS = {
    ProviderKind.OLLAMA: OllamaProvider,
    ProviderKind.OPENAI: OpenAIProvider,
    ProviderKind.LLAMACPP: LlamaCppProvider,
    ProviderKind.SCRIPTED: ScriptedProvider,
}


def no_script(path: Path) -> Script:
    return Script(models=(), rules=())


@pytest.mark.parametrize("kind", ProviderKind)
async def test_every_endpoint_has_its_adapter_which_starts_nothing(kind: ProviderKind, tmp_path: Path) -> None:
    endpoint = Endpoint(name="here", provider=kind, url="http://127.0.0.1:9")

    provider = open_provider(endpoint, PATIENT, model_folders=(tmp_path,), script=no_script)

    assert (type(provider), provider.endpoint) == (ADAPTERS[kind], endpoint)
    assert children() == []
    await provider.aclose()


async def test_a_scripted_endpoint_plays_its_file(tmp_path: Path) -> None:
    read: list[Path] = []

    def script(path: Path) -> Script:
        read.append(path)
        return Script(models=(ScriptedModel(name="coder"),), rules=())

    endpoint = Endpoint(name="here", provider=ProviderKind.SCRIPTED, script="play.yaml")
    provider = open_provider(endpoint, PATIENT, model_folders=(tmp_path,), script=script)

    assert [facts.name for facts in await provider.installed()] == ["coder"]
    assert read == [Path("play.yaml")]


@pytest.mark.parametrize(
    ("name", "full"),
    [
        ("llama3", "llama3:latest"),
        ("llama3:8b", "llama3:8b"),
        ("hf.co/someone/model", "hf.co/someone/model:latest"),
        ("registry:5000/someone/model", "registry:5000/someone/model:latest"),
        ("registry:5000/someone/model:8b", "registry:5000/someone/model:8b"),
    ],
)
def test_a_name_without_a_tag_is_the_latest(name: str, full: str) -> None:
    assert canonical(name) == full


def test_the_machine_has_memory_and_some_of_it_is_free() -> None:
    memory = machine_memory()

    assert 0 < memory.available_mb <= memory.total_mb
