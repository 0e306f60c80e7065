"""Checks of a shard's contents and of its recall. Run in a child process, where an abort is a finding."""

from __future__ import annotations

import uuid
from array import array
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from knowledge_system.domain.index import IndexFilter, IndexPoint, IndexQuery
from knowledge_system.storage.edge_engine import DENSE, WORDS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

    from knowledge_system.domain.embedding import Vector
    from knowledge_system.storage.edge_engine import Shard

_MOST_PROBLEMS: Final = 20
_UNIT_TOLERANCE: Final = 1e-3
"""Rounding of float32 norms stays below 1e-5; a flipped bit that matters moves them more."""
_PROBES_A_PIECE: Final = 20
"""Points of each thousand read that must be found by their own vectors: broken graphs and postings show up there."""
CANARY_QUERIES: Final = 100
FILTERED_QUERIES: Final = 30
_TOP: Final = 10
_NOISE: Final = 0.5
"""Length of the random vector added to half of the canary's queries: a cosine of about .9 to the stored passage."""
_CLASSES: Final[dict[str, Callable[[str], IndexFilter]]] = {
    "kind": lambda value: IndexFilter(kinds=(value,)),
    "type": lambda value: IndexFilter(types=(value,)),
    "project": lambda value: IndexFilter(projects=(value,)),
    "view": lambda value: IndexFilter(views=(value,)),
    "status": lambda value: IndexFilter(statuses=(value,)),
}


@dataclass(slots=True)
class Contents:
    """What a full scan of a shard found."""

    points: int = 0
    vectors: int = 0
    words: int = 0
    problems: list[str] = field(default_factory=list)
    values: dict[str, Counter[str]] = field(default_factory=lambda: {name: Counter() for name in _CLASSES})


def check_contents(shard: Shard) -> Contents:
    """Read every point and check ids, payloads, vectors and counts."""
    found = Contents()
    for records in shard.scroll(vectors=True):
        for record in records:
            _check(record, shard.dimension, found)
        _check_found(shard, records[:: max(1, len(records) // _PROBES_A_PIECE)], found)
    counts = shard.counts()
    for name, counted, read in (
        ("points", counts.points, found.points),
        ("vectors", counts.vectors, found.vectors),
        ("sparse vectors", counts.words, found.words),
    ):
        if counted != read:
            found.problems.append(f"the engine counts {counted} {name}, reading finds {read}")
    for name in _CLASSES:
        if (indexed := shard.values(name)) != (stored := dict(found.values[name])):
            found.problems.append(f"the index of {name} has {sum(indexed.values())} points, not {sum(stored.values())}")
    del found.problems[_MOST_PROBLEMS:]
    return found


def _check(record: Any, dimension: int, found: Contents) -> None:
    found.points += 1
    vectors = record.vector or {}
    dense, sparse = vectors.get(DENSE), vectors.get(WORDS)
    found.vectors += dense is not None
    found.words += sparse is not None
    for name, counter in found.values.items():
        counter.update([record.payload[name]] if name in (record.payload or {}) else ())
    if len(found.problems) < _MOST_PROBLEMS:
        found.problems.extend(
            f"point {record.id}: {problem}" for problem in problems_of(record, dimension, dense, sparse)
        )


def _check_found(shard: Shard, records: Sequence[Any], found: Contents) -> None:
    for record in records if len(found.problems) < _MOST_PROBLEMS else ():
        lost = [name for name in (DENSE, WORDS) if name in (record.vector or {}) and not shard.finds(record, name)]
        found.problems.extend(f"point {record.id}: a search for its own {name} does not find it" for name in lost)


def problems_of(record: Any, dimension: int, dense: Sequence[float] | None, sparse: Any) -> Iterator[str]:
    """Yield what is wrong with a stored point: its id, its facts, its vectors."""
    facts = record.payload or {}
    owner, ordinal, view = facts.get("owner_id"), facts.get("ordinal"), facts.get("view")
    if not isinstance(owner, str) or not isinstance(ordinal, int) or not isinstance(view, str):
        yield "owner, ordinal or view is missing"
    elif uuid.UUID(str(record.id)) != uuid.UUID(IndexPoint(owner, ordinal, view, None).id):
        yield "its id does not belong to its owner and ordinal"
    if dense is not None:
        norm = float(np.linalg.norm(np.asarray(dense, np.float32)))
        if len(dense) != dimension or not (abs(norm - 1) < _UNIT_TOLERANCE or norm == 0):
            yield f"its vector has {len(dense)} values and length {norm:.3g}"
    if sparse is not None and not (np.asarray(sparse.values) > 0).all():
        yield "a weight of its words is not positive"


def canary(shard: Shard, seed: int = 0) -> dict[str, float]:
    """Return recall@10 against exact search, by class: `all` and one or two values of every filter field.

    A hit counts when its score reaches the score of the tenth exact hit, so ties do not look like losses.
    """
    rng = np.random.default_rng(seed)
    values = _filter_values(shard)
    classes = {"all": IndexFilter()}
    for name, restricted_to in _CLASSES.items():
        for value in values.get(name, ()):
            classes[f"{name}={value}"] = restricted_to(value)
    samples = _sample(shard, rng)
    if not len(samples):
        return {"all": 1.0}
    return {
        name: _recall(shard, samples[: CANARY_QUERIES if name == "all" else FILTERED_QUERIES], where)
        for name, where in classes.items()
    }


def _filter_values(shard: Shard) -> dict[str, list[str]]:
    """Return the most frequent and the median value of each filter field."""
    chosen: dict[str, list[str]] = {}
    for name in _CLASSES:
        values = list(shard.values(name))
        chosen[name] = list(dict.fromkeys([values[0], values[len(values) // 2]])) if values else []
    return chosen


def _sample(shard: Shard, rng: np.random.Generator) -> NDArray[np.float32]:
    """Return stored vectors chosen at random, every second one moved by noise."""
    ids = [record.id for records in shard.scroll() for record in records]
    chosen = [ids[i] for i in rng.permutation(len(ids))[: 3 * CANARY_QUERIES]]
    dense = shard.vectors_of(chosen)[:CANARY_QUERIES]
    samples = np.asarray(dense, np.float32).reshape(-1, shard.dimension)
    noise = rng.normal(size=samples.shape).astype(np.float32)
    noise *= _NOISE / np.maximum(np.linalg.norm(noise, axis=1, keepdims=True), 1e-9)
    samples[::2] += noise[::2]
    return samples


def _recall(shard: Shard, samples: NDArray[np.float32], where: IndexFilter) -> float:
    queries = [IndexQuery(_TOP, vector=_vector(sample), where=where) for sample in samples]
    got, right, wanted = shard.query(queries), 0, 0
    for found, exact in zip(got, shard.query(queries, exact=True), strict=True):
        wanted += len(exact.scores)
        right += sum(1 for score in found.scores if exact.scores and score >= exact.scores[-1] - 1e-6)
    return min(1.0, right / wanted) if wanted else 1.0


def _vector(sample: NDArray[np.float32]) -> Vector:
    return array("f", np.ascontiguousarray(sample, np.float32).tobytes())
