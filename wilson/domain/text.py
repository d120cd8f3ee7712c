"""Text from models, files and servers, made harmless and short enough to show."""

import re
from typing import Final

# What a terminal would act on: C0 without tab and line feed, DEL, and C1. Whole escape sequences go first, so that
# their arguments do not stay behind as litter; what is left of a broken one loses its teeth with the ESC.
_SEQUENCE: Final = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]"  # CSI
    r"|\x1b[\]PX^_][^\x07\x1b\x9c]{0,4096}(?:\x07|\x1b\\|\x9c)"  # OSC, DCS, SOS, PM, APC
    r"|\x1b[ -/]*[0-~]"
)
_CONTROL: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def safe(text: str) -> str:
    """``text`` without anything a terminal obeys; tabs and line feeds stay, CR LF becomes LF."""
    text = text.replace("\r\n", "\n")
    if not _CONTROL.search(text):
        return text
    return _CONTROL.sub("", _SEQUENCE.sub("", text))


def one_line(text: str, limit: int = 80) -> str:
    """The words of ``text`` on one safe line of at most ``limit`` characters."""
    line = " ".join(safe(text).split())
    return line if len(line) <= limit else f"{line[: limit - 1].rstrip()}…"


def memory(mb: int | None) -> str:
    """Megabytes (2**20 bytes) as people say them: ``534MB``, ``8GB``, ``8.9GB``; ``?`` when unknown."""
    if mb is None:
        return "?"
    if mb < 1000:
        return f"{mb}MB"
    return f"{mb / 1024:.1f}".removesuffix(".0") + "GB"


def listed(names: tuple[str, ...] | list[str]) -> str:
    """Names as in a sentence: ``a``, ``a and b``, ``a, b and c``."""
    *first, last = names or ("nothing",)
    return f"{', '.join(first)} and {last}" if first else last
