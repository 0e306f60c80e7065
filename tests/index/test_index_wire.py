"""What one process says to the other arrives as it was said, however it is cut on the way."""

from __future__ import annotations

from array import array

import pytest
from hypothesis import given
from hypothesis import strategies as st

from knowledge_system.domain.errors import Busy, DependencyUnavailable, KnowledgeError, UsageError
from knowledge_system.domain.index import IndexFilter, IndexHit, IndexPoint, IndexQuery
from knowledge_system.storage.index_wire import (
    Frames,
    Kind,
    Message,
    error_message,
    error_of,
    frame,
    hits_message,
    hits_of,
    points_message,
    points_of,
    queries_message,
    queries_of,
)

WORDS = st.text(st.characters(codec=None), max_size=20)
NAMES = st.lists(WORDS, max_size=3).map(tuple)
TIMES = st.none() | st.floats(allow_nan=False)
VECTORS = st.none() | st.lists(st.floats(width=32, allow_nan=False), max_size=5).map(lambda some: array("f", some))
FILTERS = st.builds(IndexFilter, NAMES, NAMES, NAMES, NAMES, NAMES, NAMES, TIMES, TIMES)
QUERIES = st.builds(IndexQuery, st.integers(0, 1000), VECTORS, WORDS, FILTERS)
FACTS = st.dictionaries(WORDS, WORDS | st.booleans() | st.floats(allow_nan=False), max_size=4)
POINTS = st.builds(IndexPoint, WORDS, st.integers(0, 70_000), WORDS, VECTORS, WORDS, FACTS)
HITS = st.builds(IndexHit, WORDS, st.integers(0, 70_000), WORDS, st.floats(allow_nan=False))


def sent(*messages: Message, cuts: int = 1) -> list[Message]:
    """Return what arrives of messages that travel in pieces of `cuts` bytes."""
    heard: list[Message] = []
    frames = Frames(heard.append, lambda: None)
    travelling = b"".join(map(frame, messages))
    for start in range(0, len(travelling), cuts):
        frames.data_received(travelling[start : start + cuts])
    return heard


@given(st.lists(QUERIES, max_size=4), st.integers(1, 200))
def test_queries_arrive(queries: list[IndexQuery], cuts: int) -> None:
    (message,) = sent(queries_message(7, queries), cuts=cuts)
    assert (message.request, message.kind) == (7, Kind.QUERY)
    assert queries_of(message) == queries


@given(st.lists(POINTS, max_size=4), st.lists(WORDS, max_size=3), st.integers(1, 200))
def test_points_arrive(points: list[IndexPoint], dropped: list[str], cuts: int) -> None:
    (message,) = sent(points_message(2**31, Kind.APPLY, points, dropped), cuts=cuts)
    assert message.request == 2**31
    assert points_of(message) == (dropped, points)


@given(st.lists(st.lists(HITS, max_size=5), max_size=3), st.integers(1, 200))
def test_hits_arrive(answers: list[list[IndexHit]], cuts: int) -> None:
    first, second = sent(hits_message(1, answers), hits_message(2, answers[::-1]), cuts=cuts)
    assert hits_of(first) == answers
    assert hits_of(second) == answers[::-1]


@pytest.mark.parametrize("kind", [UsageError, Busy, DependencyUnavailable, KnowledgeError])
def test_errors_keep_their_class(kind: type[KnowledgeError]) -> None:
    (message,) = sent(error_message(1, kind("what \udcff happened", hint="what to do")))
    error = error_of(message)
    assert (type(error), error.message, error.hint) == (kind, "what \udcff happened", "what to do")
