"""Where Wilson keeps what: settings, data, and state."""

import os
from collections.abc import Mapping
from pathlib import Path

import wilson
from wilson.domain.value import Struct


class Folders(Struct, frozen=True):
    """Wilson's own places; nobody else may look into them."""

    config: Path
    data: Path
    state: Path

    @classmethod
    def here(cls, environ: Mapping[str, str] = os.environ) -> "Folders":
        """As the environment says: ``WILSON_HOME``, otherwise the platform's habits."""
        if home := environ.get("WILSON_HOME"):
            root = Path(home).expanduser().absolute()
            return cls(root / "config", root / "data", root / "state")
        import platformdirs  # Only here: whoever names a folder need not wait for it.

        return cls(
            platformdirs.user_config_path("wilson", appauthor=False),
            platformdirs.user_data_path("wilson", appauthor=False),
            platformdirs.user_state_path("wilson", appauthor=False),
        )

    def make(self) -> None:
        for folder in (self.config, self.data, self.state):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    @property
    def user_config(self) -> Path:
        return self.config / "config.yaml"

    @property
    def profiles(self) -> Path:
        return self.config / "profiles"

    @property
    def models(self) -> Path:
        """Where GGUF files are looked for by name."""
        return self.data / "models"

    @property
    def store(self) -> Path:
        return self.data / "wilson.db"


def shipped() -> Path:
    """The folder that holds the shipped ``config.yaml`` and ``profiles/``: the package, or the checkout around it."""
    package = Path(wilson.__file__).parent
    return package if (package / "config.yaml").is_file() else package.parent
