"""Headers of model files: whole, cut anywhere, damaged anyhow."""

import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.providers.talk import drawn
from wilson.domain.errors import LoadFailed, ModelMissing
from wilson.providers.gguf import GgufHeader, read_header

SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
U32, STRING, ARRAY = 4, 8, 9

Written = Callable[[bytes], Path]


def text(value: str) -> bytes:
    data = value.encode()
    return struct.pack("<Q", len(data)) + data


def array(kind: int, count: int, items: bytes) -> bytes:
    return struct.pack("<IQ", kind, count) + items


def header(entries: Mapping[str, tuple[int, bytes]], *, count: int | None = None, version: int = 3) -> bytes:
    """A file that is all header; ``count`` is the number of keys that it claims to have."""
    body = b"".join(text(key) + struct.pack("<I", kind) + value for key, (kind, value) in entries.items())
    return b"GGUF" + struct.pack("<IQQ", version, 0, len(entries) if count is None else count) + body


def number(value: int) -> tuple[int, bytes]:
    return U32, struct.pack("<I", value)


LLAMA: dict[str, tuple[int, bytes]] = {
    "general.architecture": (STRING, text("llama")),
    "general.size_label": (STRING, text("14B")),
    "llama.context_length": number(32768),
    "llama.block_count": number(2),
    "llama.embedding_length": number(64),
    "llama.feed_forward_length": number(128),
    "llama.attention.head_count": number(4),
    "llama.attention.head_count_kv": (ARRAY, array(U32, 2, struct.pack("<II", 2, 1))),
    "tokenizer.ggml.tokens": (ARRAY, array(STRING, 3, text("a") + text("ü") + text(""))),
    "tokenizer.chat_template": (STRING, text("{% if tools %}{% endif %}")),
}


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Written:
    """A file of these bytes, until the next one is written."""
    path = tmp_path_factory.mktemp("gguf") / "model.gguf"

    def write(data: bytes) -> Path:
        path.write_bytes(data)
        return path

    return write


def outcome(path: Path) -> str:
    """How reading a damaged file went; any other error than ours comes out as it is."""
    try:
        read_header(path)
    except LoadFailed as failed:
        return "refused with its name" if str(path) in str(failed) else str(failed)
    return "read"


def test_a_header_is_read(written: Written) -> None:
    path = written(header(LLAMA))

    assert read_header(path) == GgufHeader(
        path,
        {
            "general.architecture": "llama",
            "general.size_label": "14B",
            "llama.context_length": 32768,
            "llama.block_count": 2,
            "llama.embedding_length": 64,
            "llama.feed_forward_length": 128,
            "llama.attention.head_count": 4,
            "llama.attention.head_count_kv": [2, 1],
            "tokenizer.ggml.tokens": ["a", "ü", ""],
            "tokenizer.chat_template": "{% if tools %}{% endif %}",
        },
        path.stat().st_size,
    )


def test_a_header_tells_what_people_ask(written: Written) -> None:
    found = read_header(written(header(LLAMA)))

    assert (found.trained_context, found.calls_tools, found.parameters) == (32768, True, "14B")
    assert found.of_model("block_count") == 2
    assert found.of_model("nothing", 7) == 7


def test_an_empty_header_tells_nothing(written: Written) -> None:
    found = read_header(written(header({})))

    assert (found.metadata, found.trained_context, found.calls_tools, found.parameters) == ({}, None, False, "")


def test_the_tiny_model_is_read(model_file: Callable[[str], Path]) -> None:
    path = model_file("tiny")
    found = read_header(path)

    assert (found.trained_context, found.calls_tools, found.size) == (8192, True, path.stat().st_size)
    assert found.metadata["tokenizer.ggml.tokens"] > 400


@pytest.mark.parametrize(("kind", "code"), SCALARS.items())
def test_every_kind_of_number_is_read(written: Written, kind: int, code: str) -> None:
    value = True if code == "?" else 7
    packed = struct.pack("<" + code, value)
    entries = {"one": (kind, packed), "few": (ARRAY, array(kind, 3, packed * 3)), "after": number(9)}

    assert read_header(written(header(entries))).metadata == {"one": value, "few": [value] * 3, "after": 9}


@pytest.mark.parametrize("kind", [*SCALARS, STRING])
def test_a_long_list_is_counted_and_passed_over(written: Written, kind: int) -> None:
    one = text("token") if kind == STRING else bytes(struct.calcsize("<" + SCALARS[kind]))
    entries = {"many": (ARRAY, array(kind, 300, one * 300)), "after": number(9)}

    assert read_header(written(header(entries))).metadata == {"many": 300, "after": 9}


@drawn
@given(st.dictionaries(st.text(max_size=10), st.text(max_size=10) | st.integers(0, 2**32 - 1), max_size=5))
def test_whatever_is_written_is_read(written: Written, metadata: dict[str, Any]) -> None:
    entries = {
        key: (STRING, text(value)) if isinstance(value, str) else number(value) for key, value in metadata.items()
    }

    assert read_header(written(header(entries))).metadata == metadata


def test_a_header_cut_anywhere_is_a_failed_load(written: Written) -> None:
    whole = header(LLAMA)

    assert {outcome(written(whole[:length])) for length in range(len(whole))} == {"refused with its name"}


@drawn
@given(st.lists(st.tuples(st.integers(0, len(header(LLAMA)) - 1), st.integers(0, 255)), min_size=1, max_size=4))
def test_a_damaged_header_is_read_or_is_a_failed_load(written: Written, damage: list[tuple[int, int]]) -> None:
    damaged = bytearray(header(LLAMA))
    for place, byte in damage:
        damaged[place] = byte

    assert outcome(written(bytes(damaged))) in {"read", "refused with its name"}


@drawn
@given(st.binary(max_size=300))
def test_noise_after_the_first_word_is_read_or_is_a_failed_load(written: Written, noise: bytes) -> None:
    path = written(b"GGUF" + struct.pack("<I", 3) + noise)

    assert outcome(path) in {"read", "refused with its name"}


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "cannot be read as a model: cannot mmap an empty file"),
        (b"hello world", "is no GGUF file; it begins with b'hell'"),
        (b"FUGG" + bytes(40), "is no GGUF file; it begins with b'FUGG'"),
        (header(LLAMA, version=1), "is a GGUF file of version 1; this Wilson reads 2 and 3"),
        (header(LLAMA, version=4), "is a GGUF file of version 4; this Wilson reads 2 and 3"),
        (header({"k": (13, b"")}), "has a value of the unknown type 13 in its header"),
        (header({"k": (ARRAY, array(ARRAY, 1, bytes(12)))}), "has a list of lists in its header; it is damaged"),
        (header({"k": (ARRAY, array(99, 1, bytes(12)))}), "has a value of the unknown type 99 in its header"),
        (header(LLAMA, count=len(LLAMA) + 1), "ends inside its header; is the download complete?"),
    ],
    ids=["empty", "text", "other", "version 1", "version 4", "type 13", "lists", "list of type 99", "short"],
)
def test_a_file_that_is_none_says_why(written: Written, data: bytes, reason: str) -> None:
    path = written(data)

    with pytest.raises(LoadFailed) as failed:
        read_header(path)

    assert str(failed.value) == f"{path} {reason}"


@pytest.mark.parametrize(
    "data",
    [
        header({}, count=2**63),
        header({}, count=10_001),
        b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + struct.pack("<Q", 2**63),
        header({"k": (STRING, struct.pack("<Q", 2**64 - 1))}),
        header({"k": (ARRAY, array(U32, 2**62, b""))}),
        header({"k": (ARRAY, array(STRING, 2**62, text("a") * 50))}),
        header({"k": (ARRAY, array(STRING, 200, text("a") * 50))}),
        header({"k": (ARRAY, array(0, 2**64 - 1, b""))}),
    ],
    ids=["keys", "a few keys too many", "key", "text", "numbers", "many texts", "few texts", "bytes"],
)
@pytest.mark.timeout(5)
def test_a_hostile_count_is_a_failed_load_at_once(written: Written, data: bytes) -> None:
    with pytest.raises(LoadFailed):
        read_header(written(data))


def test_a_missing_file_is_a_missing_model(tmp_path: Path) -> None:
    path = tmp_path / "absent.gguf"

    with pytest.raises(ModelMissing) as missing:
        read_header(path)

    assert str(missing.value) == f"there is no model file {path}"


def test_a_folder_is_a_failed_load(tmp_path: Path) -> None:
    with pytest.raises(LoadFailed, match=f"{tmp_path} cannot be read as a model"):
        read_header(tmp_path)


def test_the_parts_of_a_split_model_are_counted_together(tmp_path: Path) -> None:
    first = tmp_path / "model-00001-of-00002.gguf"
    first.write_bytes(header(LLAMA))
    first.with_name("model-00002-of-00002.gguf").write_bytes(bytes(1000))

    assert read_header(first).size == len(header(LLAMA)) + 1000


def test_a_missing_part_is_named(tmp_path: Path) -> None:
    first = tmp_path / "model-00001-of-00002.gguf"
    first.write_bytes(header(LLAMA))

    with pytest.raises(ModelMissing, match=r"model-00002-of-00002\.gguf"):
        read_header(first)


def test_memory_is_weights_and_cache_and_scratch_and_vocabulary(written: Written) -> None:
    found = read_header(written(header(LLAMA)))

    # Two layers with three key-value heads of 16 + 16 in 16 bits; 160 bytes for each of three tokens; 38 MB for the
    # process, and scratch for a batch of 512.
    cache = 8192 * 3 * (16 + 16) * 2
    scratch = 512 * (4 * (5 * 64 + 3 * 128) + 2 * 8192)
    assert found.memory_mb(8192) == (found.size + cache + scratch + 160 * 3) // (1 << 20) + 38


def test_memory_follows_the_lengths_of_keys_and_values_where_they_are_told(written: Written) -> None:
    told = {**LLAMA, "llama.attention.key_length": number(128), "llama.attention.value_length": number(64)}
    found = read_header(written(header(told)))

    cache = 8192 * 3 * (128 + 64) * 2
    scratch = 512 * (4 * (5 * 64 + 3 * 128) + 2 * 8192)
    assert found.memory_mb(8192) == (found.size + cache + scratch + 160 * 3) // (1 << 20) + 38


def test_an_empty_header_takes_a_process_and_its_scratch(written: Written) -> None:
    assert read_header(written(header({}))).memory_mb(8192) == 38 + 512 * 2 * 8192 // (1 << 20)
