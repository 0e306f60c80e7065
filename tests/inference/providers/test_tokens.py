"""Bounds of tokens: never below what a tokenizer can make of what is sent."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from knowledge_system.domain.inference import Call, Delta, EmbedCall, Message
from knowledge_system.inference.tokens import (
    DEFAULT_MAX_OUTPUT,
    bounded,
    embed_batches,
    input_bound,
    output_bound,
    produced_bytes,
    text_bytes,
)

texts = st.text(alphabet=st.characters(codec=None), max_size=50)


def ask(*contents: str, **fields: object) -> Call:
    return Call("x", tuple(Message("user", content) for content in contents), **fields)  # type: ignore[arg-type]


@given(st.lists(texts, min_size=1, max_size=4))
def test_the_bound_covers_every_byte_of_every_message(contents: list[str]) -> None:
    sent = sum(len(content.encode("utf-8", "replace")) for content in contents)
    bound = input_bound(ask(*contents))
    assert bound is not None
    assert bound >= sent + len(contents)


def test_everything_that_is_sent_counts() -> None:
    plain = input_bound(ask("hello")) or 0
    assert (input_bound(ask("hello", schema={"type": "object"})) or 0) > plain + 1000
    assert (input_bound(ask("hello", parameters={"tools": [{"x": "y" * 500}]})) or 0) > plain + 1500
    with_calls = Call("x", (Message("assistant", "hello", {"tool_calls": [{"a": "b" * 700}]}),))
    assert (input_bound(with_calls) or 0) > plain + 700


def test_images_count_by_formula_not_by_bytes() -> None:
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 3_000_000}}
    bound = input_bound(Call("x", (Message("user", ({"type": "text", "text": "what?"}, picture)),)))
    assert bound is not None
    assert 50_000 <= bound < 60_000


def test_content_by_reference_is_bounded_by_the_context_alone() -> None:
    call = Call("x", (Message("user", ({"type": "input_audio", "input_audio": {}},)),))
    assert input_bound(call) is None
    assert input_bound(call, 4096) == 4096


@pytest.mark.parametrize(("asked", "bound"), [(None, DEFAULT_MAX_OUTPUT), (0, 1), (-3, 1), (7, 7)])
def test_output_is_always_bounded(asked: int | None, bound: int) -> None:
    assert output_bound(ask("x", max_output=asked)) == bound
    assert bounded(ask("x", max_output=asked)).max_output == bound


@given(texts)
def test_bytes_are_those_that_are_sent(text: str) -> None:
    assert text_bytes(text) == len(text.encode("utf-8", "replace"))


def test_pieces_of_a_stream_count_with_what_is_not_text() -> None:
    assert produced_bytes(Delta("käse")) == 5
    assert produced_bytes(Delta(raw={"reasoning": "x" * 100})) >= 100
    assert produced_bytes(Delta()) == 0


@given(st.lists(st.text(max_size=40), max_size=60), st.integers(1, 10), st.integers(1, 200))
def test_batches_keep_order_and_limits(contents: list[str], most_texts: int, most_tokens: int) -> None:
    call = EmbedCall("embed", tuple(contents), project="p")
    batches = embed_batches(call, most_texts=most_texts, most_tokens=most_tokens)
    assert [text for batch in batches for text in batch.texts] == contents
    for batch in batches:
        assert batch.project == "p"
        assert 1 <= len(batch.texts) <= most_texts
        assert len(batch.texts) == 1 or sum(map(text_bytes, batch.texts)) <= most_tokens
