"""Optimising and rebuilding while the index is searched and written."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import numpy as np
import pytest
from tests.index.samples import PROJECTS, SPACE, TYPES, as_vector, clustered, facts, generations_in, make_points, stream

from knowledge_system.domain.embedding import EmbeddingSpace
from knowledge_system.domain.index import IndexFilter, IndexPoint, IndexQuery
from knowledge_system.storage.edge import EdgeIndex
from knowledge_system.storage.edge_engine import Shard, prepare
from knowledge_system.storage.edge_inspect import canary, check_contents
from knowledge_system.storage.edge_live import EdgeOptions
from knowledge_system.storage.edge_presets import INDEXING_KB, PRESETS, needs_graph, preset_for

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

WIDE = EmbeddingSpace("wide-model", 1536, "r1")
"""Few vectors of this space are enough for a graph."""


def exact(
    matrix: NDArray[np.float32], query: NDArray[np.float32], allowed: NDArray[np.bool_], top: int = 10
) -> set[int]:
    scores = np.where(allowed, matrix @ query, -2.0)
    return {int(number) for number in np.argsort(-scores)[:top]}


@pytest.mark.slow
async def test_a_graph_over_15k_vectors_keeps_recall_and_searches_go_on_meanwhile(directory: Path) -> None:
    space = EmbeddingSpace("narrow-model", 384, "r1")
    matrix = clustered(15_100, space.dimension)
    points = [
        IndexPoint(f"owner-{number:06d}", 0, "whole", as_vector(vector), f"number{number}", facts(number))
        for number, vector in enumerate(matrix)
    ]
    index = await EdgeIndex.open(directory, space)
    await index.apply(points[:15_000])
    assert (await index.status()).indexed_vectors == 0
    optimizing = asyncio.create_task(index.optimize())
    served = written = 0
    while not optimizing.done():
        number = served % 15_000
        ((hit,),) = await index.query([IndexQuery(1, vector=points[number].vector)])
        assert hit.owner_id == points[number].owner_id
        served += 1
        await asyncio.sleep(0.002)  # a client that thinks, so that the child gets its share of the processor
        if served % 20 == 0 and written < 100:
            await index.apply([points[15_000 + written]], drop_owners=[points[written].owner_id])
            written += 1
    report = await optimizing
    assert report.swapped, report.detail
    assert report.recall >= 0.99
    assert served > 100
    assert written > 5
    status = await index.status()
    assert (status.points, status.healthy) == (15_000, True)
    assert status.indexed_vectors > 14_000
    await recall_holds(index, matrix, np.arange(written, 15_000 + written))
    await index.close()


async def recall_holds(index: EdgeIndex, matrix: NDArray[np.float32], present: NDArray[np.int64]) -> None:
    rng = np.random.default_rng(4)
    classes: dict[str, tuple[IndexFilter, NDArray[np.bool_]]] = {
        "all": (IndexFilter(), np.ones(len(matrix), bool)),
        "type": (IndexFilter(types=(TYPES[1],)), np.arange(len(matrix)) % len(TYPES) == 1),
        "project": (IndexFilter(projects=(PROJECTS[2],)), np.arange(len(matrix)) % len(PROJECTS) == 2),
        "created": (IndexFilter(created_from=9000.0), np.arange(len(matrix)) >= 9000),
    }
    there = np.isin(np.arange(len(matrix)), present)
    for name, (where, allowed) in classes.items():
        right = 0
        for query in (
            clustered(40, matrix.shape[1]) + 0.3 * rng.normal(size=(40, matrix.shape[1])) / matrix.shape[1] ** 0.5
        ):
            (hits,) = await index.query([IndexQuery(10, vector=as_vector(query), where=where)])
            wanted = exact(matrix, query, allowed & there)
            right += len(wanted & {int(hit.owner_id.removeprefix("owner-")) for hit in hits})
        assert right / 400 >= 0.99, name


async def test_rebuilding_serves_the_old_index_and_keeps_what_is_written_meanwhile(directory: Path) -> None:
    index = await EdgeIndex.open(directory, SPACE)
    await index.apply(make_points(10, tag="old"))
    halfway, go_on = asyncio.Event(), asyncio.Event()

    async def slow_stream() -> AsyncIterator[Sequence[IndexPoint]]:
        yield make_points(600, tag="new")
        halfway.set()
        await go_on.wait()
        yield make_points(600, start=600, tag="new")

    rebuilding = asyncio.create_task(index.rebuild(slow_stream()))
    await halfway.wait()
    assert {hit.view for hit in (await index.query([IndexQuery(99, words="passage")]))[0]} == {"old"}
    await index.apply(make_points(2, start=5000, tag="meanwhile"), drop_owners=["owner-000001", "owner-000400"])
    go_on.set()
    report = await rebuilding
    assert (report.swapped, report.points) == (True, 1198)
    owners = dict(await index.owners(limit=10_000))
    assert owners["owner-002500"] == 2
    assert not {"owner-000001", "owner-000400"} & set(owners)
    assert (await index.verify()).ok
    await index.close()


async def test_rebuilding_a_large_index_builds_its_graph(directory: Path) -> None:
    index = await EdgeIndex.open(directory, WIDE)
    report = await index.rebuild(stream(make_points(3420, dimension=WIDE.dimension)))
    assert (report.swapped, report.points) == (True, 3420)
    assert report.recall >= 0.97
    status = await index.status()
    assert (status.vectors, status.indexed_vectors) == (3420, 3420)
    again = await index.optimize()
    assert (again.swapped, again.detail) == (False, "already optimal")
    await index.close()
    index = await EdgeIndex.open(directory, WIDE)
    assert (await index.status()).indexed_vectors == 3420
    await index.close()


async def test_a_copy_that_fails_its_canary_is_not_served(directory: Path) -> None:
    index = await EdgeIndex.open(directory, SPACE, EdgeOptions(recall_wanted=1.1))
    await index.apply(make_points(3000))
    await index.apply([], drop_owners=[f"owner-{number:06d}" for number in range(1000)])
    report = await index.optimize()
    assert not report.swapped
    assert "recall" in report.detail
    status = await index.status()
    assert (status.points, status.healthy) == (1000, True)
    assert generations_in(directory) == ["g000001"]
    await index.close()


async def test_optimising_reclaims_what_was_dropped(directory: Path) -> None:
    index = await EdgeIndex.open(directory, SPACE)
    await index.apply(make_points(3000))
    await index.apply([], drop_owners=[f"owner-{number:06d}" for number in range(1000)])
    report = await index.optimize()
    assert (report.swapped, report.points) == (True, 1000)
    assert len(await index.owners(limit=2000)) == 500
    await index.close()


@pytest.mark.parametrize(
    ("vectors", "dimension", "name"),
    [
        (0, 384, "exact"),
        (13_000, 384, "exact"),
        (14_000, 384, "graph"),
        (100_000, 384, "graph"),
        (100_001, 384, "graph-int8"),
        (3_000, 1536, "exact"),
        (4_000, 1536, "graph"),
        (30_000, 1536, "graph-int8"),
    ],
)
def test_parameters_follow_the_bytes_of_vectors(vectors: int, dimension: int, name: str) -> None:
    assert preset_for(vectors, dimension).name == name
    assert needs_graph(vectors, dimension) == (name != "exact")


def test_larger_collections_never_search_with_a_smaller_ef() -> None:
    assert [preset.hnsw_ef for preset in PRESETS] == sorted(preset.hnsw_ef for preset in PRESETS)
    assert all(preset.full_scan_kb >= INDEXING_KB for preset in PRESETS)


@pytest.fixture
def shard(directory: Path) -> Shard:
    """A shard of 100 points, one of them without a vector."""
    shard = Shard.create(directory / "shard", SPACE.dimension)
    shard.upsert(prepare([*make_points(99), IndexPoint("waiting", 0, "whole", None, "only words", facts(99))]))
    return shard


def test_contents_are_counted_and_sound(shard: Shard) -> None:
    found = check_contents(shard)
    assert (found.points, found.vectors, found.words, found.problems) == (100, 99, 100, [])


def test_the_canary_covers_every_filter_and_exact_search_has_full_recall(shard: Shard) -> None:
    recalls = canary(shard)
    assert {name.partition("=")[0] for name in recalls} == {"all", "kind", "type", "project", "view", "status"}
    assert set(recalls.values()) == {1.0}


def test_the_canary_of_an_empty_shard_has_nothing_to_lose(directory: Path) -> None:
    assert canary(Shard.create(directory / "shard", SPACE.dimension)) == {"all": 1.0}
