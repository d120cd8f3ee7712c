"""The floor plan of the house: imports go down only, and each package from outside has its rooms."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

FLOORS = ["domain", "config providers store workspace", "engine", "assistant", "tui headless", "cli", "__main__"]
KEYS = {
    "domain": {"msgspec"},
    "config": {"yaml", "platformdirs"},
    "providers": {"httpx", "psutil"},
    "store": {"aiosqlite"},
    "tui": {"textual", "rich"},
    "headless": {"rich"},
}
FLOOR = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms.split()}
WINDOWS = {"tui", "headless"}
LOCKED = {"asyncio"} | set().union(*KEYS.values())
# These are started as programs of their own, and import nothing of the house.
OUTSIDE = {Path("wilson/providers/llamacpp_child.py")}


def imported(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        match node:
            case ast.Import(names):
                yield from (alias.name for alias in names)
            case ast.ImportFrom(module="wilson", names=names):
                yield from (f"wilson.{alias.name}" for alias in names)
            case ast.ImportFrom(module=str(module), level=0):
                yield module
            case ast.ImportFrom():
                pytest.fail(f"{path}:{node.lineno} is relative; name the room in full")


@pytest.mark.parametrize("path", sorted(Path("wilson").rglob("*.py")), ids=str)
def test_every_line_knows_its_room(path: Path) -> None:
    room = path.relative_to("wilson").parts[0].removesuffix(".py")
    for name in imported(path):
        package, _, rest = name.partition(".")
        if package == "wilson" and rest:
            other = rest.partition(".")[0]
            if other == "__version__":
                continue
            assert path not in OUTSIDE, f"{path} imports the house"
            assert other == room or FLOOR[other] < FLOOR[room], f"{room} looks up to {other}"
            assert room not in WINDOWS or other in {room, "assistant", "domain"}, f"{room} leans out to {other}"
            assert FLOOR[room] != 1 or other in {room, "domain"}, f"{room} looks over the fence to {other}"
        elif package in LOCKED:
            allowed = KEYS.get(room, set()) | ({"asyncio"} if FLOOR[room] else set())
            assert package in allowed, f"{room} has no key to {package}"


def test_the_top_level_is_as_agreed() -> None:
    agreed = {"pyproject.toml", "wilson", "profiles", "tests", "config.yaml", "README.md", "LICENSE", "CHANGELOG.md"}
    made_by_tools = {"dist", "build"}
    found = {path.name for path in Path().iterdir() if not path.name.startswith(".")}
    assert found - made_by_tools == agreed
