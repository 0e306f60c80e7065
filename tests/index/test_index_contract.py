"""What every implementation of `VectorIndex` and `IndexMaintenance` must do."""

from __future__ import annotations

import asyncio
from array import array
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from tests.index.samples import SPACE, as_vector, axis, make_points, stream

from knowledge_system.domain.errors import DependencyUnavailable, UsageError
from knowledge_system.domain.index import IndexFilter, IndexPoint, IndexQuery

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from knowledge_system.storage.edge import EdgeIndex
    from knowledge_system.storage.index_supervised import SupervisedIndex
    from knowledge_system.testing.index import MemoryIndex

    Index = MemoryIndex | EdgeIndex | SupervisedIndex


def point(owner: str, number: int = 0, words: str = "", **payload: str | float) -> IndexPoint:
    return IndexPoint(owner, 0, "whole", axis(number), words, payload)


async def found(index: Index, query: IndexQuery) -> list[str]:
    (hits,) = await index.query([query])
    return [hit.owner_id for hit in hits]


async def test_an_empty_index_answers_every_query_with_nothing(index: Index) -> None:
    assert await index.query([IndexQuery(5, vector=axis(0)), IndexQuery(5, words="anything")]) == [[], []]
    assert await index.query([]) == []
    assert await index.owners() == []


async def test_the_nearest_vector_comes_first_with_its_cosine(index: Index) -> None:
    near = as_vector([0.8, 0.6, *[0.0] * 14])
    await index.apply([IndexPoint("near", 3, "window", near), point("far", 1), point("same", 0)])
    (hits,) = await index.query([IndexQuery(3, vector=axis(0))])
    assert [(hit.owner_id, hit.ordinal, hit.view) for hit in hits] == [
        ("same", 0, "whole"),
        ("near", 3, "window"),
        ("far", 0, "whole"),
    ]
    assert [hit.score for hit in hits] == pytest.approx([1.0, 0.8, 0.0], abs=1e-6)


async def test_owners_of_any_shape_are_found_together(index: Index) -> None:
    exchange, item = f"x{'01' * 12}", f"k{'fe' * 12}"
    odd = IndexPoint(item, 2, "whole", as_vector([0.6, 0.8, *[0.0] * 14]))
    usual = IndexPoint(exchange, 7, "window", as_vector([0.8, 0.6, *[0.0] * 14]))
    await index.apply([point(exchange, 0), usual, odd, point("short", 1)])
    (hits,) = await index.query([IndexQuery(9, vector=axis(0))])
    assert [(hit.owner_id, hit.ordinal, hit.view) for hit in hits] == [
        (exchange, 0, "whole"),
        (exchange, 7, "window"),
        (item, 2, "whole"),
        ("short", 0, "whole"),
    ]
    assert [hit.score for hit in hits] == pytest.approx([1.0, 0.8, 0.6, 0.0], abs=1e-6)


async def test_limit_bounds_the_answer(index: Index) -> None:
    await index.apply(make_points(20))
    assert len(await found(index, IndexQuery(7, vector=axis(0)))) == 7
    assert await found(index, IndexQuery(0, vector=axis(0))) == []


async def test_rare_words_beat_frequent_ones(index: Index) -> None:
    texts = {"a": "the cache is slow", "b": "the cache is stale", "c": "the parser is slow", "d": "cache cache cache"}
    await index.apply([point(owner, words=text) for owner, text in texts.items()])
    assert (await found(index, IndexQuery(4, words="stale cache")))[0] == "b"
    assert await found(index, IndexQuery(4, words="parser")) == ["c"]
    assert await found(index, IndexQuery(4, words="zebra")) == []


async def test_word_scores_are_positive_and_descend(index: Index) -> None:
    await index.apply(make_points(30))
    (hits,) = await index.query([IndexQuery(10, words="topic3 passage")])
    scores = [hit.score for hit in hits]
    assert scores == sorted(scores, reverse=True)
    assert all(score > 0 for score in scores)


async def test_points_waiting_for_their_embedding_are_found_by_words_only(index: Index) -> None:
    await index.apply([IndexPoint("later", 0, "whole", None, "waiting words"), point("now", 1)])
    assert await found(index, IndexQuery(5, words="waiting")) == ["later"]
    assert await found(index, IndexQuery(5, vector=axis(0))) == ["now"]
    await index.apply([IndexPoint("later", 0, "whole", axis(0), "waiting words")])
    assert await found(index, IndexQuery(5, vector=axis(0))) == ["later", "now"]
    status = await index.status()
    assert (status.points, status.vectors) == (2, 2)


async def test_a_point_replaces_the_whole_point_of_the_same_id(index: Index) -> None:
    await index.apply([point("a", 0, "old words", type="bug_solution")])
    await index.apply([IndexPoint("a", 0, "window", None, "new", {"type": "tool_usage"})])
    assert await found(index, IndexQuery(5, words="old")) == []
    assert await found(index, IndexQuery(5, vector=axis(0))) == []
    where = IndexFilter(types=("tool_usage",), views=("window",))
    assert await found(index, IndexQuery(5, words="new", where=where)) == ["a"]


async def test_applying_twice_is_applying_once(index: Index) -> None:
    points = make_points(10)
    await index.apply(points)
    once = await index.query([IndexQuery(10, vector=points[0].vector), IndexQuery(10, words="topic3")])
    await index.apply(points)
    assert (await index.status()).points == 10
    assert await index.query([IndexQuery(10, vector=points[0].vector), IndexQuery(10, words="topic3")]) == once


async def test_the_last_of_two_equal_ids_in_one_batch_wins(index: Index) -> None:
    await index.apply([point("a", 0), point("a", 1)])
    (hits,) = await index.query([IndexQuery(5, vector=axis(1))])
    assert [(hit.owner_id, round(hit.score, 3)) for hit in hits] == [("a", 1.0)]


async def test_dropping_owners_comes_before_the_points_of_the_same_call(index: Index) -> None:
    await index.apply(make_points(10))
    await index.apply([point("owner-000001", 2)], drop_owners=["owner-000001", "owner-000002", "nobody"])
    assert await index.owners() == [("owner-000000", 2), ("owner-000001", 1), ("owner-000003", 2), ("owner-000004", 2)]


async def test_an_owner_that_is_written_again_is_found_all_the_while(index: Index) -> None:
    points = make_points(40)
    owners = sorted({one.owner_id for one in points})
    await index.apply(points)
    counts: list[int] = []
    writing = asyncio.create_task(_write_again(index, points, owners))
    while not writing.done() or not counts:
        (hits,) = await index.query([IndexQuery(100, words="passage")])
        counts.append(len({hit.owner_id for hit in hits}))
        await asyncio.sleep(0)
    await writing
    assert set(counts) == {len(owners)}


async def _write_again(index: Index, points: list[IndexPoint], owners: list[str]) -> None:
    """Write every second time one passage per owner, and two again."""
    for number in range(20):
        await index.apply(points[:: 1 + number % 2], owners)
        assert (await index.status()).points == len(points) // (1 + number % 2)


async def test_owners_are_paged_in_order(index: Index) -> None:
    await index.apply(make_points(25))
    first = await index.owners(limit=5)
    second = await index.owners(first[-1][0], limit=5)
    rest = await index.owners(second[-1][0])
    assert [owner for owner, _ in [*first, *second, *rest]] == [f"owner-{number:06d}" for number in range(13)]
    assert rest[-1] == ("owner-000012", 1)


async def test_owners_are_up_to_date_after_a_write(index: Index) -> None:
    await index.apply([point("b")])
    assert await index.owners() == [("b", 1)]
    await index.apply([point("a")])
    assert await index.owners() == [("a", 1), ("b", 1)]


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        (IndexFilter(), {"a", "b", "c", "bare"}),
        (IndexFilter(kinds=("item",)), {"a", "b"}),
        (IndexFilter(types=("t1",)), {"a"}),
        (IndexFilter(types=("t1", "t2")), {"a", "b"}),
        (IndexFilter(projects=("p",)), {"a", "c"}),
        (IndexFilter(kinds=("item",), projects=("p",)), {"a"}),
        (IndexFilter(statuses=("active",)), {"a", "b"}),
        (IndexFilter(intents=("debugging",)), {"c"}),
        (IndexFilter(views=("whole",)), {"a", "b", "c", "bare"}),
        (IndexFilter(views=("window",)), set()),
        (IndexFilter(created_from=10.0), {"a", "b"}),
        (IndexFilter(created_to=10.0), {"a", "c"}),
        (IndexFilter(created_from=10.0, created_to=10.0), {"a"}),
        (IndexFilter(types=("nothing has it",)), set()),
    ],
)
async def test_filters_restrict_both_arms_the_same_way(index: Index, where: IndexFilter, expected: set[str]) -> None:
    await index.apply(
        [
            point("a", 0, "word", kind="item", type="t1", project="p", status="active", created=10.0),
            point("b", 0, "word", kind="item", type="t2", project="q", status="active", created=11.5),
            point("c", 0, "word", kind="exchange", project="p", intent="debugging", created=-3.0),
            point("bare", 0, "word"),
        ]
    )
    assert set(await found(index, IndexQuery(9, vector=axis(0), where=where))) == expected
    assert set(await found(index, IndexQuery(9, words="word", where=where))) == expected


async def test_a_batch_answers_in_the_order_of_its_queries(index: Index) -> None:
    points = make_points(90)
    await index.apply(points)
    queries = [IndexQuery(1, vector=sample.vector) for sample in points]
    queries[40] = IndexQuery(1, words="number40")
    queries[41] = IndexQuery(1, words="")
    answers = await index.query(queries)
    assert answers[41] == []
    found_ids = [(hits[0].owner_id, hits[0].ordinal) for hits in answers if hits]
    assert found_ids == [(sample.owner_id, sample.ordinal) for number, sample in enumerate(points) if number != 41]


async def test_equal_scores_come_in_a_fixed_order(index: Index) -> None:
    await index.apply([point("b"), point("c"), point("a")])
    assert await found(index, IndexQuery(3, vector=axis(0))) == ["a", "b", "c"]


@pytest.mark.parametrize("bad", [array("f", [1.0]), array("f", [float("nan")] * SPACE.dimension)])
async def test_a_vector_that_does_not_fit_is_refused_before_anything_is_written(
    index: Index, bad: array[float]
) -> None:
    with pytest.raises(UsageError) as caught:
        await index.apply([point("good"), replace(point("bad"), vector=bad)])
    assert caught.value.hint
    assert (await index.status()).points == 0


async def test_a_query_of_another_dimension_is_refused(index: Index) -> None:
    with pytest.raises(UsageError):
        await index.query([IndexQuery(5, vector=array("f", [1.0, 0.0]))])


async def test_rebuilding_replaces_everything(index: Index) -> None:
    await index.apply([point("stale")])
    report = await index.rebuild(stream(make_points(700)))
    assert (report.swapped, report.points) == (True, 700)
    assert len(await index.owners()) == 350
    assert await found(index, IndexQuery(1, words="number321")) == ["owner-000160"]


async def test_a_stream_that_breaks_leaves_the_old_index(index: Index) -> None:
    async def broken() -> AsyncIterator[Sequence[IndexPoint]]:
        yield make_points(10)
        raise ConnectionResetError

    await index.apply([point("kept")])
    with pytest.raises(ConnectionResetError):
        await index.rebuild(broken())
    assert await index.owners() == [("kept", 1)]


async def test_rebuilding_from_nothing_empties_the_index(index: Index) -> None:
    await index.apply(make_points(4))
    assert (await index.rebuild(stream([]))).points == 0
    assert await index.owners() == []


async def test_maintenance_of_a_sound_index_finds_nothing_to_do(index: Index) -> None:
    await index.apply(make_points(40))
    verified = await index.verify()
    assert (verified.ok, verified.points, verified.problems) == (True, 40, ())
    optimized = await index.optimize()
    assert (optimized.points, optimized.recall) == (40, 1.0)
    status = await index.status()
    assert (status.space, status.points, status.vectors, status.healthy) == (SPACE, 40, 40, True)


async def test_a_closed_index_says_so(index: Index) -> None:
    await index.close()
    await index.close()
    for call in (index.apply([]), index.query([]), index.owners(), index.status(), index.flush(), index.optimize()):
        with pytest.raises(DependencyUnavailable):
            await call
