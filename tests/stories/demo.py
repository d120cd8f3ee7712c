"""The demo, played in the window: the whole story in a few seconds, for the story test and for the README's picture.

python -m tests.stories.demo tests/stories/demo.svg
"""

import asyncio
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from tests.tui.driving import Window, window
from wilson.assistant.here import Assistant
from wilson.config.folders import Folders, shipped
from wilson.config.script_file import read_script
from wilson.config.settings import Sources, load
from wilson.domain.model import Endpoint, Patience, ProviderKind
from wilson.domain.script import Script
from wilson.providers.base import Provider
from wilson.providers.scripted import ScriptedProvider
from wilson.store.ownership import Ownership

SCRIPT = "profiles/scripts/demo.yaml"


class Pace:
    """No time passes in the demo, except that the coder writes only as many words as it is allowed to."""

    def __init__(self, script: Script) -> None:
        (coder,) = (model for model in script.models if model.name == "demo-coder:14b")
        assert coder.tokens_per_second is not None
        self._word = 1 / coder.tokens_per_second
        self._allowed = 0
        self._changed = asyncio.Condition()

    async def sleep(self, seconds: float) -> None:
        if seconds != self._word:
            await asyncio.sleep(0)
            return
        async with self._changed:
            await self._changed.wait_for(lambda: self._allowed > 0)
            self._allowed -= 1

    async def allow(self, words: int) -> None:
        async with self._changed:
            self._allowed += words
            self._changed.notify_all()


@asynccontextmanager
async def demo(root: Path, *, size: tuple[int, int] = (100, 30)) -> AsyncIterator[tuple[Window, Assistant, Pace, Path]]:
    """The shipped demo in a folder of its own, with a hand on the coder's pace."""
    folders = Folders.here({"WILSON_HOME": str(root / "home")})
    folders.make()
    workspace = root / "workspace"
    workspace.mkdir()
    settings = load(Sources(folders=folders, environ={}, workspace=workspace, flags={"profile": "demo"}))
    script = read_script(shipped() / SCRIPT)
    pace = Pace(script)

    def opened(endpoint: Endpoint, patience: Patience) -> Provider:
        played = script if endpoint.provider is ProviderKind.SCRIPTED else Script(models=(), rules=())
        return ScriptedProvider(endpoint, played, sleep=pace.sleep)

    ownership = Ownership.claim(folders.state)
    assert ownership is not None
    async with (
        Assistant.open(settings, ownership, runs_all=True, open_endpoint=opened) as assistant,
        window(assistant, size=size) as view,
    ):
        yield view, assistant, pace, workspace


async def picture() -> str:
    """The moment that the README shows, as an SVG: a worker writes, the chat goes on."""
    with tempfile.TemporaryDirectory() as folder:
        async with demo(Path(folder), size=(96, 24)) as (view, _, pace, _):
            await view.send("build a todo app")
            await view.until(lambda: any("go on talking" in text for _, text in view.said))
            await pace.allow(60)
            await view.until(lambda: "1/3 files" in view.status[-1])
            await view.send("what's 2+2?")
            await view.until(lambda: any("2 + 2" in text for _, text in view.said))
            await pace.allow(60)
            await view.until(lambda: "todo.py (2/3 files)" in view.status[-1])
            await view.send("how is it going?")
            await view.until(lambda: any("is at 60%" in text for _, text in view.said))
            await view.until(lambda: "is at 60%" in view.screen)
            return view.app.export_screenshot(title="wilson --profile demo")


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(asyncio.run(picture()), "utf-8")
