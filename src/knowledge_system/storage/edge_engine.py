"""One shard of the embedded engine: the only module that speaks its language.

Every call holds the interpreter lock until it returns, so callers hand in pieces of at most `PIECE` points. The engine
raises plain `Exception` for everything; `_translated` turns that into our errors.
"""

from __future__ import annotations

import contextlib
from array import array
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, cast

import qdrant_edge as engine

from knowledge_system.domain.errors import Busy, DependencyUnavailable, IntegrityFailure, KnowledgeError, UsageError
from knowledge_system.domain.index import FILTER_FIELDS, PointPlace, untold
from knowledge_system.storage.bm25 import document_vector, query_vector
from knowledge_system.storage.edge_presets import INDEXING_KB, OVERSAMPLING, SEARCH_THREADS, Preset, preset_for
from knowledge_system.storage.index_found import ID_BYTES, NOTHING, FoundPoints

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from collections.abc import Set as AbstractSet
    from pathlib import Path

    from knowledge_system.domain.index import IndexFilter, IndexPoint, IndexQuery

PIECE = 500
"""Points per write: about 20 ms without another Python thread running."""
DENSE = "text"
WORDS = "words"
TENANTS = frozenset({"type", "project"})
"""Filters whose recall the graph keeps by links of its own (filtered recall .87 without, .996 with them)."""
FILTERS = (
    ("kind", "kinds"),
    ("type", "types"),
    ("project", "projects"),
    ("view", "views"),
    ("status", "statuses"),
    ("intent", "intents"),
)
"""Payload fields and the attributes of `IndexFilter` that restrict them."""

_SPARSE = {WORDS: engine.EdgeSparseVectorParams(modifier=engine.Modifier.Idf)}
_UNCHANGED = engine.EdgeConfig(sparse_vectors=_SPARSE, max_search_threads=SEARCH_THREADS)
"""What is not said here stays as it is stored."""


@dataclass(frozen=True, slots=True)
class Counts:
    """Points of a shard: all, those with a vector, those with words, and vectors inside a graph."""

    points: int
    vectors: int
    words: int
    indexed: int


class Shard:
    """An open shard. Not thread-safe: one thread at a time."""

    def __init__(self, shard: engine.EdgeShard, dimension: int) -> None:
        self._shard = shard
        self.dimension = dimension
        self._counts: Counts | None = None
        self._preset: Preset | None = None

    @classmethod
    def create(cls, path: Path, dimension: int) -> Shard:
        """Create an empty shard at `path`; payload indexes exist before the first point, or filters lose recall."""
        with _translated("create the index"):
            shard = engine.EdgeShard.create(str(path), _config(preset_for(0, dimension), dimension))
            for name, kind in FILTER_FIELDS.items():
                shard.update(engine.UpdateOperation.create_field_index(name, _schema(name, kind)))
        return cls(shard, dimension)

    @classmethod
    def load(cls, path: Path, dimension: int, preset: Preset | None = None) -> Shard:
        """Open the shard at `path`; with `preset` its parameters change, and take effect when it is optimised.

        Raises Busy when another process has it open, IntegrityFailure when the engine finds it broken. The engine
        checks little and may abort the process on broken files: check them first.
        """
        config = _UNCHANGED if preset is None else _config(preset, dimension)
        with _translated("open the index", IntegrityFailure):
            return cls(engine.EdgeShard.load(str(path), config), dimension)

    def upsert(self, points: list[engine.Point]) -> None:
        """Write at most `PIECE` points made by `prepare`; a point replaces the whole point of the same id."""
        self._counts = self._preset = None
        with _translated("write to the index"):
            self._shard.update(engine.UpdateOperation.upsert_points(points))

    def drop(self, owners: Sequence[str], kept: AbstractSet[str] = frozenset()) -> None:
        """Remove every point of these owners but those whose ids are `kept`."""
        self._counts = self._preset = None
        where = engine.Filter(
            must=[_any_of("owner_id", owners)],
            must_not=[engine.HasIdCondition(set(kept))] if kept else None,
        )
        with _translated("write to the index"):
            self._shard.update(engine.UpdateOperation.delete_points_by_filter(where))

    def query(self, queries: Sequence[IndexQuery], *, exact: bool = False) -> list[FoundPoints]:
        """Answer each query, best first."""
        params = self.params(exact=exact)
        asked = {number: request for number, query in enumerate(queries) if (request := _request(query, params))}
        with _translated("search the index"):
            found = self._shard.query_batch(engine.QueryBatchRequest(list(asked.values()))) if asked else []
        answers = [NOTHING for _ in queries]
        for number, points in zip(asked, found, strict=True):
            answers[number] = self._found(points)
        return answers

    def _found(self, points: Sequence[engine.ScoredPoint]) -> FoundPoints:
        """Most ids tell which passage a point is; what the others are is stored with them."""
        # `point.id` is a `uuid.UUID`, built anew each time; `cast` would be a call for each of hundreds.
        ids = b"".join([point.id.int.to_bytes(ID_BYTES) for point in points])  # type: ignore[union-attr]
        hashed = {str(points[position].id): position for position in untold(ids)}
        told = []
        if hashed:
            with _translated("read the index"):
                records = self._shard.retrieve(list(hashed), True, False)  # noqa: FBT003 - the engine's positional flags
            for record in records:
                facts = record.payload or {}
                place = PointPlace(facts["owner_id"], int(facts["ordinal"]), facts["view"])
                told.append((hashed[str(record.id)], place))
        return FoundPoints(ids, array("d", [point.score for point in points]), told)

    def params(self, *, exact: bool = False) -> engine.SearchParams:
        """Return the search parameters for the present size (all points: counting vectors takes 50 ms at 100k)."""
        if self._preset is None:
            with _translated("count the index"):
                self._preset = preset_for(self._shard.info().points_count, self.dimension)
        preset = self._preset
        codes = engine.QuantizationSearchParams(rescore=True, oversampling=OVERSAMPLING) if preset.quantized else None
        return engine.SearchParams(hnsw_ef=preset.hnsw_ef, exact=exact, quantization=codes)

    def counts(self) -> Counts:
        """Return exact counts; cached until the next write."""
        if self._counts is None:
            with _translated("count the index"):
                info = self._shard.info()
                vectors, words = (self._having(name) for name in (DENSE, WORDS))
            # The engine counts sparse vectors as indexed, and a few deleted ones.
            indexed = min(vectors, max(0, info.indexed_vectors_count - words))
            self._counts = Counts(info.points_count, vectors, words, indexed)
        return self._counts

    def _having(self, name: str) -> int:
        where = engine.Filter(must=[engine.HasVectorCondition(name)])
        return int(self._shard.count(engine.CountRequest(exact=True, filter=where)))

    def values(self, name: str, limit: int = 1000) -> dict[str, int]:
        """Return the values of a keyword field with their points, the most frequent first."""
        with _translated("count the index"):
            hits = self._shard.facet(engine.FacetRequest(name, limit=limit, exact=True)).hits
        return {str(hit.value): hit.count for hit in sorted(hits, key=lambda hit: (-hit.count, str(hit.value)))}

    def finds(self, record: engine.Record, name: str) -> bool:
        """Return whether a search for a point's own vector, among its owner's points, finds it."""
        vectors, facts = cast("dict[str, Any]", record.vector), record.payload or {}
        where = engine.Filter(must=[_any_of("owner_id", [str(facts.get("owner_id"))])])
        nearest = engine.Query.Nearest(vectors[name], using=name)
        request = engine.QueryRequest(limit=1000, query=nearest, filter=where)
        with _translated("search the index"):
            return any(str(hit.id) == str(record.id) for hit in self._shard.query(request))

    def vectors_of(self, ids: Sequence[str]) -> list[Sequence[float]]:
        """Return the dense vectors of those of the points that have one."""
        with _translated("read the index"):
            records = self._shard.retrieve(list(ids), False, [DENSE])  # noqa: FBT003 - the engine's positional flag
        stored: list[dict[str, Any]] = [record.vector for record in records if isinstance(record.vector, dict)]
        return [vectors[DENSE] for vectors in stored if DENSE in vectors]

    def scroll(self, *, vectors: bool = False, piece: int = 1000) -> Iterator[list[engine.Record]]:
        """Yield every point in pieces, with payload, and on request with its vectors."""
        offset = None
        while True:
            request = engine.ScrollRequest(offset=offset, limit=piece, with_payload=True, with_vector=vectors)
            with _translated("read the index"):
                records, offset = self._shard.scroll(request)
            yield records
            if offset is None:
                return

    def optimize(self) -> bool:
        """Build graphs, merge and vacuum; True when anything changed. Holds the interpreter lock for minutes."""
        self._counts = self._preset = None
        with _translated("optimise the index"):
            return bool(self._shard.optimize())

    def flush(self) -> None:
        """Write everything to the disk (fsync)."""
        with _translated("flush the index"):
            self._shard.flush()

    def close(self) -> None:
        """Flush and release the files."""
        with _translated("close the index"):
            self._shard.close()


def prepare(points: Sequence[IndexPoint]) -> list[engine.Point]:
    """Turn points into the engine's, words into terms: the slow part of writing long texts, safe on any thread."""
    return [_point(point) for point in points]


@contextlib.contextmanager
def _translated(action: str, otherwise: type[KnowledgeError] = DependencyUnavailable) -> Iterator[None]:
    try:
        yield
    except KnowledgeError:
        raise
    except BaseException as error:
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise  # the engine raises nothing narrower
        raise _error(action, str(error), otherwise) from error


def _error(action: str, text: str, otherwise: type[KnowledgeError]) -> KnowledgeError:
    message = f"cannot {action}: {text}"
    if "WouldBlock" in text:
        return Busy(message, hint="Another process has the index open: use the running service, or stop it first.")
    if "dimension" in text:
        return UsageError(message, hint="Embed with the model of this index, or open the index of that model.")
    if "No space left" in text or "os error 28" in text:
        return DependencyUnavailable(message, hint="Free disk space; nothing that was written to the database is lost.")
    return otherwise(message, hint="Run `knowledge index rebuild`: the index is derived and loses nothing.")


def _config(preset: Preset, dimension: int) -> engine.EdgeConfig:
    graph = engine.HnswIndexConfig(
        m=preset.m, ef_construct=preset.ef_construct, full_scan_threshold=preset.full_scan_kb
    )
    codes = engine.ScalarQuantizationConfig(type=engine.ScalarType.Int8, quantile=0.99) if preset.quantized else None
    dense = engine.EdgeVectorParams(
        size=dimension, distance=engine.Distance.Cosine, hnsw_config=graph, quantization_config=codes
    )
    return engine.EdgeConfig(
        vectors={DENSE: dense},
        sparse_vectors=_SPARSE,
        optimizers=engine.EdgeOptimizersConfig(indexing_threshold=INDEXING_KB),
        max_search_threads=SEARCH_THREADS,
    )


def _schema(name: str, kind: str) -> engine.KeywordIndexParams | engine.FloatIndexParams:
    return engine.FloatIndexParams() if kind == "float" else engine.KeywordIndexParams(is_tenant=name in TENANTS)


def _point(point: IndexPoint) -> engine.Point:
    vectors: dict[str, Any] = {} if point.vector is None else {DENSE: point.vector}
    terms, weights = document_vector(point.words) if point.words else ([], [])
    if terms:
        vectors[WORDS] = engine.SparseVector(indices=terms, values=weights)
    facts = {"owner_id": point.owner_id, "ordinal": point.ordinal, "view": point.view}
    return engine.Point(point.id, vectors, {**point.payload, **facts})


def _request(query: IndexQuery, params: engine.SearchParams) -> engine.QueryRequest | None:
    nearest = _nearest(query)
    if nearest is None or query.limit < 1:
        return None
    where = _filter(query.where)
    # No payload: reading that of 200 points takes longer than finding them, and their ids tell what is needed.
    return engine.QueryRequest(limit=query.limit, query=nearest, filter=where, params=params, with_payload=False)


def _nearest(query: IndexQuery) -> engine.Query | None:
    if query.vector is not None:
        return engine.Query.Nearest(cast("list[float]", query.vector), using=DENSE)  # takes any sequence
    terms, weights = query_vector(query.words)
    return engine.Query.Nearest(engine.SparseVector(indices=terms, values=weights), using=WORDS) if terms else None


@lru_cache(maxsize=64)
def _filter(where: IndexFilter) -> engine.Filter | None:
    must: list[Any] = [_any_of(name, values) for name, attribute in FILTERS if (values := getattr(where, attribute))]
    if where.created_from is not None or where.created_to is not None:
        between = engine.RangeFloat(gte=where.created_from, lte=where.created_to)
        must.append(engine.FieldCondition(key="created", range=between))
    return engine.Filter(must=must) if must else None


def _any_of(name: str, values: Sequence[str]) -> engine.FieldCondition:
    return engine.FieldCondition(key=name, match=engine.MatchAny(list(values)))
