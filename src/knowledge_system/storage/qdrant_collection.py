"""One collection of a Qdrant server: points in, ranked points out, in the server's own terms."""

from __future__ import annotations

import asyncio
import uuid
from array import array
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeVar

from qdrant_client.http import models

from knowledge_system.domain.errors import IndexUnavailable
from knowledge_system.domain.index import PointPlace, place_of
from knowledge_system.storage.edge_engine import DENSE, PIECE, WORDS, Counts
from knowledge_system.storage.edge_live import QUERIES_AT_ONCE
from knowledge_system.storage.edge_presets import INDEXING_KB, Preset, preset_for
from knowledge_system.storage.index_found import NOTHING, FoundPoints
from knowledge_system.storage.qdrant_requests import (
    any_of,
    codes,
    creation,
    field_schema,
    graph_of,
    lacking,
    point_struct,
    query_request,
    require_fit,
    search_params,
)
from knowledge_system.storage.qdrant_wire import SMALL

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from collections.abc import Set as AbstractSet

    from knowledge_system.domain.index import IndexPoint, IndexQuery
    from knowledge_system.storage.edge_live import Write
    from knowledge_system.storage.qdrant_wire import Link

_PIECE_FLOATS: Final = PIECE * 384
"""Values of the vectors of one write: 4 MB of JSON, of the 32 MB that a server takes."""
_PAGE: Final = 10_000
"""Ids per page when everything is listed: half a megabyte."""
_HIT_BYTES: Final = 256
_FACT_BYTES: Final = 64 * 1024
"""Of a point's payload: owner, ordinal, view and the fields that filters know."""
_VALUE_BYTES: Final = 32
_TERMS: Final = 20_000
"""Different terms of one passage, at most."""
_ID_LENGTH: Final = 36
_VERSION_AT: Final = 14
_PLACE: Final = ["owner_id", "ordinal", "view"]
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Health:
    """What a server says of a collection: counts are about right, and of all vectors."""

    status: str
    optimizer: str
    segments: int
    points: int
    indexed: int

    @property
    def settled(self) -> bool:
        """Whether every segment is as it shall be."""
        return self.status == "green" and self.optimizer == "ok"

    @property
    def problem(self) -> str:
        """What is wrong with it."""
        if self.optimizer != "ok":
            return f"the optimizer of the server failed: {self.optimizer[:200]}"
        return "the status of the collection is red: an operation failed" if self.status == "red" else ""


class Collection:
    """A collection by its name or alias. `size` is about its number of points: what queries choose parameters by.

    `within` bounds the seconds of a write; None: as every other request.
    """

    def __init__(self, link: Link, name: str, dimension: int, within: float | None = None) -> None:
        self.link = link
        self.name = name
        self.dimension = dimension
        self.within = within
        self.size = 0

    async def create(self, space: str) -> bool:
        """Create it with all payload indexes, before the first point; False when there was one, which is completed.

        Raises UsageError, and changes nothing, when there is one that cannot hold vectors of this dimension.
        """
        wanted = creation(self.dimension, space)
        created = await self.link.ask_unless(
            (409,),
            "create a collection",
            lambda api: api.collections_api.create_collection(self.name, create_collection=wanted),
        )
        info = await self.described()
        require_fit(info, self.name, self.dimension)
        for name in lacking(info):
            await self._index(models.CreateFieldIndex(field_name=name, field_schema=field_schema(name)))
        return created is not None

    async def _index(self, field: models.CreateFieldIndex) -> None:
        await self.link.ask(
            "create a payload index",
            lambda api: api.indexes_api.create_field_index(self.name, wait=True, create_field_index=field),
        )

    async def described(self) -> models.CollectionInfo:
        """Return the server's description."""
        answer = await self.link.ask("read the collection", lambda api: api.collections_api.get_collection(self.name))
        return self._present(answer.result)

    async def health(self) -> Health:
        """Return what the server says of it."""
        return health_of(await self.described())

    async def write(self, write: Write) -> None:
        """Upsert points, then remove the others of the owners, in pieces; durable and searchable when it returns."""
        piece = max(1, min(PIECE, _PIECE_FLOATS // self.dimension))
        for start in range(0, len(write.points), piece):
            await self._upsert(write.points[start : start + piece])
        for owners, kept in write.replaced():
            await self._drop(owners, kept)
        self.size += len(write.points)

    async def _drop(self, owners: Sequence[str], kept: AbstractSet[str]) -> None:
        spared = [models.HasIdCondition(has_id=sorted(kept))] if kept else None
        selector = models.FilterSelector(filter=models.Filter(must=[any_of("owner_id", owners)], must_not=spared))
        answer = await self.link.ask(
            "write to the index",
            lambda api: api.points_api.delete_points(self.name, wait=True, points_selector=selector),
            within=self.within,
        )
        self._require_done(answer.result)

    async def _upsert(self, points: Sequence[IndexPoint]) -> None:
        unique = {point.id: point for point in points}
        made = await asyncio.to_thread(lambda: [point_struct(identity, point) for identity, point in unique.items()])
        body = models.PointsList(points=made)
        answer = await self.link.ask(
            "write to the index",
            lambda api: api.points_api.upsert_points(self.name, wait=True, point_insert_operations=body),
            within=self.within,
        )
        self._require_done(answer.result)

    def _require_done(self, result: models.UpdateResult | None) -> None:
        """Raise IndexUnavailable for a write that the server took, but had not finished when it stopped waiting."""
        status = self._present(result).status
        if status != models.UpdateStatus.COMPLETED:
            raise IndexUnavailable(
                f"cannot write to the index: {self.link.place} only says {status}", hint="Write it again: it is slow."
            )

    async def query(self, queries: Sequence[IndexQuery], *, exact: bool = False) -> list[FoundPoints]:
        """Answer each query, best first."""
        params = search_params(preset_for(self.size, self.dimension), exact=exact)
        asked = {number: one for number, query in enumerate(queries) if (one := query_request(query, params))}
        answers = [NOTHING for _ in queries]
        numbers = list(asked)
        for start in range(0, len(numbers), QUERIES_AT_ONCE):
            some = numbers[start : start + QUERIES_AT_ONCE]
            found = await self._found([asked[number] for number in some])
            for number, points in zip(some, found, strict=True):
                answers[number] = points
        return answers

    async def _found(self, requests: list[models.QueryRequest]) -> list[FoundPoints]:
        batch = models.QueryRequestBatch(searches=requests)
        answer = await self.link.ask(
            "search the index",
            lambda api: api.search_api.query_batch_points(self.name, query_request_batch=batch),
            most=SMALL + _HIT_BYTES * sum(request.limit or 0 for request in requests),
        )
        found = [[(str(point.id), point.score) for point in one.points] for one in self._present(answer.result)]
        if len(found) != len(requests):
            raise self._strange()
        hashed = [identity for points in found for identity, _ in points if _hashed(identity)]
        places = await self._places(hashed) if hashed else {}
        try:
            return [_found_points(points, places) for points in found]
        except ValueError:
            raise self._strange() from None

    async def _places(self, ids: list[str]) -> dict[str, PointPlace]:
        """Return which passages points are whose ids do not tell; strangers and those removed since are left out."""
        records = await self.records(list(dict.fromkeys(ids)), payload=_PLACE)
        places = {str(record.id): _place(record.payload or {}) for record in records}
        return {identity: place for identity, place in places.items() if place is not None}

    async def records(
        self, ids: list[str], *, payload: bool | list[str] = True, vectors: bool = False
    ) -> list[models.Record]:
        """Return the stored points of these ids that are there."""
        records: list[models.Record] = []
        for start in range(0, len(ids), PIECE):
            some = ids[start : start + PIECE]
            wanted = models.PointRequest(ids=list(some), with_payload=payload, with_vector=vectors)
            answer = await self.link.ask(
                "read the index",
                lambda api, wanted=wanted: api.points_api.get_points(  # type: ignore[misc]
                    self.name, point_request=wanted
                ),
                most=SMALL + len(some) * self._record_bytes(vectors=vectors),
            )
            records += self._present(answer.result)
        return records

    async def ids(self) -> list[str]:
        """Return the ids of all points; what is written meanwhile may or may not be seen."""
        found: list[str] = []
        offset: Any = None
        while True:
            wanted = models.ScrollRequest(limit=_PAGE, offset=offset, with_payload=False, with_vector=False)
            answer = await self.link.ask(
                "read the index",
                lambda api, wanted=wanted: api.points_api.scroll_points(  # type: ignore[misc]
                    self.name, scroll_request=wanted
                ),
                most=SMALL + _HIT_BYTES * _PAGE,
            )
            page = self._present(answer.result)
            found += [str(record.id) for record in page.points]
            before, offset = offset, page.next_page_offset
            if offset is None:
                return found
            if offset == before:
                raise self._strange()

    async def owners(self) -> list[tuple[str, int]]:
        """Return all owners in ascending order with their numbers of points.

        Most ids tell the owner. A facet would be one request, but counts each value by itself.
        """
        ids = await self.ids()
        owners = await asyncio.to_thread(_owners_told, ids)
        places = await self._places([identity for identity in ids if _hashed(identity)])
        owners.update(place.owner_id for place in places.values())
        return sorted(owners.items())

    async def sample(self, count: int) -> list[models.Record]:
        """Return about so many points chosen at random, with everything that is stored of them."""
        wanted = models.QueryRequest(
            query=models.SampleQuery(sample=models.Sample.RANDOM), limit=count, with_payload=False
        )
        answer = await self.link.ask(
            "read the index",
            lambda api: api.search_api.query_points(self.name, query_request=wanted),
            most=SMALL + _HIT_BYTES * count,
        )
        ids = [str(point.id) for point in self._present(answer.result).points]
        return await self.records([identity for identity in ids if len(identity) == _ID_LENGTH], vectors=True)

    async def values(self, name: str, limit: int = 1) -> list[str]:
        """Return the most frequent values of a field, about."""
        wanted = models.FacetRequest(key=name, limit=limit, exact=False)
        answer = await self.link.ask(
            "read the index", lambda api: api.points_api.facet(self.name, facet_request=wanted)
        )
        return [str(hit.value) for hit in self._present(answer.result).hits]

    async def counts(self) -> Counts:
        """Return exact counts of points and vectors, and about how many vectors are inside a graph."""
        counts, _ = await self.surveyed()
        return counts

    async def surveyed(self) -> tuple[Counts, Health]:
        """Return the counts and what the server says of the collection."""
        points, vectors, words, health = await asyncio.gather(
            self._count(None), self._count(DENSE), self._count(WORDS), self.health()
        )
        self.size = points
        # The server counts sparse vectors as indexed, and a few deleted ones.
        return Counts(points, vectors, words, min(vectors, max(0, health.indexed - words))), health

    async def _count(self, having: str | None) -> int:
        where = None if having is None else models.Filter(must=[models.HasVectorCondition(has_vector=having)])
        wanted = models.CountRequest(exact=True, filter=where)
        answer = await self.link.ask(
            "count the index", lambda api: api.points_api.count_points(self.name, count_request=wanted)
        )
        return self._present(answer.result).count

    async def configure(self, preset: Preset) -> None:
        """Set the parameters; the server rebuilds what they change, and answers from the old meanwhile.

        A server counts `indexing_threshold` by segment: a collection in several has graphs in the larger ones only.
        """
        quantization = codes() if preset.quantized else models.Disabled.DISABLED
        dense = models.VectorParamsDiff(hnsw_config=graph_of(preset), quantization_config=quantization)
        wanted = models.UpdateCollection(
            vectors={DENSE: dense}, optimizers_config=models.OptimizersConfigDiff(indexing_threshold=INDEXING_KB)
        )
        await self.link.ask(
            "optimise the index",
            lambda api: api.collections_api.update_collection(self.name, update_collection=wanted),
        )

    async def working(self) -> bool:
        """Return whether the server optimises it, or is about to; servers before 1.17 do not tell."""
        answer = await self.link.ask_unless(
            (404, 405), "read the collection", lambda api: api.collections_api.get_optimizations(self.name)
        )
        if answer is None or answer.result is None:
            return False
        return bool(answer.result.running) or answer.result.summary.queued_optimizations > 0

    def _record_bytes(self, *, vectors: bool) -> int:
        return _FACT_BYTES + (_VALUE_BYTES * (self.dimension + 2 * _TERMS) if vectors else 0)

    def _present(self, result: _T | None) -> _T:
        if result is None:
            raise self._strange()
        return result

    def _strange(self) -> IndexUnavailable:
        return IndexUnavailable(
            f"{self.link.place} does not answer as a Qdrant server does", hint="Check vectors.url and the version."
        )


def health_of(info: models.CollectionInfo) -> Health:
    """Return what a description says of the state."""
    told = info.optimizer_status
    optimizer = told.error if isinstance(told, models.OptimizersStatusOneOf1) else str(told)
    return Health(
        str(info.status), optimizer, info.segments_count, info.points_count or 0, info.indexed_vectors_count or 0
    )


def _tells(identity: str) -> bool:
    """Tell whether an id is of version 8 and so tells its place; false for what is no id of ours."""
    return len(identity) == _ID_LENGTH and identity[_VERSION_AT] == "8"


def _hashed(identity: str) -> bool:
    """Tell whether an id is a UUID that does not tell its place; what others put here may have numbers for ids."""
    return len(identity) == _ID_LENGTH and identity[_VERSION_AT] != "8"


def _owners_told(ids: Sequence[str]) -> Counter[str]:
    """Return the owners that ids tell: half a second for a hundred thousand, so not on the event loop."""
    places = (place_of(uuid.UUID(identity)) for identity in ids if _tells(identity))
    return Counter(place.owner_id for place in places if place is not None)


def _place(facts: Mapping[str, Any]) -> PointPlace | None:
    owner, ordinal, view = (facts.get(name) for name in _PLACE)
    if isinstance(owner, str) and isinstance(ordinal, int) and isinstance(view, str):
        return PointPlace(owner, ordinal, view)
    return None


def _found_points(points: Sequence[tuple[str, float]], places: Mapping[str, PointPlace]) -> FoundPoints:
    there = [(identity, score) for identity, score in points if _tells(identity) or identity in places]
    ids = bytes.fromhex("".join(identity for identity, _ in there).replace("-", ""))
    told = [(number, places[identity]) for number, (identity, _) in enumerate(there) if identity in places]
    return FoundPoints(ids, array("d", [score for _, score in there]), told)
