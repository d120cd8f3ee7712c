"""Every key that a configuration may have, as one JSON Schema."""

from collections.abc import Iterator
from typing import Any, Final

from wilson.domain.model import ProviderKind, Purpose, ToolMode
from wilson.domain.profile import PermissionMode, SchedulingPolicy
from wilson.domain.schema import Path, Schema

_PRINTABLE: Final = r"^[^\x00-\x1f\x7f]*$"


def _text(description: str, /, **more: Any) -> dict[str, Any]:
    return {"type": "string", "minLength": 1, "pattern": _PRINTABLE, "description": description, **more}


def _count(description: str, minimum: int = 0, **more: Any) -> dict[str, Any]:
    return {"type": "integer", "minimum": minimum, "description": description, **more}


def _seconds(description: str) -> dict[str, Any]:
    return {"type": "number", "minimum": 0, "description": f"{description}, in seconds"}


def _words(names: Any, description: str) -> dict[str, Any]:
    return {"enum": [str(name.value) for name in names], "description": description}


def _yes_no(description: str) -> dict[str, Any]:
    return {"type": "boolean", "description": description}


def _group(description: str, /, **properties: Schema) -> dict[str, Any]:
    return {"type": "object", "description": description, "additionalProperties": False, "properties": properties}


_ENDPOINT = _group(
    "A place where models are served",
    name=_text("How it is called in messages and in llms.*.endpoint"),
    provider=_words(ProviderKind, "The protocol it speaks"),
    url=_text(
        "Its base address", pattern=r"^https?://[^\s/]+$|^https?://[^\s/]+/\S*$", pattern_in_words="http://HOST:PORT"
    ),
    max_memory_mb=_count("Memory that its models may take"),
    api_key_env=_text("The environment variable that holds its key"),
    script=_text("The file that a scripted endpoint plays, relative to this one"),
    command=_text("The llama-server that a llamacpp endpoint runs; otherwise the extra 'local', or the one on PATH"),
) | {"required": ["name", "provider"]}

_LLM = _group(
    "The model for one purpose; what is left out comes from the layer below, or from the purpose that stands in",
    provider=_words(ProviderKind, "The protocol; changing it forgets the model, endpoint and fallback of lower layers"),
    model=_text("The model's name at the server; for llamacpp the path of a GGUF file"),
    endpoint=_text("Only this endpoint; otherwise the first healthy one that has the model"),
    temperature={"type": "number", "minimum": 0, "maximum": 2, "description": "How freely words are chosen"},
    keep_alive=_yes_no("The model stays loaded until Wilson ends"),
    idle_timeout=_seconds("How long the model stays loaded after its last use"),
    num_ctx=_count("Tokens of context; capped at what the model was trained for", 256),
    max_tokens=_count("The longest reply, in tokens", 1),
    fallback=_text("The model to take when this one is missing or does not fit"),
    tools=_words(ToolMode, "How the model is brought to call tools"),
    threads=_count("Processor threads of a model that Wilson runs itself", 1),
)

_AGENT = _group(
    "An agent of your own, or changes to a built-in one",
    purpose=_words(Purpose, "Whose model it uses"),
    prompt=_text("A file with its instructions, relative to this one"),
    writes_files=_yes_no("Its answers are files"),
    tools={"type": "array", "items": _text("A tool's name"), "maxItems": 8, "description": "What it may use"},
)

KEYS: Final[Schema] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "title": "Wilson's configuration",
    **_group(
        "config.yaml, and profiles",
        description=_text("One line about a profile"),
        sealed=_yes_no("The endpoints, llms and agents of config.yaml do not apply to this profile"),
        profile=_text("The machine profile: lowend, midrange, highend, cloud, demo, or a file of your own"),
        trusted_folders={
            "type": "array",
            "items": _text("A folder"),
            "description": "Folders whose .wilson/config.yaml is read; only in the user's own config.yaml",
        },
        endpoints={"type": "array", "items": _ENDPOINT, "description": "Where models are served, best first"},
        llms=_group("Purpose to model", **{purpose.value: _LLM for purpose in Purpose}),
        workers=_group(
            "Background workers",
            max_concurrent=_count("How many may work at once", 1, maximum=64),
            spawn_mode={"enum": ["on_demand"], "description": "Workers exist only while they have a task"},
            kill_after_task=_yes_no("A worker's model is unloaded with it"),
            preload_models={"enum": [False], "description": "Only the chat model is loaded at the start"},
        ),
        resources=_group(
            "Memory in MB (2**20 bytes)",
            max_memory_mb=_count("What all models together may take"),
            warn_threshold_mb=_count("From where on there is a warning"),
            reserve_mb={
                "anyOf": [{"enum": ["auto"]}, {"type": "integer", "minimum": 0}],
                "description": "Kept free of what the machine has available; 0 is off",
            },
        ),
        scheduling=_group("The order of tasks", policy=_words(SchedulingPolicy, "How the next task is chosen")),
        permissions=_group("What workers may do", mode=_words(PermissionMode, "Unasked, that is")),
        agents={"type": "object", "additionalProperties": _AGENT, "description": "Agents by name"},
        timeouts=_group(
            "How long each kind of silence is borne",
            probe_s=_seconds("Asking whether an endpoint is there"),
            connect_s=_seconds("Connecting"),
            load_s=_seconds("Loading a model"),
            first_token_s=_seconds("Reading a prompt"),
            between_tokens_s=_seconds("Between two pieces of a reply"),
            unload_s=_seconds("Unloading a model"),
        ),
    ),
}

_PROJECT_LLM = ("model", "temperature", "num_ctx", "max_tokens")
PROJECT_KEYS: Final[Schema] = _group(
    "A trusted folder's .wilson/config.yaml: nothing that runs code, changes endpoints or widens permissions",
    llms=_group(
        "Purpose to model",
        **{purpose.value: _group("", **{key: _LLM["properties"][key] for key in _PROJECT_LLM}) for purpose in Purpose},
    ),
    workers=_group("Background workers", max_concurrent=KEYS["properties"]["workers"]["properties"]["max_concurrent"]),
    scheduling=KEYS["properties"]["scheduling"],
    permissions=_group("Only narrower", mode={"enum": [PermissionMode.ASK.value, PermissionMode.PLAN.value]}),
)


def scalar_paths(schema: Schema = KEYS, path: Path = ()) -> Iterator[Path]:
    """The paths of all single values, which are also what an environment variable can set."""
    for key, inner in schema.get("properties", {}).items():
        if "properties" in inner:
            yield from scalar_paths(inner, (*path, key))
        elif inner.get("type") not in {"array", "object"}:
            yield (*path, key)
