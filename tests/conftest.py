"""What all tests share: folders of their own, and models that are made on the spot."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.models.made import made_model
from wilson.config.folders import Folders
from wilson.config.settings import Settings, Sources, load


@pytest.fixture(autouse=True)
def nothing_from_outside(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Neither the developer's own settings nor their servers reach a test."""
    for name in ("OLLAMA_HOST", "WILSON_PROFILE", "WILSON_DEBUG", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("WILSON_HOME", str(tmp_path / "home"))


@pytest.fixture
def folders(tmp_path: Path) -> Folders:
    found = Folders.here({"WILSON_HOME": str(tmp_path / "home")})
    found.make()
    return found


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    folder = tmp_path / "workspace"
    folder.mkdir()
    return folder


@pytest.fixture
def settings_for(folders: Folders, workspace: Path):
    """Settings from the text of a ``config.yaml``."""

    def made(text: str = "", **flags: str) -> Settings:
        folders.user_config.write_text(text, "utf-8")
        return load(Sources(folders=folders, environ={}, workspace=workspace, flags=flags))

    return made


@pytest.fixture(scope="session")
def model_file(request: pytest.FixtureRequest) -> Callable[[str], Path]:
    """A GGUF file of random weights: ``tiny`` (1 MB, ready in 60 ms), ``large`` (200 MB), ``talkative``."""
    folder = request.config.cache.mkdir("models")
    return lambda name: made_model(name, folder)
