"""What may stand on the command line."""

import argparse
from pathlib import Path
from typing import Any

from wilson import __version__

_OUTPUTS = ("text", "json", "stream-json")
_PERMISSIONS = ("ask", "accept-edits", "auto", "plan")


def parser() -> argparse.ArgumentParser:
    everywhere = argparse.ArgumentParser(add_help=False, argument_default=argparse.SUPPRESS)
    everywhere.add_argument(
        "--profile", metavar="NAME", help="machine profile: lowend, midrange, highend, cloud, demo, or a file"
    )
    everywhere.add_argument("--config", metavar="FILE", type=Path, help="instead of your config.yaml")
    everywhere.add_argument(
        "--workspace", metavar="DIR", type=Path, help="the folder to work in (default: the current one)"
    )
    everywhere.add_argument("--permissions", choices=_PERMISSIONS, help="what workers may do unasked")
    everywhere.add_argument("--debug", action="store_true", help="show tracebacks")
    as_json = argparse.ArgumentParser(add_help=False)
    as_json.add_argument("--json", action="store_true", help="print JSON")

    top = argparse.ArgumentParser(
        prog="wilson",
        parents=[everywhere],
        description="A terminal assistant for people who run language models on their own machines.",
        epilog="Without a command: the window.",
    )
    top.add_argument("--version", "-V", action="version", version=f"wilson {__version__}")
    top.add_argument(
        "-p", "--print", dest="prompt", metavar="PROMPT", help="one answer on stdout; piped input is context"
    )
    top.add_argument("--output", choices=_OUTPUTS, default="text", help="with -p: what stdout gets")
    top.add_argument("--wait", action="store_true", help="with -p: also wait for the tasks that the answer starts")
    top.add_argument("--max-turns", type=_positive(int), metavar="N", help="with -p: requests to the model at most")
    top.add_argument("--timeout", type=_positive(float), metavar="SECONDS", help="with -p: give up after so long")
    top.add_argument(
        "--continue", dest="resume_last", action="store_true", help="take up this folder's last conversation"
    )
    top.add_argument("--resume", metavar="ID", help="take up a conversation")
    top.add_argument("--plain", action="store_true", help="a window of plain lines, for screen readers and logs")
    commands = top.add_subparsers(dest="command", metavar="COMMAND")

    def command(within: Any, name: str, help: str, *parents: argparse.ArgumentParser) -> argparse.ArgumentParser:
        added: argparse.ArgumentParser = within.add_parser(
            name, help=help, description=help, parents=[everywhere, *parents]
        )
        return added

    task = command(commands, "task", "background tasks")
    verbs = task.add_subparsers(dest="verb", metavar="VERB", required=True)
    add = command(verbs, "add", "store a task; the window that is open runs it, or the next one", as_json)
    add.add_argument("goal", metavar="GOAL", nargs="+", help="what is to be done")
    add.add_argument("--agent", help="who does it: code, test, review, research, analysis, manager, or your own")
    add.add_argument("--type", help="research, code, test, review, analysis or general")
    add.add_argument("--priority", default="0", help="a whole number; higher goes first")
    add.add_argument("--depends-on", default="", metavar="TASK-001,…", help="tasks that must be done first")
    add.add_argument("--wait", action="store_true", help="run it here if nobody does, and print how it ended")
    command(verbs, "list", "every task", as_json)
    for verb, help in (
        ("show", "one task with its steps and its result"),
        ("cancel", "end a task wherever it stands"),
        ("accept", "write the files of a finished task into the workspace"),
        ("retry", "let a failed task run again"),
    ):
        command(verbs, verb, help, as_json).add_argument("task", metavar="TASK-001")

    command(commands, "status", "chat model, workers, memory, queue", as_json)
    command(commands, "models", "endpoints and their models", as_json)
    profile = command(commands, "profile", "machine profiles")
    verbs = profile.add_subparsers(dest="verb", metavar="VERB", required=True)
    command(verbs, "list", "every profile", as_json)
    for verb, help in (
        ("show", "what a profile says"),
        ("use", "make it yours, and switch to it if a window is open"),
        ("check", "whether a profile is sound and suits this machine"),
    ):
        command(verbs, verb, help).add_argument("name", metavar="NAME", nargs="?" if verb != "use" else None)
    config = command(commands, "config", "settings")
    verbs = config.add_subparsers(dest="verb", metavar="VERB", required=True)
    show = command(verbs, "show", "effective settings", as_json)
    show.add_argument("--origin", action="store_true", help="say where each comes from")
    command(verbs, "schema", "the JSON Schema of config.yaml and of profiles")
    return top


def _positive(kind: type[int] | type[float]) -> Any:
    def read(text: str) -> int | float:
        value = kind(text)
        if value <= 0:
            raise argparse.ArgumentTypeError("must be more than 0")
        return value

    return read
