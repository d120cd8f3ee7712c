"""Thoughts between tags are told apart from the answer, wherever the text is cut."""

from collections.abc import Iterable
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.providers.talk import drawn, joined
from wilson.domain.chat import Chunk, TextPiece, ThoughtPiece
from wilson.providers.thoughts import ThoughtSplitter

# Line feeds after the closing tag are in test_reported.py.
PIECES = st.sampled_from(["<think>", "</think>", "<th", "ink>", "</", "think", ">", "<", "a", "ü", " ", "\t"])
TEXTS = st.lists(PIECES, max_size=12).map("".join)


def split(pieces: Iterable[str]) -> list[Chunk]:
    splitter = ThoughtSplitter()
    found = [chunk for piece in pieces for chunk in splitter.feed(piece)]
    return joined([*found, *splitter.end()])


def cut(text: str, places: Iterable[int]) -> list[str]:
    edges = [0, *sorted(place % (len(text) + 1) for place in places), len(text)]
    return [text[start:end] for start, end in pairwise(edges)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        ("Hello.", [TextPiece("Hello.")]),
        ("<think>Hm.</think>Yes.", [ThoughtPiece("Hm."), TextPiece("Yes.")]),
        ("\n <think>Hm.</think>Yes.", [ThoughtPiece("Hm."), TextPiece("Yes.")]),
        ("<think>Hm.</think>\n\nYes.", [ThoughtPiece("Hm."), TextPiece("Yes.")]),
        ("<think></think>Yes.", [TextPiece("Yes.")]),
        ("<think>\n\n</think>\n\nYes.", [ThoughtPiece("\n\n"), TextPiece("Yes.")]),
        ("<think>never closed", [ThoughtPiece("never closed")]),
        ("<think>almost closed</thin", [ThoughtPiece("almost closed</thin")]),
        ("<think>", []),
        ("<thin", [TextPiece("<thin")]),
        ("  ", [TextPiece("  ")]),
        ("  Hello.", [TextPiece("  Hello.")]),
        ("<thinking>aloud</thinking>", [TextPiece("<thinking>aloud</thinking>")]),
        ("A tag: <think>x</think>", [TextPiece("A tag: <think>x</think>")]),
        ("<think>a<think>b</think>c", [ThoughtPiece("a<think>b"), TextPiece("c")]),
        ("<think>a</think>b<think>c</think>", [ThoughtPiece("a"), TextPiece("b<think>c</think>")]),
        ("</think>Yes.", [TextPiece("</think>Yes.")]),
    ],
)
def test_only_thoughts_at_the_very_beginning_count(text: str, expected: list[Chunk]) -> None:
    assert split([text]) == expected


@drawn
@given(TEXTS, st.lists(st.integers(0, 60), max_size=12))
def test_any_chunking_gives_the_same_thoughts_and_the_same_answer(text: str, places: list[int]) -> None:
    assert split(cut(text, places)) == split([text])


@drawn
@given(TEXTS)
def test_nothing_is_lost_but_the_tags_and_the_space_around_them(text: str) -> None:
    said = "".join(chunk.text for chunk in split(text) if isinstance(chunk, (TextPiece, ThoughtPiece)))

    begun = text.lstrip()
    expected = begun.removeprefix("<think>").replace("</think>", "", 1) if begun.startswith("<think>") else text
    assert said == expected


@drawn
@given(TEXTS)
def test_no_piece_is_empty(text: str) -> None:
    splitter = ThoughtSplitter()
    pieces = [piece for letter in text for piece in splitter.feed(letter)]

    assert [piece for piece in [*pieces, *splitter.end()] if not piece.text] == []


def test_an_answer_is_passed_on_at_once() -> None:
    splitter = ThoughtSplitter()

    assert splitter.feed("Yes") == [TextPiece("Yes")]
    assert splitter.feed(" <") == [TextPiece(" <")]


def test_a_thought_is_passed_on_while_it_grows() -> None:
    splitter = ThoughtSplitter()

    assert splitter.feed("<think>a long thought so far") == [ThoughtPiece("a long though")]
