"""Tool calls, put together from whatever pieces a server sends."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.providers.talk import ADD, drawn
from wilson.domain.chat import ToolCall
from wilson.providers.tool_calls import CallBuilder, described, tool_call

LEAVES = st.none() | st.booleans() | st.integers() | st.text(max_size=5)
VALUES = LEAVES | st.lists(LEAVES, max_size=3) | st.dictionaries(st.text(max_size=3), LEAVES, max_size=2)
OBJECTS = st.dictionaries(st.text(max_size=5), VALUES, max_size=4)


def built(*pieces: dict[str, Any]) -> tuple[ToolCall, ...]:
    builder = CallBuilder()
    for piece in pieces:
        builder.add([piece])
    return builder.whole()


def piece(index: int | None, arguments: Any = None, *, id: str | None = None, name: str | None = None) -> dict:
    """A delta as servers send it, without what it does not have."""
    function = {"name": name, "arguments": arguments}
    given = {"index": index, "id": id, "function": {key: said for key, said in function.items() if said is not None}}
    return {key: value for key, value in given.items() if value is not None}


def test_a_tool_is_described_as_a_function() -> None:
    function = {"name": "add", "description": "Adds a length.", "parameters": ADD.parameters}

    assert described([ADD]) == [{"type": "function", "function": function}]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"a": 1}, {"a": 1}),
        ('{"a": 1}', {"a": 1}),
        ("{}", {}),
        ("", {}),
        ("null", {}),
        (None, {}),
        ('{"a": 1, "a": 2}', {"a": 2}),
    ],
)
def test_arguments_come_as_an_object_or_as_its_text(arguments: Any, expected: dict[str, Any]) -> None:
    assert tool_call("id", "name", arguments) == ToolCall("id", "name", expected)


@pytest.mark.parametrize("arguments", ["[]", "1", '"text"', "true", [1], 1, True, '"{\\"a\\": 1}"'])
def test_arguments_that_are_no_object_have_a_problem(arguments: Any) -> None:
    assert tool_call("id", "name", arguments) == ToolCall("id", "name", {}, "the arguments are not an object")


@pytest.mark.parametrize(
    "arguments",
    ["{", '{"a": ', "{'a': 1}", "a=1", '{"a": 1}{"a": 1}', "[" * 100_000, '{"n": ' + "9" * 5000 + "}", "\ufeff{}"],
    ids=["open", "cut", "quotes", "prose", "twice", "deep", "huge number", "BOM"],
)
def test_arguments_that_cannot_be_read_say_why(arguments: str) -> None:
    call = tool_call("id", "name", arguments)

    assert (call.id, call.name, call.arguments) == ("id", "name", {})
    assert call.problem.startswith("the arguments are not JSON: ")


@drawn
@given(OBJECTS, st.integers(1, 7))
def test_pieces_of_one_index_are_one_call(arguments: dict[str, Any], size: int) -> None:
    text = json.dumps(arguments, ensure_ascii=False)
    parts = [piece(0, text[at : at + size]) for at in range(0, len(text), size)]

    assert built(piece(0, "", id="a", name="add"), *parts) == (ToolCall("a", "add", arguments),)


@drawn
@given(OBJECTS, OBJECTS, st.lists(st.booleans(), min_size=20))
def test_calls_that_grow_side_by_side_do_not_mix(
    first: dict[str, Any], second: dict[str, Any], turns: list[bool]
) -> None:
    grown = [[piece(index, letter) for letter in json.dumps(each)] for index, each in enumerate((first, second))]
    pieces = [piece(0, id="a", name="add"), piece(1, id="b", name="take")]
    pieces += [grown[turn].pop(0) for turn in turns if grown[turn]]

    assert built(*pieces, *grown[1], *grown[0]) == (ToolCall("a", "add", first), ToolCall("b", "take", second))


def test_a_new_id_begins_a_new_call_even_at_the_same_index() -> None:
    assert built(
        piece(0, '{"n": 1}', id="a", name="add"),
        piece(0, '{"n": 2}', id="b", name="add"),
        piece(0, '{"n"', id="c", name="take"),
        piece(0, ": 3}"),
    ) == (ToolCall("a", "add", {"n": 1}), ToolCall("b", "add", {"n": 2}), ToolCall("c", "take", {"n": 3}))


def test_an_id_that_is_repeated_with_every_piece_is_still_one_call() -> None:
    assert built(piece(0, '{"n"', id="a", name="add"), piece(0, ": 1}", id="a", name="add")) == (
        ToolCall("a", "add", {"n": 1}),
    )


def test_calls_without_an_index_are_whole() -> None:
    assert built(piece(None, '{"n": 1}', id="a", name="add"), piece(None, {"n": 2}, name="take")) == (
        ToolCall("a", "add", {"n": 1}),
        ToolCall("call-2", "take", {"n": 2}),
    )


def test_a_call_that_is_sent_twice_is_never_two_calls() -> None:
    twice = piece(0, '{"n": 1}', id="a", name="add")

    [call] = built(twice, twice)

    assert (call.id, call.name, call.arguments) == ("a", "add", {})
    assert call.problem.startswith("the arguments are not JSON: ")


def test_a_call_without_arguments_has_none() -> None:
    assert built({"index": 0, "id": "a", "function": {"name": "status"}}) == (ToolCall("a", "status", {}),)


def test_a_call_without_a_function_has_no_name() -> None:
    assert built({"index": 0, "id": "a", "function": None}) == (ToolCall("a", "", {}),)
