"""Lines come out the same, however the network has cut them."""

import tracemalloc
from collections.abc import Iterable
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.providers.talk import drawn
from wilson.domain.errors import BadReply
from wilson.providers.lines import LONGEST_LINE, LineReader

PIECES = st.sampled_from(["a", "ü", "世", "🙂", "\n", "\r\n", "\r", "\u2028", "\x85", "\v", "\x00", " ", '{"x": 1}'])
TEXTS = st.lists(PIECES, max_size=30).map("".join)


def read(chunks: Iterable[bytes]) -> list[str]:
    reader = LineReader()
    lines = [line for chunk in chunks for line in reader.feed(chunk)]
    return [*lines, *reader.end()]


def cut(data: bytes, places: Iterable[int]) -> list[bytes]:
    """The data in chunks that begin at these places; an empty one where two are the same."""
    edges = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[start:end] for start, end in pairwise(edges)]


@drawn
@given(TEXTS, st.lists(st.integers(0, 200), max_size=20))
def test_any_chunking_of_any_text_gives_the_same_lines(text: str, places: list[int]) -> None:
    *whole, rest = text.split("\n")
    expected = [line.removesuffix("\r") for line in whole] + ([rest.removesuffix("\r")] if rest else [])

    assert read(cut(text.encode(), places)) == expected


@drawn
@given(st.binary(max_size=200), st.lists(st.integers(0, 200), max_size=20))
def test_any_chunking_of_any_bytes_gives_the_same_lines(data: bytes, places: list[int]) -> None:
    assert read(cut(data, places)) == read([data])


@drawn
@given(st.binary(max_size=200))
def test_every_line_is_valid_text_without_a_line_feed(data: bytes) -> None:
    for line in read([data]):
        assert "\n" not in line
        assert line.encode().decode() == line


def test_a_line_ends_at_line_feeds_only() -> None:
    assert read(["a\u2028b\u2029c\x85d\ve\ff\n".encode()]) == ["a\u2028b\u2029c\x85d\ve\ff"]


def test_an_empty_stream_has_no_lines() -> None:
    assert read([]) == []
    assert read([b""]) == []


def test_the_end_gives_out_what_is_left_only_once() -> None:
    reader = LineReader()
    reader.feed(b"rest")

    assert (reader.end(), reader.end()) == (["rest"], [])


def test_a_line_of_eight_megabytes_is_read() -> None:
    line = b"x" * LONGEST_LINE

    assert read([line, b"\n"]) == [line.decode()]


@pytest.mark.parametrize("size", [1 << 20, 1 << 14, LONGEST_LINE + 1])
def test_a_longer_line_is_refused(size: int) -> None:
    reader = LineReader()
    chunk = b"x" * size
    fed = 0

    def flood() -> None:
        nonlocal fed
        while fed < 64 << 20:
            fed += size
            reader.feed(chunk)

    with pytest.raises(BadReply, match="a line of more than 8 MB"):
        flood()
    assert fed <= LONGEST_LINE + size


def test_many_lines_may_be_more_than_eight_megabytes_together() -> None:
    reader = LineReader()
    line = b"x" * (1 << 20) + b"\n"

    assert sum(len(reader.feed(line)) for _ in range(20)) == 20


def test_a_flood_takes_no_more_memory_than_a_few_longest_lines() -> None:
    reader = LineReader()
    chunk = b"x" * (1 << 16)

    def flood() -> None:
        while True:
            reader.feed(bytes(chunk))

    tracemalloc.start()
    try:
        with pytest.raises(BadReply):
            flood()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 32 << 20
