"""Measure what the index in a process of its own costs: the same searches in this process and through the hop.

`python bench/index_process.py [--points 10000] [--dimension 384] [--queries 400] [--limit 200] [--home DIR] [--json]`

The points are those of `bench/index.py`. A search asks for `--limit` hits, as the system does. The two indexes are
asked in turns of `TURN` queries, so that what else the machine does meets both. Throughput is that of `CLIENTS`
searches at a time, with a thread of this process computing beside them too: a service does more than searching.
With `--home` whole searches of a copy of a filled home are measured instead, each way twice.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import tempfile
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent))
from index import Corpus, as_vector
from knowledge_system import settings
from knowledge_system.application.compose import Parts
from knowledge_system.application.system import KnowledgeSystem
from knowledge_system.domain.embedding import EmbeddingSpace
from knowledge_system.domain.index import IndexQuery
from knowledge_system.domain.search import SearchRequest
from knowledge_system.storage.edge import EdgeIndex
from knowledge_system.storage.index_supervised import SupervisedIndex

if TYPE_CHECKING:
    from collections.abc import Sequence

Index = EdgeIndex | SupervisedIndex
TURN = 20
CLIENTS = 8
WARM_UP = 40
QUESTIONS = (
    "connection pool exhausted",
    "retry with backoff",
    "flaky test in the pipeline",
    "image build without cache",
    "database is locked",
    "missing cross-origin header",
    "memory of a worker grows",
)


async def timed(indexes: dict[str, Index], queries: Sequence[IndexQuery]) -> dict[str, dict[str, float]]:
    """Return the percentiles of one search at a time, in milliseconds."""
    took: dict[str, list[float]] = {name: [] for name in indexes}
    for start in range(0, len(queries), TURN):
        for name, index in indexes.items():
            for query in queries[start : start + TURN]:
                began = time.perf_counter()
                await index.query([query])
                took[name].append((time.perf_counter() - began) * 1000)
    return {name: percentiles(values[WARM_UP:]) for name, values in took.items()}


def percentiles(values: Sequence[float]) -> dict[str, float]:
    p50, p95, p99 = np.percentile(values, [50, 95, 99])
    return {"p50_ms": round(float(p50), 2), "p95_ms": round(float(p95), 2), "p99_ms": round(float(p99), 2)}


async def throughput(index: Index, queries: Sequence[IndexQuery]) -> float:
    """Return searches per second with `CLIENTS` of them under way."""
    left = iter(queries)

    async def client() -> None:
        for query in left:
            await index.query([query])

    began = time.perf_counter()
    await asyncio.gather(*(client() for _ in range(CLIENTS)))
    return round(len(queries) / (time.perf_counter() - began), 1)


async def responsiveness(index: Index, queries: Sequence[IndexQuery]) -> dict[str, float]:
    """Return how late the event loop of this process wakes up while `CLIENTS` searches are always under way."""
    late: list[float] = []
    searching = asyncio.create_task(throughput(index, queries))
    while not searching.done():
        began = time.perf_counter()
        await asyncio.sleep(0.001)
        late.append((time.perf_counter() - began - 0.001) * 1000)
    return percentiles(late)


async def both(indexes: dict[str, Index], queries: Sequence[IndexQuery]) -> dict[str, Any]:
    measured: dict[str, Any] = {"one_at_a_time": await timed(indexes, queries)}
    measured["per_second"] = {name: await throughput(index, queries) for name, index in indexes.items()}
    measured["loop_late"] = {name: await responsiveness(index, queries) for name, index in indexes.items()}
    over = threading.Event()
    busy = threading.Thread(target=compute, args=(over,))
    busy.start()
    measured["per_second_beside_a_busy_thread"] = {
        name: await throughput(index, queries) for name, index in indexes.items()
    }
    measured["one_at_a_time_beside_a_busy_thread"] = await timed(indexes, queries)
    over.set()
    busy.join()
    return measured


def compute(over: threading.Event) -> None:
    while not over.is_set():
        sum(range(1000))


async def opened(directory: Path, space: EmbeddingSpace, took: dict[str, float] | None = None) -> dict[str, Index]:
    indexes: dict[str, Index] = {}
    for name, kind in (("inline", EdgeIndex), ("child", SupervisedIndex)):
        began = time.perf_counter()
        indexes[name] = await kind.open(directory / name, space)
        if took is not None:
            took[name] = round(time.perf_counter() - began, 2)
    return indexes


async def loaded(index: Index, corpus: Corpus) -> float:
    """Write every point, named as the system names owners, and return how long that took."""
    began, number = time.perf_counter(), 0
    async for points in corpus.pieces():
        await index.apply([replace(one, owner_id=f"k{number + place:024x}") for place, one in enumerate(points)])
        number += len(points)
    await index.flush()
    return round(time.perf_counter() - began, 2)


async def measure(directory: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    corpus, space = Corpus(arguments.points, arguments.dimension), EmbeddingSpace("bench", arguments.dimension, "1")
    result: dict[str, Any] = {"points": arguments.points, "dimension": arguments.dimension, "limit": arguments.limit}
    indexes = await opened(directory, space)
    result["load_s"] = {name: await loaded(index, corpus) for name, index in indexes.items()}
    for index in indexes.values():
        await index.close()
    result["open_s"] = {}
    indexes = await opened(directory, space, result["open_s"])
    samples = corpus.sample(arguments.queries, seed=3)
    result["dense"] = await both(indexes, [IndexQuery(arguments.limit, vector=as_vector(one)) for one in samples])
    words = [IndexQuery(60, words=corpus.word_query(number)) for number in range(arguments.queries)]
    result["words"] = {"one_at_a_time": await timed(indexes, words)}
    child = indexes["child"]
    if isinstance(child, SupervisedIndex):
        result["child_rss_mb"] = round((child.process().rss_bytes or 0) / 2**20)
    for index in indexes.values():
        await index.close()
    return result


async def whole(home: Path, count: int, *, apart: bool) -> dict[str, float]:
    """Measure whole searches of a home: questions that no cache knows."""
    took: list[float] = []
    async with Parts(settings.load(home, environ={}), "bench") as parts:
        parts.resident = apart
        system = KnowledgeSystem(parts)
        for number in range(count):
            began = time.perf_counter()
            await system.search(SearchRequest(f"{QUESTIONS[number % len(QUESTIONS)]} {number}"))
            took.append((time.perf_counter() - began) * 1000)
        left = iter(range(count))

        async def client() -> None:
            for number in left:
                await system.search(SearchRequest(f"{QUESTIONS[number % len(QUESTIONS)]} again {number}"))

        began = time.perf_counter()
        await asyncio.gather(*(client() for _ in range(CLIENTS)))
        per_second = round(count / (time.perf_counter() - began), 1)
    return {**percentiles(took[WARM_UP:]), "per_second": per_second}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--points", type=int, default=10_000)
    parser.add_argument("--dimension", type=int, default=384)
    parser.add_argument("--queries", type=int, default=400)
    parser.add_argument("--limit", type=int, default=200)
    parser.add_argument("--home", type=Path, help="Measure whole searches of this home; use a copy.")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    result: dict[str, Any] = {}
    if arguments.home:
        for number in range(2):
            for name, apart in (("inline", False), ("child", True)):
                result[f"{name} {number + 1}"] = asyncio.run(whole(arguments.home, arguments.queries, apart=apart))
    else:
        with tempfile.TemporaryDirectory(prefix="bench-index-process-") as name:
            result = asyncio.run(measure(Path(name), arguments))
    result["load_average"] = round(os.getloadavg()[0], 1)
    print(json.dumps(result, indent=None if arguments.json else 2))


if __name__ == "__main__":
    main()
