"""Which adapter speaks to which endpoint; each is imported only when it is wanted."""

from collections.abc import Callable
from pathlib import Path

from wilson.domain.model import Endpoint, Patience, ProviderKind
from wilson.domain.script import Script
from wilson.providers.base import Provider


def open_provider(
    endpoint: Endpoint, patience: Patience, *, model_folders: tuple[Path, ...], script: Callable[[Path], Script]
) -> Provider:
    """The adapter for ``endpoint``; nothing is connected or started yet."""
    match endpoint.provider:
        case ProviderKind.OLLAMA:
            from wilson.providers.ollama import OllamaProvider

            return OllamaProvider(endpoint, patience)
        case ProviderKind.OPENAI:
            from wilson.providers.openai import OpenAIProvider

            return OpenAIProvider(endpoint, patience)
        case ProviderKind.LLAMACPP:
            from wilson.providers.llamacpp import LlamaCppProvider

            return LlamaCppProvider(endpoint, patience, folders=model_folders)
        case ProviderKind.SCRIPTED:
            from wilson.providers.scripted import ScriptedProvider

            return ScriptedProvider(endpoint, script(Path(endpoint.script or "")))
