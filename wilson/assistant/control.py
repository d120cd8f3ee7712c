"""The control socket: one Wilson owns the store, every other one asks it.

A Unix socket that only its user can open. Each line is a JSON object: ``{"id": 1, "verb": "task", "args": {...}}`` is
answered by ``{"id": 1, "ok": ...}`` or ``{"id": 1, "error": {"kind": ..., "text": ...}}``, in whatever order the
answers come; after the verb ``events``, lines of the form ``{"event": {...}}`` follow until the connection ends.
"""

import asyncio
import hashlib
import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from wilson.domain.errors import StoreError

LONGEST_LINE: Final = 64 << 20
_LONGEST_PATH: Final = 100
"""Bytes of a socket's path; systems allow 104 to 108."""


async def write_line(writer: asyncio.StreamWriter, value: Mapping[str, Any]) -> None:
    writer.write(json.dumps(value, ensure_ascii=False).encode() + b"\n")
    await writer.drain()


def socket_path(folder: Path) -> Path:
    """In Wilson's folder, unless its name is too long for a socket; then in a private folder of a short name."""
    path = folder / "wilson.sock"
    if len(os.fsencode(path)) <= _LONGEST_PATH:
        return path
    name = hashlib.sha256(os.fsencode(folder)).hexdigest()[:16]
    private = Path(tempfile.gettempdir()) / f"wilson-{os.getuid()}-{name}"
    private.mkdir(mode=0o700, exist_ok=True)
    known = private.lstat()
    if known.st_uid != os.getuid() or known.st_mode & 0o077:
        raise StoreError(f"{private} belongs to somebody else; set WILSON_HOME to a folder with a shorter name")
    return private / "wilson.sock"
