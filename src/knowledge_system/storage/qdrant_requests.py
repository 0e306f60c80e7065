"""What is said to a Qdrant server of collections, points and queries, in the words of its API."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qdrant_client.http import models

from knowledge_system.domain.errors import UsageError
from knowledge_system.domain.index import FILTER_FIELDS
from knowledge_system.storage.bm25 import document_vector, query_vector
from knowledge_system.storage.edge_engine import DENSE, FILTERS, TENANTS, WORDS
from knowledge_system.storage.edge_presets import INDEXING_KB, OVERSAMPLING, Preset, preset_for

if TYPE_CHECKING:
    from collections.abc import Sequence

    from knowledge_system.domain.index import IndexFilter, IndexPoint, IndexQuery


def require_fit(info: models.CollectionInfo, name: str, dimension: int) -> None:
    """Raise UsageError when a collection is not one for vectors of that dimension, compared by their cosine."""
    vectors, sparse = info.config.params.vectors, info.config.params.sparse_vectors or {}
    dense = vectors.get(DENSE) if isinstance(vectors, dict) else None
    if dense is not None and (dense.size, dense.distance) == (dimension, models.Distance.COSINE) and WORDS in sparse:
        return
    found = "no vectors of ours" if dense is None else f"vectors of {dense.size} values by {dense.distance.value}"
    raise UsageError(
        f"the collection {name} on the server holds {found}, not {dimension} by Cosine with words",
        hint="It was not made by this system: use another server or path for vectors.url, or remove the collection.",
    )


def lacking(info: models.CollectionInfo) -> list[str]:
    """Return the fields that have no payload index."""
    return [name for name in FILTER_FIELDS if name not in info.payload_schema]


def follows(info: models.CollectionInfo, preset: Preset) -> bool:
    """Return whether a collection has the parameters of a preset."""
    vectors = info.config.params.vectors
    dense = vectors[DENSE] if isinstance(vectors, dict) else None
    if dense is None or dense.hnsw_config is None:
        return False
    graph = dense.hnsw_config
    quantized = isinstance(dense.quantization_config, models.ScalarQuantization)
    told = (graph.m, graph.ef_construct, graph.full_scan_threshold, quantized)
    threshold = info.config.optimizer_config.indexing_threshold
    wanted = (preset.m, preset.ef_construct, preset.full_scan_kb, preset.quantized)
    return told == wanted and threshold == INDEXING_KB


def creation(dimension: int, space: str) -> models.CreateCollection:
    """Return what a collection for that dimension is created with; `space` is noted in it, for people."""
    dense = models.VectorParams(
        size=dimension, distance=models.Distance.COSINE, hnsw_config=graph_of(preset_for(0, dimension))
    )
    return models.CreateCollection(
        vectors={DENSE: dense},
        sparse_vectors={WORDS: models.SparseVectorParams(modifier=models.Modifier.IDF)},
        optimizers_config=models.OptimizersConfigDiff(indexing_threshold=INDEXING_KB),
        metadata={"space": space},
    )


def graph_of(preset: Preset) -> models.HnswConfigDiff:
    """Return the parameters of the graph."""
    return models.HnswConfigDiff(m=preset.m, ef_construct=preset.ef_construct, full_scan_threshold=preset.full_scan_kb)


def codes() -> models.ScalarQuantization:
    """Return the parameters of the codes that large collections are searched by."""
    return models.ScalarQuantization(
        scalar=models.ScalarQuantizationConfig(type=models.ScalarType.INT8, quantile=0.99, always_ram=True)
    )


def field_schema(name: str) -> models.KeywordIndexParams | models.FloatIndexParams:
    """Return the payload index of a field of `FILTER_FIELDS`."""
    if FILTER_FIELDS[name] == "float":
        return models.FloatIndexParams(type=models.FloatIndexType.FLOAT)
    return models.KeywordIndexParams(type=models.KeywordIndexType.KEYWORD, is_tenant=name in TENANTS)


def point_struct(identity: str, point: IndexPoint) -> models.PointStruct:
    """Return a point as it is written: the slow part of long texts, safe on any thread."""
    vectors: dict[str, Any] = {} if point.vector is None else {DENSE: point.vector.tolist()}
    terms, weights = document_vector(point.words) if point.words else ([], [])
    if terms:
        vectors[WORDS] = models.SparseVector(indices=terms, values=weights)
    facts = {"owner_id": point.owner_id, "ordinal": point.ordinal, "view": point.view}
    return models.PointStruct(id=identity, vector=vectors, payload={**point.payload, **facts})


def search_params(preset: Preset, *, exact: bool) -> models.SearchParams:
    """Return the parameters of a search."""
    codes = models.QuantizationSearchParams(rescore=True, oversampling=OVERSAMPLING) if preset.quantized else None
    return models.SearchParams(hnsw_ef=preset.hnsw_ef, exact=exact, quantization=codes)


def query_request(query: IndexQuery, params: models.SearchParams) -> models.QueryRequest | None:
    """Return what a query asks the server, None when nothing can be found."""
    if query.limit < 1:
        return None
    where = filter_of(query.where)
    if query.vector is not None:
        dense = list(query.vector)
        return models.QueryRequest(
            query=dense, using=DENSE, filter=where, params=params, limit=query.limit, with_payload=False
        )
    terms, weights = query_vector(query.words)
    if not terms:
        return None
    words = models.SparseVector(indices=terms, values=weights)
    return models.QueryRequest(query=words, using=WORDS, filter=where, limit=query.limit, with_payload=False)


def filter_of(where: IndexFilter) -> models.Filter | None:
    """Return the conditions of a filter, None when there are none."""
    must: list[Any] = [any_of(name, values) for name, attribute in FILTERS if (values := getattr(where, attribute))]
    if where.created_from is not None or where.created_to is not None:
        between = models.Range(gte=where.created_from, lte=where.created_to)
        must.append(models.FieldCondition(key="created", range=between))
    return models.Filter(must=must) if must else None


def any_of(name: str, values: Sequence[str]) -> models.FieldCondition:
    """Return the condition that a field has one of these values."""
    return models.FieldCondition(key=name, match=models.MatchAny(any=list(values)))
