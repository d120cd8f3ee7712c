"""From a tree of values to a profile: what the schema cannot say is checked here."""

import ipaddress
from collections.abc import Mapping
from typing import Any

from wilson.config.layers import Merged
from wilson.domain.agent import BUILT_IN, Agent
from wilson.domain.errors import ConfigError
from wilson.domain.model import Endpoint, ModelChoice, Patience, ProviderKind, Purpose, ToolMode
from wilson.domain.profile import STANDS_IN, PermissionMode, Profile, Resources, SchedulingPolicy, WorkerLimits
from wilson.domain.schema import strays

_IN_ORDER = (Purpose.CHAT, Purpose.PLANNING, Purpose.ORCHESTRATION, Purpose.ANALYSIS, Purpose.CODE, Purpose.VISION)
"""Whoever stands in comes before those it stands in for."""


def profile_of(name: str, merged: Merged, keys: Mapping[str, Any], environ: Mapping[str, str]) -> Profile:
    """The profile that the merged layers describe.

    Raises:
        ConfigError: they contradict each other, or something is missing.
    """
    tree = merged.tree
    if wrong := strays(tree, keys):
        raise ConfigError(tuple(map(str, wrong)))
    return Profile(
        name=name,
        endpoints=_endpoints(merged, environ),
        llms=_llms(merged),
        workers=WorkerLimits(**{key: tree["workers"][key] for key in ("max_concurrent", "kill_after_task")}),
        resources=_resources(tree["resources"]),
        policy=SchedulingPolicy(tree["scheduling"]["policy"]),
        permissions=PermissionMode(tree["permissions"]["mode"]),
        agents=_agents(merged),
        patience=Patience(**tree.get("timeouts", {})),
    )


def _resources(said: Mapping[str, Any]) -> Resources:
    most, warn, reserve = said["max_memory_mb"], said["warn_threshold_mb"], said.get("reserve_mb", "auto")
    return Resources(
        max_memory_mb=most,
        # A limit that was lowered by itself takes its warning with it, at the share that every profile has.
        warn_threshold_mb=warn if warn <= most else most * 7 // 8,
        reserve_mb=None if reserve == "auto" else reserve,
    )


def _endpoints(merged: Merged, environ: Mapping[str, str]) -> tuple[Endpoint, ...]:
    """Those of the files, and those that need no mention."""
    found: list[Endpoint] = []
    for index, entry in enumerate(merged.tree.get("endpoints", [])):
        at = f"{merged.origins['endpoints',].inside(index)}: endpoints[{index}]"
        provider = ProviderKind(entry["provider"])
        endpoint = Endpoint(**{**entry, "provider": provider, "url": entry.get("url", "").rstrip("/")})
        if endpoint.name in {other.name for other in found}:
            raise ConfigError((f"{at}.name: there are two endpoints called {endpoint.name!r}",))
        match provider:
            case ProviderKind.OLLAMA | ProviderKind.OPENAI if not endpoint.url:
                raise ConfigError((f"{at}: the key 'url' is missing; a server needs an address",))
            case ProviderKind.SCRIPTED if not endpoint.script:
                raise ConfigError((f"{at}: the key 'script' is missing; a scripted endpoint plays a file",))
        found.append(endpoint)
    spoken = {endpoint.provider for endpoint in found}
    if ProviderKind.OLLAMA not in spoken:
        url = ollama_url(environ.get("OLLAMA_HOST", ""))
        found.append(Endpoint(name=_free("local", found), provider=ProviderKind.OLLAMA, url=url))
    if ProviderKind.LLAMACPP not in spoken:
        found.append(Endpoint(name=_free("llamacpp", found), provider=ProviderKind.LLAMACPP))
    return tuple(found)


def _free(name: str, taken: list[Endpoint]) -> str:
    return name if name not in {endpoint.name for endpoint in taken} else f"{name}-default"


def ollama_url(host: str) -> str:
    """``OLLAMA_HOST`` as Ollama's own client reads it (``envconfig.Host``), except that an address on which a server
    listens everywhere is not one to connect to: 0.0.0.0 and :: become the loopback address."""
    said = host.strip().strip("\"'")
    scheme, separator, rest = said.partition("://")
    if not separator:
        scheme, rest = "http", said
    default = {"https": "443", "http": "80"}[scheme] if separator and scheme in {"http", "https"} else "11434"
    address, _, path = rest.partition("/")
    name, colon, port = address.rpartition(":")
    if not colon or "]" in port or (":" in name and not name.endswith("]")):
        name, port = address, default  # No port: a plain name, or an IPv6 address with or without brackets.
    if not (port.isascii() and port.isdigit() and int(port) <= 65535):
        port = default
    path = path.strip("/")
    return f"{scheme}://{_reachable(name.strip('[]'))}:{port}" + (f"/{path}" if path else "")


def _reachable(name: str) -> str:
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return name or "127.0.0.1"
    if address.is_unspecified:
        return "127.0.0.1" if address.version == 4 else "[::1]"
    return name if address.version == 4 else f"[{name}]"


def _llms(merged: Merged) -> dict[Purpose, ModelChoice]:
    """Every purpose that says anything, completed from the purpose that stands in for it."""
    tree = merged.tree.get("llms", {})
    found: dict[Purpose, ModelChoice] = {}
    for purpose in _IN_ORDER:
        if purpose.value not in tree:
            continue
        said = {**_inherited(tree[purpose.value], _stand_in(purpose, found)), **tree[purpose.value]}
        for key in ("provider", "model"):
            if key not in said:
                raise ConfigError((
                    f"{merged.place('llms', purpose.value, key)}llms.{purpose}: the key {key!r} is missing",
                ))
        said |= {"provider": ProviderKind(said["provider"]), "tools": ToolMode(said.get("tools", ToolMode.AUTO))}
        found[purpose] = ModelChoice(purpose=purpose, **{"temperature": 0.7, **said})
    if Purpose.CHAT not in found:
        raise ConfigError(("llms.chat: no chat model is configured; set llms.chat.provider and llms.chat.model",))
    return found


def _stand_in(purpose: Purpose, found: Mapping[Purpose, ModelChoice]) -> ModelChoice | None:
    other = STANDS_IN.get(purpose)
    while other is not None and other not in found:
        other = STANDS_IN.get(other)
    return found[other] if other is not None else None


def _inherited(said: Mapping[str, Any], stand_in: ModelChoice | None) -> dict[str, Any]:
    """What a purpose takes over: everything about the model, or with another model only where it is served."""
    if stand_in is None or "provider" in said:
        return {}
    if "model" in said:
        return {"provider": stand_in.provider, "endpoint": stand_in.endpoint}
    own = {"purpose", "temperature"}
    return {key: getattr(stand_in, key) for key in stand_in.__struct_fields__ if key not in own}


def _agents(merged: Merged) -> dict[str, Agent]:
    found = dict(BUILT_IN)
    for name, said in merged.tree.get("agents", {}).items():
        known = found.get(name)
        if known is None and "purpose" not in said:
            place = merged.place("agents", name, "purpose")
            raise ConfigError((f"{place}agents.{name}: the key 'purpose' is missing; a new agent needs one",))
        found[name] = Agent(
            name=name,
            purpose=Purpose(said["purpose"]) if "purpose" in said else found[name].purpose,
            writes_files=said.get("writes_files", known.writes_files if known else False),
            prompt_file=said.get("prompt", known.prompt_file if known else None),
            tools=tuple(said.get("tools", known.tools if known else ())),
        )
    return found
