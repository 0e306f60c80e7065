"""JSON out of chat: found, validated, asked for once more."""

from __future__ import annotations

import json
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field

from knowledge_system.domain.inference import Call, FailureKind, Message, Reply, Usage
from knowledge_system.inference.structured import (
    MalformedReply,
    extract_json,
    first_problem,
    is_strict,
    parsed_json,
    repair_call,
    unsupported,
    with_data,
)


class Inner(BaseModel):
    name: str = Field(min_length=1, max_length=5)
    score: float = Field(ge=0, le=1)


class Outer(BaseModel):
    kind: Literal["fact", "rule"]
    items: list[Inner] = Field(max_length=2)
    note: str | None = None


PYDANTIC = Outer.model_json_schema()
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=15,
)


@given(JSON)
def test_bare_fenced_and_wrapped_json_is_found(value: Any) -> None:
    text = json.dumps(value)
    assert extract_json(text) == (value,)
    assert extract_json(f"<think>maybe {{}} or []</think>\n{text}") == (value,)
    assert extract_json(f"Here it is:\n```json\n{text}\n```\nAnything else?") == (value,)
    if isinstance(value, dict | list):
        assert extract_json(f"The answer is {text} as you asked.") == (value,)


@given(st.text(max_size=200))
def test_no_text_breaks_the_search(text: str) -> None:
    found = extract_json(text)
    assert found is None or json.dumps(found[0]) is not None


@pytest.mark.parametrize("text", ["", "no json here", "{", "[1, 2", "{'a': 1}", "NaN", "[" * 200_000, "{" * 200_000])
def test_what_is_no_json_is_none(text: str) -> None:
    assert extract_json(text) is None


def test_unreadable_text_is_of_no_json_type() -> None:
    assert not isinstance(parsed_json("{"), dict | list | str | int | float | bool | None)
    assert parsed_json("null") is None


@pytest.mark.parametrize(
    ("value", "where"),
    [
        ({"kind": "fact", "items": []}, ""),
        ({"kind": "fact", "items": [{"name": "a", "score": 1}], "note": None}, ""),
        ({"kind": "other", "items": []}, "$.kind"),
        ({"items": []}, "$.kind: is missing"),
        ({"kind": "fact", "items": [{"name": "", "score": 0}]}, "$.items[0].name"),
        ({"kind": "fact", "items": [{"name": "abcdef", "score": 0}]}, "$.items[0].name"),
        ({"kind": "fact", "items": [{"name": "a", "score": 2}]}, "$.items[0].score"),
        ({"kind": "fact", "items": [{"name": "a", "score": True}]}, "$.items[0].score"),
        ({"kind": "fact", "items": [{"name": "a", "score": 0}] * 3}, "$.items"),
        ({"kind": "fact", "items": [], "note": 7}, "$.note"),
        ({"kind": "fact", "items": {}}, "$.items"),
        ("fact", "$: must be object"),
    ],
)
def test_schemas_of_pydantic_are_checked(value: Any, where: str) -> None:
    problem = first_problem(value, PYDANTIC)
    assert problem.startswith(where)
    assert bool(problem) == bool(where)


@pytest.mark.parametrize(
    ("schema", "good", "bad"),
    [
        ({"type": "integer"}, [1, 2.0, -3, 10**400], [1.5, True, "1", None]),
        ({"type": ["string", "null"]}, ["a", None], [1]),
        ({"const": 1}, [1, 1.0], [True, 2]),
        ({"enum": ["a", None]}, ["a", None], ["b", False]),
        ({"exclusiveMinimum": 0, "exclusiveMaximum": 1}, [0.5], [0, 1]),
        ({"multipleOf": 0.1}, [0.3, 1], [0.35]),
        ({"pattern": "^[a-z]+$"}, ["abc"], ["a1"]),
        ({"uniqueItems": True}, [[1, 2]], [[1, 1], [{"a": 1}, {"a": 1}]]),
        ({"minItems": 1, "items": {"type": "string"}}, [["a"]], [[], [1]]),
        ({"prefixItems": [{"type": "string"}], "items": False}, [["a"]], [[1], ["a", 1]]),
        ({"minProperties": 1, "additionalProperties": {"type": "integer"}}, [{"a": 1}], [{}, {"a": "b"}]),
        ({"oneOf": [{"type": "integer"}, {"minimum": 5}]}, [1, 7.5], [7]),
        ({"allOf": [{"minimum": 1}, {"maximum": 2}]}, [1.5], [3]),
        ({"properties": {"a": True, "b": False}}, [{"a": 1}], [{"b": 1}]),
    ],
)
def test_assertions(schema: dict[str, Any], good: list[Any], bad: list[Any]) -> None:
    assert [first_problem(value, schema) for value in good] == [""] * len(good)
    assert all(first_problem(value, schema) for value in bad)
    assert not unsupported(schema)


def test_recursive_schemas_end() -> None:
    tree = {"$ref": "#/$defs/node", "$defs": {"node": {"properties": {"next": {"$ref": "#/$defs/node"}}}}}
    assert first_problem({"next": {"next": {}}}, tree) == ""
    assert "nested too deeply" in first_problem({}, {"$ref": "#"})
    assert first_problem({}, {"$ref": "#/$defs/missing"})


@given(JSON)
def test_problems_never_quote_the_answer(value: Any) -> None:
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}, "additionalProperties": False}
    problem = first_problem({"sesame": value, "a": "sesame"}, schema)
    assert problem
    assert "sesame" not in problem


@pytest.mark.parametrize("schema", [{"not": {}}, {"properties": {"a": {"if": {}}}}, {"items": {"pattern": "("}}])
def test_assertions_nobody_checks_are_named(schema: dict[str, Any]) -> None:
    assert unsupported(schema)


def test_strict_means_closed_and_complete() -> None:
    closed = {"type": "object", "properties": {"a": {}}, "required": ["a"], "additionalProperties": False}
    assert is_strict(closed)
    assert is_strict({"type": "array", "items": closed})
    assert not is_strict({**closed, "required": []})
    assert not is_strict({"type": "array", "items": {"type": "object"}})
    assert not is_strict(PYDANTIC)


CALL = Call("extract", (Message("user", "go"),), schema=PYDANTIC, idempotency_key="k")


def test_data_is_set_only_when_it_is_valid() -> None:
    good = Reply('{"kind": "rule", "items": []}', "p", "m")
    assert with_data(CALL, good).data == {"kind": "rule", "items": []}
    for finish in ("refusal", "tool"):
        assert with_data(CALL, Reply("sorry", "p", "m", finish=finish)).data is None
    assert with_data(Call("x", ()), Reply("plain", "p", "m")).data is None


@pytest.mark.parametrize("value", [0, False, "", [], None])
def test_falsy_answers_are_answers(value: Any) -> None:
    schema = {"enum": [0, False, "", [], None]}
    assert with_data(Call("x", (), schema=schema), Reply(json.dumps(value), "p", "m")).data == value


def test_a_malformed_reply_knows_what_was_said_and_billed() -> None:
    with pytest.raises(MalformedReply) as caught:
        with_data(CALL, Reply('{"kind": "sesame"}', "p", "m", Usage(5, 6)))
    error = caught.value
    assert (error.kind, error.usage, error.text) == (FailureKind.MALFORMED, Usage(5, 6), '{"kind": "sesame"}')
    assert "sesame" not in str(error)


def test_a_cut_answer_is_our_own_fault() -> None:
    with pytest.raises(MalformedReply) as caught:
        with_data(CALL, Reply('{"kind": "ru', "p", "m", finish="length"))
    assert caught.value.kind is FailureKind.BAD_REQUEST


def test_the_repair_shows_the_answer_and_what_is_wrong() -> None:
    repaired = repair_call(CALL, "x" * 100_000, "$.kind: is missing")
    first, said, complaint = repaired.messages
    assert first.content == "go"
    assert (said.role, len(said.content)) == ("assistant", 8000)
    assert "$.kind: is missing" in complaint.content
    assert '"fact"' in str(complaint.content), "the schema is told again"
    assert repaired.idempotency_key == "k:repair"
    assert repaired.schema == CALL.schema
    assert repair_call(CALL, "", "x").messages[1].content, "no provider takes an empty message"
