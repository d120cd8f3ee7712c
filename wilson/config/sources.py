"""Where settings come from: files, the environment and flags, each read and checked by itself."""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from wilson.config.folders import Folders
from wilson.config.keys import KEYS, PROJECT_KEYS, scalar_paths
from wilson.config.script_file import shown
from wilson.config.yaml_file import Document, read, scalar
from wilson.domain.errors import ConfigError
from wilson.domain.schema import Schema, key_path, nearest
from wilson.domain.value import Struct, field

NOT_SETTINGS: Final = frozenset({"WILSON_HOME", "WILSON_DEBUG"})
"""Variables of Wilson's own that set no key."""
_FLAG_NAMES: Final = {"profile": "--profile", "permissions.mode": "--permissions"}


class Sources(Struct, frozen=True, kw_only=True):
    """Where to look for settings."""

    folders: Folders
    environ: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))
    config: Path | None = None
    """A file that takes the place of the user's ``config.yaml``."""
    workspace: Path = field(default_factory=Path.cwd)
    flags: Mapping[str, str] = field(default_factory=dict)
    """Key path to value, from the command line: ``{"profile": "demo"}``."""

    @property
    def user_config(self) -> Path:
        return self.config or self.folders.user_config


class Found(Struct):
    """What the sources hold; a layer with problems is left out."""

    user: Document | None = None
    project: Document | None = None
    variables: list[Document] = field(default_factory=list)
    flags: list[Document] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    """Things to know that are no problem."""


def read_sources(sources: Sources) -> Found:
    """Everything except the built-in defaults and the profile."""
    found = Found()
    if sources.config is not None or sources.user_config.exists():
        found.user = _checked(sources.user_config, KEYS, found)
    found.project = _project(sources, found)
    for variable, path in _variables(sources.environ, found):
        _keep(found.variables, _single(variable, path, sources.environ[variable]), found)
    for path, text in sources.flags.items():
        _keep(found.flags, _single(_FLAG_NAMES.get(path, path), path, text), found)
    return found


def anchored(path: Path) -> Document:
    """A file of settings whose relative file names are made absolute: they are meant from where the file stands.

    Raises:
        ConfigError: it cannot be read.
    """
    document = read(path, shown(path))
    folder = path.parent
    match document.value:
        case {"endpoints": [*entries]}:
            _anchor(entries, "script", folder)
    match document.value:
        case {"agents": {**agents}}:
            _anchor(agents.values(), "prompt", folder)
    match document.value:
        case {"llms": {**llms}}:
            _anchor(llms.values(), "model", folder, only_if_there=True)
    match document.value:
        case {"trusted_folders": [*names]}:
            document.value["trusted_folders"] = [_absolute(name, folder) for name in names]
    return document


def _anchor(entries: Iterable[Any], key: str, folder: Path, *, only_if_there: bool = False) -> None:
    for entry in entries:
        if isinstance(entry, dict) and key in entry:
            file = _absolute(entry[key], folder)
            # A model may also be named without its folder; then it is looked for where Wilson keeps models.
            if not only_if_there or (isinstance(file, str) and _is_file(file)):
                entry[key] = file


def _absolute(name: Any, folder: Path) -> Any:
    """The name of a file from its folder; what is no file name is left for the schema to refuse."""
    try:
        return str(folder.absolute() / Path(name).expanduser())
    except (TypeError, ValueError, RuntimeError):  # RuntimeError: ``~somebody`` who is nobody here.
        return name


def _is_file(name: str) -> bool:
    try:
        return Path(name).is_file()
    except (OSError, ValueError):
        return False


def _checked(path: Path, keys: Schema, found: Found) -> Document | None:
    try:
        document = anchored(path)
    except ConfigError as error:
        found.problems += error.problems
        return None
    wrong = document.problems(keys)
    found.problems += wrong
    return None if wrong else document


def _project(sources: Sources, found: Found) -> Document | None:
    path = sources.workspace / ".wilson" / "config.yaml"
    if not path.is_file():
        return None
    trusted = found.user.value.get("trusted_folders", []) if found.user else []
    here = sources.workspace.resolve()
    if here not in {Path(folder).resolve() for folder in trusted}:
        found.remarks.append(f"{path} is not read: the folder is not in trusted_folders of {sources.user_config}")
        return None
    return _checked(path, PROJECT_KEYS, found)


def _variables(environ: Mapping[str, str], found: Found) -> list[tuple[str, str]]:
    """``WILSON_WORKERS_MAX_CONCURRENT`` as ``workers.max_concurrent``, and so on for every single value."""
    paths = {f"WILSON_{'_'.join(map(str, path))}".upper(): key_path(path) for path in scalar_paths()}
    known = []
    for variable in environ:
        if not variable.startswith("WILSON_") or variable in NOT_SETTINGS:
            continue
        if path := paths.get(variable.replace("__", "_")):
            known.append((variable, path))
        else:
            close = nearest(variable, tuple(paths))
            hint = f"; did you mean {close}?" if close else ""
            found.remarks.append(f"the environment variable {variable} is no setting and was ignored{hint}")
    # A provider forgets the model of lower layers, but not the one that stands beside it.
    return sorted(known, key=lambda one: (not one[1].endswith(".provider"), one))


def _single(name: str, path: str, text: str) -> Document:
    """One value from outside the files, as a document."""
    keys = path.split(".")
    wanted: Any = KEYS
    for key in keys:
        wanted = wanted["properties"][key]
    value: Any = text if wanted.get("type") == "string" else scalar(text)
    for key in reversed(keys):
        value = {key: value}
    return Document(name, value)


def _keep(kept: list[Document], document: Document, found: Found) -> None:
    if wrong := document.problems(KEYS):
        found.problems += wrong
    else:
        kept.append(document)
