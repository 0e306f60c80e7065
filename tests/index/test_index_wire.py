"""What one process says to the other arrives as it was said, however it is cut on the way."""

from __future__ import annotations

from array import array

import pytest
from hypothesis import given
from hypothesis import strategies as st

from knowledge_system.domain.errors import Busy, DependencyUnavailable, KnowledgeError, ModelUnavailable, UsageError
from knowledge_system.domain.index import (
    IndexFilter,
    IndexHit,
    IndexPoint,
    IndexQuery,
    PointPlace,
    place_of,
    point_id,
)
from knowledge_system.processes.wire import Frames, Message, error_message, error_of, frame
from knowledge_system.storage.index_found import FoundPoints
from knowledge_system.storage.index_wire import (
    Kind,
    found_message,
    found_of,
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
OWNERS = st.from_regex("[kx][0-9a-f]{24}", fullmatch=True)
PLACES = st.builds(PointPlace, st.text(st.characters(codec="utf-8")), st.integers(0, 70_000), WORDS) | st.builds(
    lambda owner, ordinal: PointPlace(owner, ordinal, "window" if ordinal else "whole"), OWNERS, st.integers(0, 65_535)
)
HITS = st.builds(lambda place, score: IndexHit(*place, score), PLACES, st.floats(allow_nan=False))


def found_points(hits: list[IndexHit]) -> FoundPoints:
    """Return what an engine finds for hits: the best first, places of hashed ids beside it."""
    hits = sorted(hits, key=lambda one: -one.score)
    ids = [point_id(PointPlace(*hit[:3])) for hit in hits]
    told = [(position, PointPlace(*hits[position][:3])) for position, id_ in enumerate(ids) if place_of(id_) is None]
    return FoundPoints(b"".join(one.bytes for one in ids), array("d", [hit.score for hit in hits]), told)


def in_order(hits: list[IndexHit]) -> list[IndexHit]:
    """Return hits as the index promises them."""
    return sorted(hits, key=lambda one: (-one.score, one.owner_id, one.ordinal))


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
    found = [found_points(hits) for hits in answers]
    first, second = sent(found_message(1, found), found_message(2, found[::-1]), cuts=cuts)
    assert [one.hits() for one in found_of(first)] == list(map(in_order, answers))
    assert [one.hits() for one in found_of(second)] == list(map(in_order, answers[::-1]))


@pytest.mark.parametrize("kind", [UsageError, Busy, DependencyUnavailable, ModelUnavailable, KnowledgeError])
def test_errors_keep_their_class(kind: type[KnowledgeError]) -> None:
    (message,) = sent(error_message(1, kind("what \udcff happened", hint="what to do")))
    error = error_of(message)
    assert (type(error), error.message, error.hint) == (kind, "what \udcff happened", "what to do")
