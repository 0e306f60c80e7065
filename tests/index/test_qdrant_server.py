"""The index on a Qdrant server: what a server can do wrong, several users of one, and rebuilding."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from tests.index.samples import SPACE, as_vector, axis, make_points, stream

from knowledge_system.domain.embedding import EmbeddingSpace
from knowledge_system.domain.errors import (
    DependencyUnavailable,
    IndexUnavailable,
    KnowledgeError,
    Overtaken,
    UsageError,
)
from knowledge_system.domain.index import FILTER_FIELDS, IndexPoint, IndexQuery
from knowledge_system.storage.qdrant_server import QdrantIndex, QdrantOptions
from knowledge_system.testing.scripted_qdrant import Fault, ScriptedQdrant

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from pathlib import Path

KEY = "key-that-nobody-may-read"
IMPATIENT = 0.5
PATIENT = 30.0
TOLD = f"x{'01' * 12}"


@contextlib.asynccontextmanager
async def opened(
    server: ScriptedQdrant, space: EmbeddingSpace = SPACE, *, within: float = PATIENT, work_within: float = 60.0
) -> AsyncIterator[QdrantIndex]:
    key = server.api_key or None
    index = await QdrantIndex.open(space, QdrantOptions(server.url, key, within, work_within))
    try:
        yield index
    finally:
        server.fault = None
        await index.close()


async def found(index: QdrantIndex, words: str, limit: int = 9) -> list[str]:
    (hits,) = await index.query([IndexQuery(limit, words=words)])
    return [hit.owner_id for hit in hits]


async def broken(index: QdrantIndex) -> KnowledgeError:
    """Return what a search fails with."""
    async with asyncio.timeout(PATIENT):
        with pytest.raises(KnowledgeError) as caught:
            await index.query([IndexQuery(3, vector=axis(0))])
    assert caught.value.hint
    return caught.value


@pytest.mark.parametrize(
    "fault",
    [
        Fault(hang="start"),
        Fault(hang="middle"),
        Fault(drip=0.05),
        Fault(delay=PATIENT),
        Fault(status=500),
        Fault(status=503),
        Fault(status=401),
        Fault(status=403),
        Fault(status=429),
        Fault(
            body=b'{"result": [{"points": [{"id": "zzzzzzzz-zzzz-8zzz-zzzz-zzzzzzzzzzzz", "version": 0, "score": 1}]}]}'
        ),
        Fault(status=307, location="http://127.0.0.1:9/elsewhere"),
        Fault(body=b"<html>not a database</html>"),
        Fault(body=b'{"result": null, "status": "ok"}'),
        Fault(body=b'{"result": [], "status": "ok"}'),
        Fault(body=b"[" * 100_000),
        Fault(body=b"\xff\xfe"),
        Fault(body=b" " * (3 << 20)),
        Fault(endless=True),
        Fault(cut="start"),
        Fault(cut="after"),
    ],
    ids=repr,
)
async def test_a_faulty_server_is_an_unavailable_index_and_the_next_search_is_well(
    qdrant: ScriptedQdrant, fault: Fault
) -> None:
    async with opened(qdrant, within=IMPATIENT) as index:
        await index.apply([IndexPoint("a", 0, "whole", axis(0))])
        qdrant.fault = fault
        assert isinstance(await broken(index), IndexUnavailable)
        qdrant.fault = None
        ((hit,),) = await index.query([IndexQuery(3, vector=axis(0))])
        assert hit.owner_id == "a"


@pytest.mark.parametrize("cut", ["start", "after"])
async def test_a_request_whose_connection_broke_is_made_once_more_and_not_for_ever(
    qdrant: ScriptedQdrant, cut: Any
) -> None:
    async with opened(qdrant) as index:
        qdrant.fault = Fault(only="/points", cut=cut, times=1)
        await index.apply([IndexPoint("a", 0, "whole", axis(0), "words")])
        assert await index.owners() == [("a", 1)]
        qdrant.requests.clear()
        qdrant.fault = Fault(cut=cut)
        await broken(index)
        assert len(qdrant.asked("/query")) == 2


@pytest.mark.parametrize("fault", [Fault(endless=True), Fault(body=b" " * (3 << 20))], ids=["endless", "declared"])
async def test_no_more_is_read_than_what_was_asked_for_can_have(qdrant: ScriptedQdrant, fault: Fault) -> None:
    async with opened(qdrant) as index:
        qdrant.fault = fault
        assert "bytes" in (await broken(index)).message


async def test_redirects_are_not_followed(qdrant: ScriptedQdrant) -> None:
    async with opened(qdrant) as index:
        qdrant.requests.clear()
        qdrant.fault = Fault(only="/query", status=302, location=f"{qdrant.url}/collections")
        assert "redirect" in (await broken(index)).message
        assert [request.path for request in qdrant.requests if request.method == "GET"] == []


async def test_a_write_that_the_server_only_took_is_no_write(qdrant: ScriptedQdrant) -> None:
    async with opened(qdrant) as index:
        late = b'{"result": {"operation_id": 1, "status": "wait_timeout"}, "status": "ok"}'
        qdrant.fault = Fault(only="/points", body=late)
        with pytest.raises(IndexUnavailable, match="wait_timeout"):
            await index.apply([IndexPoint("a", 0, "whole", axis(0))])


async def test_nobody_listening_is_told_without_waiting(tmp_path: Path) -> None:
    with ScriptedQdrant(tmp_path / "gone") as gone:
        url = gone.url
    with pytest.raises(IndexUnavailable, match="no connection") as caught:
        await QdrantIndex.open(SPACE, QdrantOptions(url))
    assert "vectors.url" in caught.value.hint


@pytest.mark.parametrize(
    "url",
    [
        "localhost:6333",
        "ftp://localhost/",
        "http://",
        "http://localhost:99999",
        "http://user:hidden-word@localhost:6333",
        "http://localhost:6333/?api-key=hidden-word",
        "http://localhost:6333/#hidden-word",
    ],
)
async def test_urls_that_are_none_of_a_server_are_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(UsageError) as caught:
        await QdrantIndex.open(SPACE, QdrantOptions(url))
    assert "hidden-word" not in caught.value.message + caught.value.hint


@pytest.mark.parametrize("host", ["10.0.0.1", "index.example.com", "[2001:db8::1]"])
async def test_a_key_does_not_travel_readable_to_other_machines(host: str) -> None:
    with pytest.raises(UsageError) as caught:
        await QdrantIndex.open(SPACE, QdrantOptions(f"http://{host}:6333", KEY))
    assert "https" in caught.value.hint
    assert KEY not in caught.value.message + caught.value.hint


async def test_the_key_is_sent_with_every_request_and_never_shown(tmp_path: Path) -> None:
    with ScriptedQdrant(tmp_path / "keyed", api_key=KEY, prefix="/behind/a/proxy") as server:
        async with opened(server) as index:
            await index.apply(make_points(3))
            assert (await index.telemetry()).error == ""
            assert {request.headers.get("api-key") for request in server.requests} == {KEY}
        for key in (None, "another"):
            with pytest.raises(IndexUnavailable, match="key") as caught:
                await QdrantIndex.open(SPACE, QdrantOptions(server.url, key))
            assert "QDRANT_API_KEY" in caught.value.hint
    assert KEY not in repr(QdrantOptions(server.url, KEY))


async def test_what_the_server_says_is_told_without_the_key(tmp_path: Path) -> None:
    with ScriptedQdrant(tmp_path / "echo", api_key=KEY) as server:
        async with opened(server) as index:
            server.fault = Fault(status=400, body=f'{{"status": {{"error": "what is {KEY}?"}}}}'.encode())
            message = (await broken(index)).message
    assert "what is" in message
    assert KEY not in message


async def test_proxies_of_the_environment_are_not_asked(
    qdrant: ScriptedQdrant, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    async with opened(qdrant) as index:
        assert (await index.status()).points == 0


async def test_a_collection_of_another_dimension_is_refused_and_left_as_it_is(qdrant: ScriptedQdrant) -> None:
    async with opened(qdrant):
        (name,) = qdrant.shards.names()
    other = {"vectors": {"text": {"size": 8, "distance": "Cosine"}}, "sparse_vectors": {"words": {"modifier": "idf"}}}
    right = {"size": 16, "distance": "Cosine"}
    for wrong in (
        other,
        {**other, "vectors": {"text": {**right, "distance": "Dot"}}},
        {**other, "vectors": {"image": right}},
        {"vectors": {"text": right}},
    ):
        qdrant.shards.clear()
        qdrant.shards.create(name, wrong)
        before = qdrant.shards.get(name).described()
        with pytest.raises(UsageError, match=name):
            await QdrantIndex.open(SPACE, QdrantOptions(qdrant.url))
        assert qdrant.shards.get(name).described() == before
        assert qdrant.shards.aliases == {}


async def test_spaces_live_side_by_side_even_those_of_one_dimension(qdrant: ScriptedQdrant) -> None:
    spaces = [SPACE, EmbeddingSpace("sample-model", 32, "r1"), EmbeddingSpace("another-model", 16, "r1")]
    for space in spaces:
        async with opened(qdrant, space) as index:
            await index.apply([IndexPoint(space.key, 0, "whole", axis(0, space.dimension), "word")])
    for space in spaces:
        async with opened(qdrant, space) as index:
            assert await found(index, "word") == [space.key]
            assert (await index.status()).points == 1
    assert len(qdrant.shards.names()) == 3


async def test_what_another_model_of_the_dimension_left_can_be_removed(qdrant: ScriptedQdrant) -> None:
    for space in (SPACE, EmbeddingSpace("sample-model", 32, "r1"), EmbeddingSpace("another-model", 16, "r1")):
        async with opened(qdrant, space):
            pass
    qdrant.shards.create("knowledge_16-of-somebody-else", qdrant.shards.get(qdrant.shards.names()[0]).config)
    async with opened(qdrant) as index:
        assert await index.remove_other_spaces() == 1
        assert await index.remove_other_spaces() == 0
        assert (await index.status()).points == 0
    assert [name.partition("-")[0] for name in sorted(qdrant.shards.names())] == [*["knowledge_16"] * 2, "knowledge_32"]


async def test_every_field_has_its_index_before_the_first_point(qdrant: ScriptedQdrant) -> None:
    async with opened(qdrant) as index:
        await index.apply(make_points(2))
    indexed = {request.body["field_name"]: request.body["field_schema"] for request in qdrant.asked("/index")}
    assert {name: schema["type"] for name, schema in indexed.items()} == FILTER_FIELDS
    assert {name for name, schema in indexed.items() if schema.get("is_tenant")} == {"type", "project"}
    order = [request.path.rpartition("/")[2] for request in qdrant.requests]
    assert max(place for place, last in enumerate(order) if last == "index") < order.index("points")
    creation = next(request.body for request in qdrant.requests if request.method == "PUT")
    assert creation["metadata"] == {"space": SPACE.key}
    assert creation["sparse_vectors"] == {"words": {"modifier": "idf"}}


async def test_a_creation_that_was_cut_off_is_completed_and_keeps_what_is_there(qdrant: ScriptedQdrant) -> None:
    async with opened(qdrant) as index:
        await index.apply([IndexPoint("kept", 0, "whole", axis(0), "word")])
    (name,) = qdrant.shards.names()
    qdrant.shards.change_aliases([{"delete_alias": {"alias_name": alias}} for alias in qdrant.shards.aliases])
    del qdrant.shards.get(name).config["payload_schema"]["created"]
    async with opened(qdrant) as index:
        assert await found(index, "word") == ["kept"]
        assert (await index.verify()).ok
    assert qdrant.shards.names() == [name]


async def test_two_that_open_at_once_share_one_collection(qdrant: ScriptedQdrant) -> None:
    options = QdrantOptions(qdrant.url, within=PATIENT)
    indexes = await asyncio.gather(*(QdrantIndex.open(SPACE, options) for _ in range(4)))
    await asyncio.gather(
        *(index.apply(make_points(50, start=number * 50)) for number, index in enumerate(indexes)),
        *(index.query([IndexQuery(5, words="passage")]) for index in indexes),
    )
    assert [(await index.status()).points for index in indexes] == [200] * 4
    await asyncio.gather(*(index.close() for index in indexes))
    assert len(qdrant.shards.names()) == 1


async def test_writes_are_waited_for_and_made_in_pieces(qdrant: ScriptedQdrant) -> None:
    async with opened(qdrant) as index:
        await index.apply(make_points(1200), drop_owners=[f"owner-{number}" for number in range(700)])
    writes = [request for request in qdrant.asked("/points") if request.method in {"PUT", "POST"}]
    assert {request.params.get("wait") for request in writes} == {"true"}
    assert [len(request.body["points"]) for request in writes if "points" in request.body] == [500, 500, 200]
    dropped = [request.body["filter"]["must"][0]["match"]["any"] for request in writes if "filter" in request.body]
    assert [len(owners) for owners in dropped] == [500, 200]


async def test_a_piece_of_wide_vectors_is_small_enough_for_a_server(qdrant: ScriptedQdrant) -> None:
    async with opened(qdrant, EmbeddingSpace("wide-model", 1536, "r1")) as index:
        await index.apply(make_points(130, dimension=1536))
    assert [len(request.body["points"]) for request in qdrant.asked("/points")] == [125, 5]


async def test_payload_is_read_for_hashed_ids_only(qdrant: ScriptedQdrant) -> None:
    async with opened(qdrant) as index:
        told = [IndexPoint(TOLD, number, "window" if number else "whole", axis(0), "word") for number in range(3)]
        await index.apply(told)
        assert await found(index, "word") == [TOLD] * 3
        assert await index.owners() == [(TOLD, 3)]
        assert qdrant.asked("/points/query")[-1].body["searches"][0]["with_payload"] is False
        assert [
            request for request in qdrant.requests if request.path.endswith("/points") and request.method == "POST"
        ] == []
        await index.apply([IndexPoint("odd", 70_000, "whole", axis(1), "word")])
        assert sorted(await found(index, "word")) == ["odd", *[TOLD] * 3]
        assert await index.owners() == [("odd", 1), (TOLD, 3)]
        (read, _) = [
            request for request in qdrant.requests if request.path.endswith("/points") and request.method == "POST"
        ]
        assert len(read.body["ids"]) == 1


async def test_a_walk_over_the_owners_sees_one_state(qdrant: ScriptedQdrant) -> None:
    async with opened(qdrant) as index:
        await index.apply(make_points(20))
        first = await index.owners(limit=4)
        await index.apply([IndexPoint("owner-000005x", 0, "whole", axis(0))], drop_owners=["owner-000007"])
        rest = await index.owners(first[-1][0])
        assert [owner for owner, _ in [*first, *rest]] == [f"owner-{number:06d}" for number in range(10)]
        assert [owner for owner, _ in await index.owners("owner-000004", 3)][:2] == ["owner-000005", "owner-000005x"]


async def test_many_pages_of_ids_are_read(qdrant: ScriptedQdrant) -> None:
    async with opened(qdrant) as index:
        points = [IndexPoint(f"k{number:024x}", 0, "whole", None, f"number{number}") for number in range(10_300)]
        await index.apply(points)
        owners = await index.owners(limit=20_000)
    assert owners == sorted((point.owner_id, 1) for point in points)
    assert len(qdrant.asked("/scroll")) == 2


async def test_rebuilding_serves_the_old_index_and_keeps_what_is_written_meanwhile(qdrant: ScriptedQdrant) -> None:
    async with opened(qdrant) as index:
        await index.apply(make_points(10, tag="old"))
        (before,) = qdrant.shards.names()
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
        assert dict(await index.owners())["owner-002500"] == 2
        go_on.set()
        report = await rebuilding
        assert (report.swapped, report.points, report.recall, report.detail) == (True, 1198, 1.0, "")
        owners = dict(await index.owners(limit=10_000))
        assert owners["owner-002500"] == 2
        assert not {"owner-000001", "owner-000400"} & set(owners)
        assert (await index.verify()).ok
        (after,) = qdrant.shards.names()
        assert after > before
        assert list(qdrant.shards.aliases.values()) == [after]
    switches = [request.body["actions"] for request in qdrant.asked("/collections/aliases")]
    assert [sorted(name for action in actions for name in action) for actions in switches] == [
        ["create_alias"],
        ["create_alias", "delete_alias"],
    ]


async def test_searches_and_writes_never_fail_while_the_alias_is_switched(qdrant: ScriptedQdrant) -> None:
    async with opened(qdrant) as index, opened(qdrant) as other:
        await index.apply(make_points(100))
        done, served = asyncio.Event(), 0

        async def search() -> None:
            nonlocal served
            while not done.is_set():
                ((hit,),) = await other.query([IndexQuery(1, words="number42")])
                assert hit.owner_id == "owner-000021"
                served += 1

        async def write() -> None:
            number = 0
            while not done.is_set():
                await index.apply([IndexPoint(f"written-{number % 9}", 0, "whole", axis(1))])
                number += 1

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(search())
            tasks.create_task(write())
            for _ in range(3):
                assert (await index.rebuild(stream(make_points(100)))).swapped
            done.set()
        assert served > 0
        owners = dict(await other.owners())
        assert {owner for owner in owners if owner.startswith("owner")} == {
            f"owner-{number:06d}" for number in range(50)
        }


async def test_a_stream_that_breaks_and_one_that_does_not_fit_leave_nothing_behind(qdrant: ScriptedQdrant) -> None:
    async with opened(qdrant) as index:
        await index.apply(make_points(4))
        before = qdrant.shards.names()
        with pytest.raises(UsageError):
            await index.rebuild(stream(make_points(4, dimension=8)))
        task = asyncio.create_task(index.rebuild(endless_stream()))
        await another_collection(qdrant)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert qdrant.shards.names() == before
        assert (await index.status()).points == 4


async def another_collection(server: ScriptedQdrant) -> None:
    """Wait until a rebuild has begun to write its collection."""
    async with asyncio.timeout(PATIENT):
        while len({request.path for request in server.asked("/points")}) < 1:  # noqa: ASYNC110 -- of another thread
            await asyncio.sleep(0.005)


async def endless_stream() -> AsyncIterator[Sequence[IndexPoint]]:
    start = 0
    while True:
        yield make_points(50, start=start)
        start += 50


async def test_closing_ends_a_rebuild_and_removes_what_it_built(qdrant: ScriptedQdrant) -> None:
    async with opened(qdrant) as index:
        before = qdrant.shards.names()
        task = asyncio.create_task(index.rebuild(endless_stream()))
        await another_collection(qdrant)
        await index.close()
        with pytest.raises(DependencyUnavailable, match="closed"):
            await task
        assert qdrant.shards.names() == before


async def test_what_a_killed_rebuild_left_is_removed_by_the_next(qdrant: ScriptedQdrant) -> None:
    async with opened(qdrant) as index:
        (served,) = qdrant.shards.names()
        config = dict(qdrant.shards.get(served).config)
        qdrant.shards.create(served[:-6] + "000002", config)
        qdrant.shards.create("somebody-elses", config)
        assert (await index.rebuild(stream(make_points(4)))).swapped
        assert sorted(qdrant.shards.names()) == [served[:-6] + "000003", "somebody-elses"]


@pytest.mark.parametrize("left", [False, True])
async def test_of_two_rebuilds_the_later_one_is_served(qdrant: ScriptedQdrant, *, left: bool) -> None:
    async with opened(qdrant) as slow, opened(qdrant) as quick:
        halfway, go_on = asyncio.Event(), asyncio.Event()

        async def slow_stream() -> AsyncIterator[Sequence[IndexPoint]]:
            halfway.set()
            await go_on.wait()
            yield make_points(4)

        rebuilding = asyncio.create_task(slow.rebuild(slow_stream()))
        await halfway.wait()
        second = max(qdrant.shards.names())
        config = dict(qdrant.shards.get(second).config)
        assert (await quick.rebuild(stream(make_points(6, start=100)))).points == 6
        if left:  # as when it could not be removed
            qdrant.shards.create(second, config)
        go_on.set()
        with pytest.raises(Overtaken if left else DependencyUnavailable):
            await rebuilding
        assert (await slow.status()).points == 6
        assert len(qdrant.shards.names()) == 1


async def test_a_switch_whose_answer_was_lost_is_looked_up(qdrant: ScriptedQdrant) -> None:
    async with opened(qdrant) as index:
        await index.apply(make_points(2))
        qdrant.fault = Fault(only="/collections/aliases", cut="after")
        report = await index.rebuild(stream(make_points(8)))
        assert (report.swapped, report.points) == (True, 8)


async def test_a_switch_that_failed_leaves_the_old_one_served(qdrant: ScriptedQdrant) -> None:
    async with opened(qdrant) as index:
        await index.apply(make_points(2))
        qdrant.fault = Fault(only="/collections/aliases", status=500)
        with pytest.raises(IndexUnavailable):
            await index.rebuild(stream(make_points(8)))
        assert (await index.status()).points == 2
        assert len(qdrant.shards.names()) == 1


async def test_points_that_the_server_lost_while_rebuilding_are_noticed(qdrant: ScriptedQdrant) -> None:
    async with opened(qdrant) as index:
        await index.apply(make_points(2))

        async def leaking() -> AsyncIterator[Sequence[IndexPoint]]:
            yield make_points(8)
            qdrant.shards.get(max(qdrant.shards.names())).delete(
                {"must": [{"key": "owner_id", "match": {"any": ["owner-000001"]}}]}
            )

        report = await index.rebuild(leaking())
        assert not report.swapped
        assert "6 points, 8" in report.detail
        assert (await index.status()).points == 2


async def test_a_collection_that_vanished_is_told_and_can_be_rebuilt(qdrant: ScriptedQdrant) -> None:
    async with opened(qdrant) as index:
        await index.apply(make_points(4))
        qdrant.shards.clear()
        for call in (
            index.apply(make_points(1)),
            index.query([IndexQuery(3, words="passage")]),
            index.status(),
            index.owners(),
            index.verify(),
            index.optimize(),
        ):
            with pytest.raises(DependencyUnavailable) as caught:
                await call
            assert "knowledge index rebuild" in caught.value.hint
        assert (await index.rebuild(stream(make_points(6)))).points == 6
        assert (await found(index, "number3"))[0] == "owner-000001"


async def test_a_server_that_was_restarted_has_kept_everything(directory: Path) -> None:
    with ScriptedQdrant(directory / "kept") as server:
        async with opened(server) as index:
            await index.apply(make_points(30))
            once = await index.query([IndexQuery(10, words="topic3"), IndexQuery(10, vector=axis(0))])
            server.stop()
            assert isinstance(await broken(index), IndexUnavailable)
            server.start()
            assert await index.query([IndexQuery(10, words="topic3"), IndexQuery(10, vector=axis(0))]) == once
            assert (await index.verify()).ok


async def test_optimising_sets_the_parameters_of_the_size_waits_and_finds_nothing_more(
    qdrant: ScriptedQdrant,
) -> None:
    async with opened(qdrant) as index:
        (name,) = qdrant.shards.names()
        shard = qdrant.shards.get(name)
        shard.update({"vectors": {"text": {"hnsw_config": {"m": 4}}}, "optimizers_config": {"indexing_threshold": 0}})
        await index.apply(make_points(300))
        report = await index.optimize()
        assert (report.swapped, report.points, report.recall, report.detail) == (True, 300, 1.0, "")
        (patch,) = [request.body for request in qdrant.requests if request.method == "PATCH"]
        assert patch["vectors"]["text"]["hnsw_config"] == {"m": 16, "ef_construct": 128, "full_scan_threshold": 20_000}
        assert patch["optimizers_config"] == {"indexing_threshold": 20_000}
        assert len([request for request in qdrant.asked(name) if request.method == "GET"]) > 2
        again = await index.optimize()
        assert (again.swapped, again.detail) == (False, "already optimal")


@pytest.mark.slow
async def test_rebuilding_a_large_index_builds_its_graph(qdrant: ScriptedQdrant) -> None:
    wide = EmbeddingSpace("wide-model", 1536, "r1")
    async with opened(qdrant, wide) as index:
        report = await index.rebuild(stream(make_points(3420, dimension=wide.dimension)))
        assert (report.swapped, report.points) == (True, 3420)
        assert report.recall >= 0.97
        status = await index.status()
        assert (status.vectors, status.indexed_vectors) == (3420, 3420)
        again = await index.optimize()
        assert (again.swapped, again.detail) == (False, "already optimal")


async def test_a_server_that_optimises_for_ever_is_not_waited_for_as_long(qdrant: ScriptedQdrant) -> None:
    async with opened(qdrant, work_within=0.1) as index:
        qdrant.shards.get(qdrant.shards.names()[0]).status = "yellow"
        report = await index.optimize()
        assert not report.swapped
        assert "still optimising" in report.detail
        assert (await index.status()).healthy


async def test_a_collection_that_waits_for_a_change_gets_one(qdrant: ScriptedQdrant) -> None:
    async with opened(qdrant, work_within=0.1) as index:
        qdrant.shards.get(qdrant.shards.names()[0]).status = "grey"
        await index.optimize()
        assert [request.method for request in qdrant.requests].count("PATCH") == 1


@pytest.mark.parametrize(("status", "optimizer"), [("red", "ok"), ("green", {"error": "disk full"})])
async def test_trouble_of_the_server_is_told_by_status_and_verify(
    qdrant: ScriptedQdrant, status: str, optimizer: Any
) -> None:
    async with opened(qdrant) as index:
        shard = qdrant.shards.get(qdrant.shards.names()[0])
        shard.status, shard.optimizer = status, optimizer
        told = await index.status()
        assert not told.healthy
        assert told.detail
        assert told.detail in (await index.verify()).problems
        assert (await index.telemetry()).error == told.detail
        assert (await index.optimize()).detail == told.detail


async def test_points_of_strangers_are_no_answer_and_no_trouble(qdrant: ScriptedQdrant) -> None:
    async with opened(qdrant) as index:
        await index.apply(make_points(4))
        shard = qdrant.shards.get(qdrant.shards.names()[0])
        near = {"text": list(axis(0))}
        shard.upsert([{"id": 7, "vector": near}, {"id": "00000000-0000-4000-8000-000000000001", "vector": near}])
        ((*hits,),) = await index.query([IndexQuery(9, vector=axis(0))])
        assert len(hits) == 4
        assert sum(points for _, points in await index.owners()) == 4


async def test_verifying_reads_points_back(qdrant: ScriptedQdrant) -> None:
    async with opened(qdrant) as index:
        await index.apply(make_points(20))
        shard = qdrant.shards.get(qdrant.shards.names()[0])
        stranger = {"id": "00000000-0000-4000-8000-000000000001", "vector": {"text": list(axis(3))}, "payload": {}}
        shard.upsert([stranger])
        del shard.config["payload_schema"]["project"]
        report = await index.verify()
        assert not report.ok
        assert report.points == 21
        assert {"project" in problem for problem in report.problems} == {True, False}
        assert any(stranger["id"] in problem for problem in report.problems)


async def test_telemetry_tells_what_there_is_and_never_fails(qdrant: ScriptedQdrant) -> None:
    async with opened(qdrant, within=IMPATIENT) as index:
        await index.apply(make_points(7))
        facts = await index.telemetry()
        (name,) = qdrant.shards.names()
        assert (facts.version, facts.ready, facts.collections, facts.collection) == ("1.19.0", True, (name,), name)
        assert (facts.status, facts.optimizer_status, facts.points, facts.error) == ("green", "ok", 7, "")
        qdrant.ready = False
        assert not (await index.telemetry()).ready
        qdrant.fault = Fault(only="/collections", hang="start")
        partly = await index.telemetry()
        assert (partly.version, partly.collections) == ("1.19.0", ())
        assert "no answer within" in partly.error
        qdrant.fault = None
        await index.close()
        assert "closed" in (await index.telemetry()).error


async def test_a_space_of_nothing_but_zeros_is_no_loss_of_recall(qdrant: ScriptedQdrant) -> None:
    async with opened(qdrant) as index:
        await index.apply([IndexPoint("zero", 0, "whole", as_vector([0.0] * 16), "word")])
        assert (await index.verify()).ok
        assert (await index.optimize()).recall == 1.0


def test_importing_the_adapter_does_not_import_the_client() -> None:
    code = "import sys, knowledge_system.storage.qdrant_server as it; print(it.QdrantIndex, *sys.modules)"
    told = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert "QdrantIndex" in told
    assert not {"qdrant_client", "grpc", "qdrant_edge", "httpx"} & set(told.split())
