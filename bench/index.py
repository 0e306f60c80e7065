"""Measure the embedded index on synthetic clustered vectors: latency, recall against exact search, build, memory, disk.

`python bench/index.py [--sizes 1000,10000,100000] [--dimension 384] [--queries 300] [--json]`

Vectors lie around 200 topic centres of rank 64, which is what embeddings of sessions look like; i.i.d. noise, the worst
case of any graph, is not. Words are drawn by Zipf's law. The filter keeps 15 % of the points. Every size is measured in
a process of its own, so memory is the memory of that size.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from array import array
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from knowledge_system.domain.embedding import EmbeddingSpace
from knowledge_system.domain.index import IndexFilter, IndexPoint, IndexQuery
from knowledge_system.storage.edge import EdgeIndex

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from numpy.typing import NDArray

FILTERED = IndexFilter(types=("testing_strategy",))
PIECE = 2000
TOP = 10


class Corpus:
    """Deterministic points of one size, made piece by piece."""

    def __init__(self, size: int, dimension: int) -> None:
        self.size, self.dimension = size, dimension
        rng = np.random.default_rng(1)
        self._centres = rng.normal(size=(200, 64)) @ rng.normal(size=(64, dimension))
        self._centres /= np.linalg.norm(self._centres, axis=1, keepdims=True)
        self.filtered = rng.random(size) < 0.15
        self.matrix = self.sample(size, seed=2)
        self._words = rng.zipf(1.2, size=(size, 60)) % 50_000

    def sample(self, count: int, seed: int) -> NDArray[np.float32]:
        """Return unit vectors around the centres."""
        rng = np.random.default_rng(seed)
        noise = rng.normal(size=(count, self.dimension)) * (0.7 / self.dimension**0.5)
        vectors: NDArray[np.float32] = (self._centres[rng.integers(200, size=count)] + noise).astype(np.float32)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        return vectors

    async def pieces(self) -> AsyncIterator[Sequence[IndexPoint]]:
        """Yield every point."""
        for start in range(0, self.size, PIECE):
            yield [self.point(number) for number in range(start, min(start + PIECE, self.size))]

    def point(self, number: int) -> IndexPoint:
        """Return one point with its words and facts."""
        words = " ".join(f"term{word}" for word in self._words[number])
        kind = "testing_strategy" if self.filtered[number] else f"type{number % 8}"
        payload: dict[str, str | float | bool] = {"kind": "item", "type": kind, "project": f"p{number % 12}"}
        payload |= {"status": "active", "created": float(number)}
        return IndexPoint(f"o{number:07d}", 0, "whole", as_vector(self.matrix[number]), words, payload)

    def word_query(self, number: int) -> str:
        """Return the first eight words of some point."""
        return " ".join(f"term{word}" for word in self._words[number * 7 % self.size][:8])

    def exact(self, query: NDArray[np.float32], *, filtered: bool) -> float:
        """Return the score of the tenth best point."""
        scores = self.matrix @ query
        scores = scores[self.filtered] if filtered else scores
        return float(np.sort(scores)[-TOP])


def as_vector(values: NDArray[np.float32]) -> array[float]:
    return array("f", np.ascontiguousarray(values, np.float32).tobytes())


def megabytes_resident() -> float:
    status = Path("/proc/self/status")
    if not status.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    line = next(line for line in status.read_text().splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) / 1024


async def timed(index: EdgeIndex, queries: list[IndexQuery]) -> tuple[dict[str, float], list[list[float]]]:
    took, scores = [], []
    for query in queries:
        started = time.perf_counter()
        (hits,) = await index.query([query])
        took.append((time.perf_counter() - started) * 1000)
        scores.append([hit.score for hit in hits])
    p50, p95, p99 = np.percentile(took[len(took) // 10 :], [50, 95, 99])
    return {"p50_ms": round(p50, 2), "p95_ms": round(p95, 2), "p99_ms": round(p99, 2)}, scores


async def measure_searches(index: EdgeIndex, corpus: Corpus, count: int) -> dict[str, Any]:
    samples = corpus.sample(count, seed=3)
    measured: dict[str, Any] = {}
    for name, where in (("dense", IndexFilter()), ("filtered", FILTERED)):
        queries = [IndexQuery(TOP, vector=as_vector(sample), where=where) for sample in samples]
        measured[name], scores = await timed(index, queries)
        bounds = [corpus.exact(sample, filtered=name == "filtered") - 1e-5 for sample in samples]
        found = sum(score >= bound for hits, bound in zip(scores, bounds, strict=True) for score in hits)
        measured[name]["recall"] = round(found / (TOP * count), 4)
    measured["words"], _ = await timed(index, [IndexQuery(TOP, words=corpus.word_query(n)) for n in range(count)])
    return measured


async def measure(directory: Path, size: int, dimension: int, count: int) -> dict[str, Any]:
    corpus, space = Corpus(size, dimension), EmbeddingSpace("bench", dimension, "1")
    before = megabytes_resident()
    index = await EdgeIndex.open(directory, space)
    started = time.perf_counter()
    async for points in corpus.pieces():
        await index.apply(points)
    await index.flush()
    result: dict[str, Any] = {"size": size, "dimension": dimension, "load_s": round(time.perf_counter() - started, 1)}
    result["exact"] = await measure_searches(index, corpus, count)
    report = await index.optimize()
    result |= {"optimize_s": round(report.seconds, 1), "canary": round(report.recall, 4), "swapped": report.swapped}
    await index.close()
    started = time.perf_counter()
    index = await EdgeIndex.open(directory, space)
    result["open_s"] = round(time.perf_counter() - started, 2)
    result["optimized"] = await measure_searches(index, corpus, count)
    started = time.perf_counter()
    await index.owners(limit=1)
    result["owners_s"] = round(time.perf_counter() - started, 2)
    status = await index.status()
    result |= {"disk_mb": round(status.bytes_on_disk / 2**20), "memory_mb": round(megabytes_resident() - before)}
    result |= {"points": status.points, "graph_vectors": status.indexed_vectors}
    started = time.perf_counter()
    verified = await index.verify()
    result |= {"verify_s": round(time.perf_counter() - started, 1), "verified": verified.ok}
    await index.close()
    return result


def show(result: dict[str, Any]) -> None:
    facts = {name: value for name, value in result.items() if not isinstance(value, dict)}
    print(" ".join(f"{name}={value}" for name, value in facts.items()))
    for phase in ("exact", "optimized"):
        for name, row in result[phase].items():
            print(f"  {phase:9} {name:8} " + " ".join(f"{key}={value}" for key, value in row.items()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--sizes", default="1000,10000,100000")
    parser.add_argument("--dimension", type=int, default=384)
    parser.add_argument("--queries", type=int, default=300)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--only", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.only:
        with tempfile.TemporaryDirectory(prefix="bench-index-") as name:
            print(json.dumps(asyncio.run(measure(Path(name), arguments.only, arguments.dimension, arguments.queries))))
        return
    results = []
    for size in map(int, arguments.sizes.split(",")):
        command = [sys.executable, __file__, "--only", str(size), "--dimension", str(arguments.dimension)]
        child = subprocess.run([*command, "--queries", str(arguments.queries)], check=True, stdout=subprocess.PIPE)
        results.append(json.loads(child.stdout))
        if not arguments.json:
            show(results[-1])
    if arguments.json:
        print(json.dumps({"load": os.getloadavg()[0], "results": results}))


if __name__ == "__main__":
    main()
