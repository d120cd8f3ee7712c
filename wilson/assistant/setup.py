"""Setting up: from an address or a model file to a profile of the user's own."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from wilson.config.folders import shipped
from wilson.config.yaml_file import read
from wilson.domain.errors import ProviderError, Unreachable, UsageError
from wilson.domain.front_door import Served
from wilson.domain.model import Endpoint, Patience, ProviderKind
from wilson.providers.machine import machine_memory
from wilson.providers.opening import open_provider

OWN_PROFILE: Final = "mine"
_BY_SIZE: Final = ("cloud", "highend", "midrange", "lowend")


async def look_at(address: str, patience: Patience) -> Served:
    """Which protocol is spoken at an address, and which models there are.

    Raises:
        Unreachable: nobody answers there in a protocol that Wilson speaks.
        UsageError: somebody answers, and has no models.
    """
    url = address.strip().rstrip("/")
    url = url if "://" in url else f"http://{url}"
    failures = []
    for kind, place in (
        (ProviderKind.OLLAMA, url.removesuffix("/v1")),
        (ProviderKind.OPENAI, url),
        (ProviderKind.OPENAI, f"{url}/v1"),
    ):
        provider = open_provider(
            Endpoint(name="new", provider=kind, url=place), patience, model_folders=(), script=_no_script
        )
        try:
            if (health := await provider.health()).ok:
                names = tuple(model.name for model in await provider.installed())
                if not names:
                    raise UsageError(f"{place} answers, but has no models yet; with Ollama: ollama pull llama3.2:3b")
                return Served(kind, place, names)
            failures.append(health.detail)
        except ProviderError as error:
            failures.append(str(error))
        finally:
            await provider.aclose()
    raise Unreachable(failures[0])


def server_profile(served: Served, chat: str, code: str) -> Mapping[str, Any]:
    """A profile for two models of one server."""
    where = {"provider": served.provider.value, "endpoint": "mine"}
    return {
        "description": f"Models at {served.url}",
        "sealed": True,
        "endpoints": [{"name": "mine", "provider": served.provider.value, "url": served.url}],
        **_for_this_machine({**where, "model": chat}, {**where, "model": code}),
    }


def file_profile(name: str) -> Mapping[str, Any]:
    """A profile for one model file that does everything.

    Raises:
        ModelMissing, LoadFailed: there is no such file, or it is no model.
    """
    from wilson.providers.gguf import read_header

    path = Path(name).expanduser().absolute()
    read_header(path)
    model = {"provider": ProviderKind.LLAMACPP.value, "model": str(path)}
    return {
        "description": f"The model file {path.name}, run by Wilson itself",
        "sealed": True,
        **_for_this_machine(model, model),
    }


def _for_this_machine(chat: Mapping[str, Any], code: Mapping[str, Any]) -> dict[str, Any]:
    """The limits of the largest shipped profile that suits the machine."""
    total = machine_memory().total_mb
    documents = [read(shipped() / "profiles" / f"{name}.yaml").value for name in _BY_SIZE]
    fitting = [one for one in documents if one["resources"]["warn_threshold_mb"] <= total] or documents[-1:]
    return {
        "llms": {
            "chat": {**chat, "temperature": 0.7, "keep_alive": True, "num_ctx": 8192},
            "code": {**code, "temperature": 0.2, "num_ctx": 8192},
            "analysis": {"temperature": 0.3},
        },
        "workers": fitting[0]["workers"],
        "resources": fitting[0]["resources"],
    }


def _no_script(path: Path) -> Any:
    raise UsageError(f"{path} is no server")
