"""argv in, an exit code out: chooses a window or a one-shot command."""

import sys
from collections.abc import Sequence

from wilson import __version__


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line, and return its exit code."""
    words = sys.argv[1:] if argv is None else list(argv)
    if words in (["--version"], ["-V"]):
        print(f"wilson {__version__}")
        return 0
    # What comes from here on takes its time to import, and the version should not.
    from wilson.cli.commands import run
    from wilson.cli.parser import parser

    return run(parser().parse_args(words))
