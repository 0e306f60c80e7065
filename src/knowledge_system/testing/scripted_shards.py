"""Collections of a Qdrant server on real shards of the engine: what `scripted_qdrant` answers its requests with.

JSON comes in and goes out as the server's REST interface has it, for the part of it that this system uses. Scores,
filters and recall are the real engine's. Everything is kept in a directory, so a server can be restarted on it.
"""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any, Final

import qdrant_edge as engine

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    Json = dict[str, Any]

_THREADS: Final = 1
_THRESHOLD: Final = 20_000
_SERVER_DEFAULTS: Final = {"m": 16, "ef_construct": 100, "full_scan_threshold": 10_000}


class Refused(Exception):
    """What a request is answered with instead: a status and the server's explanation."""

    def __init__(self, status: int, told: str) -> None:
        super().__init__(told)
        self.status = status


class Shards:
    """The collections and aliases in a directory. One thread at a time."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._open: dict[str, ShardCollection] = {}
        self.aliases: dict[str, str] = {}

    def load(self) -> None:
        """Open what the directory holds."""
        self._directory.mkdir(parents=True, exist_ok=True)
        for path in sorted(self._directory.iterdir()):
            if (path / "config.json").exists():
                self._open[path.name] = ShardCollection.load(path)
        if (aliases := self._directory / "aliases.json").exists():
            self.aliases = json.loads(aliases.read_text())

    def close(self) -> None:
        """Write everything to the disk and release it."""
        for collection in self._open.values():
            collection.shard.close()
        self._open.clear()

    def clear(self) -> None:
        """Remove everything."""
        for name in list(self._open):
            self.delete(name)
        self._alias({})

    def names(self) -> list[str]:
        """Return the names of the collections, without aliases."""
        return list(self._open)

    def there(self, name: str) -> bool:
        """Tell whether there is a collection or alias of this name."""
        return self.aliases.get(name, name) in self._open

    def get(self, name: str) -> ShardCollection:
        """Return a collection by its name or alias. Raises Refused as the server does."""
        found = self._open.get(self.aliases.get(name, name))
        if found is None:
            raise Refused(404, f"Not found: Collection `{name}` doesn't exist!")
        return found

    def create(self, name: str, wanted: Json) -> bool:
        """Create a collection."""
        if self.there(name):
            raise Refused(409, f"Wrong input: Collection `{name}` already exists!")
        self._open[name] = ShardCollection.create(self._directory / name, wanted)
        return True

    def delete(self, name: str) -> bool:
        """Remove a collection and the aliases that point at it; False when there is none."""
        found = self._open.pop(name, None)
        if found is None:
            return False
        found.shard.close()
        shutil.rmtree(self._directory / name)
        self._alias({alias: target for alias, target in self.aliases.items() if target != name})
        return True

    def change_aliases(self, actions: list[Json]) -> bool:
        """Make all changes or none."""
        aliases = dict(self.aliases)
        for action in actions:
            if told := action.get("delete_alias"):
                aliases.pop(told["alias_name"], None)
            elif told := action.get("create_alias"):
                self.get(told["collection_name"])
                if told["alias_name"] in self._open:
                    raise Refused(409, f"Wrong input: Collection `{told['alias_name']}` already exists!")
                aliases[told["alias_name"]] = told["collection_name"]
        self._alias(aliases)
        return True

    def _alias(self, aliases: dict[str, str]) -> None:
        self.aliases = aliases
        (self._directory / "aliases.json").write_text(json.dumps(aliases))


class ShardCollection:
    """One collection: a shard and the parameters it was given."""

    def __init__(self, path: Path, config: Json, shard: engine.EdgeShard) -> None:
        self._path = path
        self.config = config
        self.shard = shard
        self.optimizer: Any = "ok"
        self.status = ""
        self._looks = 0
        self.pending = False

    @classmethod
    def create(cls, path: Path, wanted: Json) -> ShardCollection:
        """Create an empty one from the body of the server's request."""
        config = {**wanted, "payload_schema": {}}
        shard = _translated(lambda: engine.EdgeShard.create(str(path / "shard"), _edge_config(config)))
        made = cls(path, config, shard)
        made.keep()
        return made

    @classmethod
    def load(cls, path: Path) -> ShardCollection:
        """Open the one in a directory."""
        config = json.loads((path / "config.json").read_text())
        return cls(path, config, engine.EdgeShard.load(str(path / "shard"), _edge_config(config)))

    def keep(self) -> None:
        """Note the parameters in the directory."""
        self._path.mkdir(parents=True, exist_ok=True)
        (self._path / "config.json").write_text(json.dumps(self.config))

    def described(self) -> Json:
        """Return what `GET /collections/{name}` tells: that it is optimising, at the first look after a change."""
        status = self.status or self._at_work()
        info = self.shard.info()
        params = {"vectors": self.config.get("vectors", {}), "sparse_vectors": self.config.get("sparse_vectors")}
        return {
            "status": status,
            "optimizer_status": self.optimizer,
            "points_count": info.points_count,
            "indexed_vectors_count": info.indexed_vectors_count,
            "segments_count": info.segments_count,
            "payload_schema": self.config["payload_schema"],
            "config": {
                "params": {name: value for name, value in params.items() if value is not None},
                "hnsw_config": _SERVER_DEFAULTS,
                "optimizer_config": {
                    "deleted_threshold": 0.2,
                    "vacuum_min_vector_number": 1000,
                    "default_segment_number": 0,
                    "flush_interval_sec": 5,
                    "indexing_threshold": _THRESHOLD,
                    **self.config.get("optimizers_config", {}),
                },
                "metadata": self.config.get("metadata"),
            },
        }

    def _at_work(self) -> str:
        self._looks += 1
        if self.pending and self._looks > 1:
            self.shard.optimize()
            self.pending = False
        return "yellow" if self.pending else "green"

    def optimizations(self) -> Json:
        """Return what the optimizer does and will do."""
        queued = {"queued_segments": 0, "queued_points": 0, "idle_segments": 1}
        return {"summary": {"queued_optimizations": int(self.pending), **queued}, "running": []}

    def update(self, wanted: Json) -> bool:
        """Change the parameters; what they change is built when somebody looks."""
        for name, change in wanted.get("vectors", {}).items():
            vectors = self.config["vectors"][name]
            vectors["hnsw_config"] = {**vectors.get("hnsw_config", {}), **change.get("hnsw_config", {})}
            codes = change.get("quantization_config")
            if codes == "Disabled":
                vectors.pop("quantization_config", None)
            elif codes:
                vectors["quantization_config"] = codes
        self.config["optimizers_config"] = {
            **self.config.get("optimizers_config", {}),
            **wanted.get("optimizers_config", {}),
        }
        self.keep()
        self.shard.close()
        self.shard = engine.EdgeShard.load(str(self._path / "shard"), _edge_config(self.config))
        self._changed()
        return True

    def _changed(self) -> None:
        self.pending, self._looks = True, 0

    def index(self, field: str, schema: Json) -> Json:
        """Create a payload index."""
        kind = schema["type"]
        params = (
            engine.FloatIndexParams()
            if kind == "float"
            else engine.KeywordIndexParams(is_tenant=schema.get("is_tenant"))
        )
        self._do(engine.UpdateOperation.create_field_index(field, params))
        self.config["payload_schema"][field] = {"data_type": kind, "params": schema, "points": 0}
        self.keep()
        return _done()

    def upsert(self, points: list[Json]) -> Json:
        """Write points whole."""
        made = [engine.Point(one["id"], _vectors(one["vector"]), one.get("payload") or {}) for one in points]
        self._do(engine.UpdateOperation.upsert_points(made))
        if self._size() > self._threshold():
            self._changed()
        return _done()

    def _size(self) -> float:
        widths: int = sum(told["size"] for told in self.config["vectors"].values())
        return self.shard.info().points_count * widths * 4 / 1024

    def _threshold(self) -> float:
        optimizers: Json = self.config.get("optimizers_config", {})
        return float(optimizers.get("indexing_threshold", _THRESHOLD))

    def delete(self, where: Json) -> Json:
        """Remove the points that a filter finds."""
        found = filter_of(where)
        if found is None:
            raise Refused(400, "a filter without conditions")
        self._do(engine.UpdateOperation.delete_points_by_filter(found))
        return _done()

    def query(self, searches: list[Json]) -> list[Json]:
        """Answer a batch of queries."""
        requests = engine.QueryBatchRequest([_query(one) for one in searches])
        return [
            {"points": [_scored(point) for point in found]} for found in self._tell(self.shard.query_batch, requests)
        ]

    def retrieve(self, wanted: Json) -> list[Json]:
        """Return points by their ids."""
        flags = wanted.get("with_payload", True), wanted.get("with_vector", False)
        return [_record(record) for record in self._tell(self.shard.retrieve, wanted["ids"], *flags)]

    def scroll(self, wanted: Json) -> Json:
        """Return a page of points in the order of their ids."""
        request = engine.ScrollRequest(
            offset=wanted.get("offset"),
            limit=wanted.get("limit", 10),
            filter=filter_of(wanted.get("filter")),
            with_payload=wanted.get("with_payload", True),
            with_vector=wanted.get("with_vector", False),
        )
        records, offset = self._tell(self.shard.scroll, request)
        after = None if offset is None else str(offset)
        return {"points": [_record(record) for record in records], "next_page_offset": after}

    def count(self, wanted: Json) -> Json:
        """Count points."""
        request = engine.CountRequest(exact=wanted.get("exact", True), filter=filter_of(wanted.get("filter")))
        return {"count": self._tell(self.shard.count, request)}

    def facet(self, wanted: Json) -> Json:
        """Return the values of a field with their points."""
        request = engine.FacetRequest(wanted["key"], limit=wanted.get("limit", 10), exact=wanted.get("exact", False))
        hits = self._tell(self.shard.facet, request).hits
        return {"hits": [{"value": hit.value, "count": hit.count} for hit in hits]}

    def _do(self, operation: engine.UpdateOperation) -> None:
        self._tell(self.shard.update, operation)

    @staticmethod
    def _tell(work: Callable[..., Any], *arguments: Any) -> Any:
        return _translated(lambda: work(*arguments))


def filter_of(told: Json | None) -> engine.Filter | None:
    """Return the engine's filter for one in JSON."""
    if not told:
        return None
    return engine.Filter(
        must=[_condition(one) for one in told["must"]],
        must_not=[_condition(one) for one in told.get("must_not") or []] or None,
    )


def _condition(told: Json) -> Any:
    if "has_id" in told:
        return engine.HasIdCondition(set(told["has_id"]))
    if "has_vector" in told:
        return engine.HasVectorCondition(told["has_vector"])
    if "range" in told:
        between = engine.RangeFloat(**told["range"])
        return engine.FieldCondition(key=told["key"], range=between)
    return engine.FieldCondition(key=told["key"], match=engine.MatchAny(told["match"]["any"]))


def _query(told: Json) -> engine.QueryRequest:
    asked, params = told["query"], told.get("params") or {}
    query: Any
    if isinstance(asked, dict) and "sample" in asked:
        query = engine.Sample.Random
    else:
        query = engine.Query.Nearest(_vector(asked), using=told.get("using"))
    codes = params.get("quantization")
    return engine.QueryRequest(
        limit=told.get("limit", 10),
        query=query,
        filter=filter_of(told.get("filter")),
        params=engine.SearchParams(
            hnsw_ef=params.get("hnsw_ef"),
            exact=params.get("exact", False),
            quantization=engine.QuantizationSearchParams(**codes) if codes else None,
        ),
        with_payload=told.get("with_payload", False),
    )


def _vectors(told: Json) -> Any:
    return {name: _vector(one) for name, one in told.items()}


def _vector(told: Any) -> Any:
    return engine.SparseVector(**told) if isinstance(told, dict) else told


def _scored(point: engine.ScoredPoint) -> Json:
    found = {"id": str(point.id), "version": point.version, "score": point.score}
    return found | ({"payload": point.payload} if point.payload else {})


def _record(record: engine.Record) -> Json:
    told: Json = {"id": str(record.id)}
    if record.payload is not None:
        told["payload"] = record.payload
    if isinstance(record.vector, dict):
        told["vector"] = {name: _told_vector(one) for name, one in record.vector.items()}
    return told


def _told_vector(vector: Any) -> Any:
    if isinstance(vector, engine.SparseVector):
        return {"indices": list(vector.indices), "values": list(vector.values)}
    return list(vector)


def _edge_config(config: Mapping[str, Any]) -> engine.EdgeConfig:
    dense = {name: _dense(told) for name, told in config.get("vectors", {}).items()}
    sparse = {
        name: engine.EdgeSparseVectorParams(modifier=engine.Modifier.Idf if told.get("modifier") == "idf" else None)
        for name, told in config.get("sparse_vectors", {}).items()
    }
    threshold = config.get("optimizers_config", {}).get("indexing_threshold", _THRESHOLD)
    return engine.EdgeConfig(
        vectors=dense,
        sparse_vectors=sparse,
        optimizers=engine.EdgeOptimizersConfig(indexing_threshold=threshold),
        max_search_threads=_THREADS,
    )


def _dense(told: Json) -> engine.EdgeVectorParams:
    graph = {**_SERVER_DEFAULTS, **told.get("hnsw_config", {})}
    scalar = (told.get("quantization_config") or {}).get("scalar")
    codes = (
        engine.ScalarQuantizationConfig(type=engine.ScalarType.Int8, quantile=scalar["quantile"]) if scalar else None
    )
    return engine.EdgeVectorParams(
        size=told["size"],
        distance=getattr(engine.Distance, told["distance"]),
        hnsw_config=engine.HnswIndexConfig(**graph),
        quantization_config=codes,
    )


def _translated(work: Callable[[], Any]) -> Any:
    try:
        return work()
    except Refused:
        raise
    except Exception as error:  # the engine raises nothing narrower
        raise Refused(400, f"Wrong input: {error}") from error


def _done() -> Json:
    return {"operation_id": 1, "status": "completed"}
