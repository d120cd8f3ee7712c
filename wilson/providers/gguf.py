"""GGUF files: what a header tells of a model before it is loaded.

The format is described in llama.cpp's ``ggml/docs/gguf.md``.
"""

import mmap
import re
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from wilson.domain.errors import LoadFailed, ModelMissing
from wilson.domain.value import Struct

_MIB: Final = 1 << 20
_SCALARS: Final[Mapping[int, struct.Struct]] = {
    kind: struct.Struct("<" + code)
    for kind, code in {
        0: "B",
        1: "b",
        2: "H",
        3: "h",
        4: "I",
        5: "i",
        6: "f",
        7: "?",
        10: "Q",
        11: "q",
        12: "d",
    }.items()
}
_STRING: Final = 8
_ARRAY: Final = 9
_U32: Final = struct.Struct("<I")
_U64: Final = struct.Struct("<Q")
_MOST_KEYS: Final = 10_000
_LONGEST_KEPT: Final = 256
"""Longer arrays, such as vocabularies, are counted and passed over."""


class GgufHeader(Struct, frozen=True):
    """A model file's description of itself."""

    path: Path
    metadata: Mapping[str, Any]
    """Long arrays are replaced by their length."""
    size: int
    """Bytes of all parts of the file."""

    def of_model(self, key: str, default: Any = None) -> Any:
        """A value that stands under the architecture's name, such as ``llama.context_length``."""
        return self.metadata.get(f"{self.metadata.get('general.architecture', '')}.{key}", default)

    @property
    def trained_context(self) -> int | None:
        context = self.of_model("context_length")
        return int(context) if context else None

    @property
    def calls_tools(self) -> bool:
        """Its chat template has a place for tools."""
        return "tools" in str(self.metadata.get("tokenizer.chat_template", ""))

    @property
    def parameters(self) -> str:
        return str(self.metadata.get("general.size_label", ""))

    def memory_mb(self, context: int, batch: int = 512) -> int:
        """About what a llama.cpp process takes with this model, in units of 2**20 bytes.

        Weights, a 16-bit key-value cache taken in full at load, scratch for one batch, vocabulary, and the process:
        the formula of llama.cpp's own buffer figures, which measured files met within 5 %.
        """
        layers = int(self.of_model("block_count", 0))
        width = int(self.of_model("embedding_length", 0))
        heads = _each(self.of_model("attention.head_count", 1), layers)
        kv_heads = _each(self.of_model("attention.head_count_kv", heads), layers)
        head = width // max([1, *heads])
        cell = int(self.of_model("attention.key_length", head)) + int(self.of_model("attention.value_length", head))
        forward = max(_each(self.of_model("feed_forward_length", 4 * width), 1))
        kv = context * sum(kv_heads) * cell * 2
        scratch = batch * (4 * (5 * width + 3 * forward) + 2 * context)
        tokens = self.metadata.get("tokenizer.ggml.tokens", 0)
        vocabulary = 160 * (tokens if isinstance(tokens, int) else len(tokens))
        return (self.size + kv + scratch + vocabulary) // _MIB + 38


def read_header(path: Path) -> GgufHeader:
    """The header of a GGUF file.

    Raises:
        ModelMissing: there is no such file.
        LoadFailed: it is no GGUF file, or ends inside its header.
    """
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            metadata = _Reader(data, path).metadata()
        size = sum(part.stat().st_size for part in _parts(path))
    except FileNotFoundError as error:
        raise ModelMissing(f"there is no model file {error.filename or path}") from error
    except (OSError, ValueError) as error:
        raise LoadFailed(f"{path} cannot be read as a model: {error}") from error
    return GgufHeader(path, metadata, size)


class _Reader:
    def __init__(self, data: mmap.mmap, path: Path) -> None:
        self._data = data
        self._path = path
        self._at = 0

    def metadata(self) -> dict[str, Any]:
        if self._data[:4] != b"GGUF":
            raise LoadFailed(f"{self._path} is no GGUF file; it begins with {self._data[:4]!r}")
        self._at = 4
        version = self._number(_U32)
        if version not in {2, 3}:
            raise LoadFailed(f"{self._path} is a GGUF file of version {version}; this Wilson reads 2 and 3")
        self._number(_U64)  # The tensors are llama.cpp's business.
        count = self._number(_U64)
        if count > _MOST_KEYS:
            raise LoadFailed(f"{self._path} claims {count} keys in its header; it is damaged")
        found: dict[str, Any] = {}
        for _ in range(count):
            key = self._text()
            found[key] = self._value(self._number(_U32))
        return found

    def _value(self, kind: int) -> Any:
        if kind in _SCALARS:
            return self._number(_SCALARS[kind])
        if kind == _STRING:
            return self._text()
        if kind != _ARRAY:
            raise LoadFailed(f"{self._path} has a value of the unknown type {kind} in its header")
        inner, count = self._number(_U32), self._number(_U64)
        if inner == _ARRAY:
            raise LoadFailed(f"{self._path} has a list of lists in its header; it is damaged")
        if count <= _LONGEST_KEPT:
            return [self._value(inner) for _ in range(count)]
        if inner in _SCALARS:
            self._skip(count * _SCALARS[inner].size)
        else:
            for _ in range(count):
                self._skip(self._number(_U64))
        return count

    def _number(self, shape: struct.Struct) -> Any:
        start = self._at
        self._skip(shape.size)
        return shape.unpack_from(self._data, start)[0]

    def _text(self) -> str:
        size = self._number(_U64)
        start = self._at
        self._skip(size)
        return self._data[start : self._at].decode("utf-8", "replace")

    def _skip(self, size: int) -> None:
        self._at += size
        if self._at > len(self._data):
            raise LoadFailed(f"{self._path} ends inside its header; is the download complete?")


def _each(value: Any, layers: int) -> list[int]:
    return [int(one) for one in value] if isinstance(value, list) else [int(value)] * layers


def _parts(path: Path) -> list[Path]:
    """All files of a model that is split, of which the first one is named."""
    if split := re.fullmatch(r"(.*)-00001-of-(\d{5})\.gguf", path.name):
        return [path.with_name(f"{split[1]}-{part:05}-of-{split[2]}.gguf") for part in range(1, int(split[2]) + 1)]
    return [path]
