"""Points and vectors that the index tests and their child processes share."""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING

import numpy as np

from knowledge_system.domain.embedding import EmbeddingSpace
from knowledge_system.domain.index import IndexPoint

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from knowledge_system.domain.embedding import Vector

SPACE = EmbeddingSpace("sample-model", 16, "r1")
TYPES = ("bug_solution", "coding_pattern", "tool_usage")
PROJECTS = ("api", "web", "cli", "docs")


def as_vector(values: NDArray[np.floating] | Sequence[float]) -> Vector:
    unit = np.asarray(values, np.float32)
    return array("f", (unit / max(float(np.linalg.norm(unit)), 1e-9)).astype(np.float32).tobytes())


def axis(number: int, dimension: int = SPACE.dimension) -> Vector:
    return as_vector([1.0 if place == number else 0.0 for place in range(dimension)])


def clustered(count: int, dimension: int, seed: int = 0, clusters: int = 120) -> NDArray[np.float32]:
    """Return unit vectors around topic centres of low rank, which is what embeddings of sessions look like."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(clusters, 64)) @ rng.normal(size=(64, dimension))
    centres /= np.linalg.norm(centres, axis=1, keepdims=True)
    noise = rng.normal(size=(count, dimension)) * (0.7 / dimension**0.5)
    vectors = (centres[rng.integers(clusters, size=count)] + noise).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def make_points(
    count: int, *, start: int = 0, dimension: int = SPACE.dimension, tag: str = "first"
) -> list[IndexPoint]:
    """Return `count` points of owners with two passages each, all of their facts derived from their number."""
    vectors = clustered(count, dimension, seed=start)
    return [
        IndexPoint(
            owner_id=f"owner-{number // 2:06d}",
            ordinal=number % 2,
            view=tag,
            vector=as_vector(vector),
            words=f"passage number{number} about topic{number % 7}",
            payload=facts(number),
        )
        for number, vector in enumerate(vectors, start)
    ]


def facts(number: int) -> dict[str, str | float | bool]:
    return {
        "kind": "item" if number % 3 else "exchange",
        "type": TYPES[number % len(TYPES)],
        "project": PROJECTS[number % len(PROJECTS)],
        "status": "active",
        "intent": "debugging",
        "created": float(number),
    }


def generations_in(directory: Path) -> list[str]:
    """Return the names of the generations of the only collection in `directory`."""
    (root,) = (path for path in directory.iterdir() if path.is_dir())
    return sorted(path.name for path in root.iterdir() if path.is_dir())


async def stream(points: Sequence[IndexPoint], piece: int = 300) -> AsyncIterator[Sequence[IndexPoint]]:
    for start in range(0, len(points), piece):
        yield points[start : start + piece]
