"""Ingest, search and start-up speed at several sizes, black box where it counts.

`python bench/speed.py --corpus DIR [--sizes 1000,10000,100000] [--json]`: ingest rates and learning overhead on a real
corpus, search percentiles over synthetic items, memory, start-up. Cores and date are printed with the figures.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from knowledge_system.application.compose import Parts
from knowledge_system.application.system import KnowledgeSystem
from knowledge_system.domain.knowledge import Evidence, KnowledgeItem, KnowledgeType
from knowledge_system.domain.search import SearchRequest
from knowledge_system.domain.sessions import Exchange
from knowledge_system.extraction.ingestion import IngestOptions
from knowledge_system.retrieval.indexing import exchange_document, item_document
from knowledge_system.settings import load

KNOWLEDGE = Path(sys.executable).with_name("knowledge")
SUBJECTS = [
    "connection pool",
    "retry policy",
    "login form",
    "database migration",
    "cache key",
    "build image",
    "test fixture",
    "message queue",
    "search index",
    "upload handler",
    "rate limiter",
    "feature flag",
    "log rotation",
    "date parser",
]
FAULTS = [
    "times out under load",
    "fails on Windows paths",
    "loses updates",
    "leaks file handles",
    "is not idempotent",
    "breaks with unicode names",
    "runs twice after a restart",
    "ignores the configured limit",
    "blocks the event loop",
]
CURES = [
    "close it before forking",
    "take the lock around both writes",
    "normalise the path first",
    "use a monotonic clock",
    "move the call into a worker",
    "pin the version in the lock file",
    "retry with jitter",
    "wrap it in a transaction",
]
TOOLS = [
    "pytest",
    "docker",
    "postgres",
    "redis",
    "webpack",
    "cargo",
    "terraform",
    "nginx",
    "gradle",
    "sqlite",
    "kafka",
    "vite",
]


def percentiles(values: list[float]) -> dict[str, float]:
    ordered = sorted(values)
    return {
        f"p{share}": round(ordered[min(len(ordered) - 1, len(ordered) * share // 100)], 3) for share in (50, 95, 99)
    }


def memory_mb() -> float:
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1)


def start_up(runs: int = 15) -> dict[str, Any]:
    def timed(arguments: list[str]) -> float:
        began = time.perf_counter()
        subprocess.run(arguments, check=True, capture_output=True)
        return (time.perf_counter() - began) * 1000

    bare = statistics.median(timed([sys.executable, "-c", "pass"]) for _ in range(runs))
    help_times = [timed([str(KNOWLEDGE), "--help"]) for _ in range(runs)]
    return {
        "python_ms": round(bare, 1),
        "help_ms": percentiles(help_times),
        "ratio": round(statistics.median(help_times) / bare, 2),
    }


async def ingest_corpus(corpus: Path, home: Path) -> dict[str, Any]:
    """Ingest a real corpus; then embed the same texts bare, in the same run, for the ratio."""
    async with Parts(load(home), "bench") as parts:
        system = KnowledgeSystem(parts)
        await parts.model().embed(["warm up"])
        stages: dict[str, float] = {}
        began = time.perf_counter()

        def progress(stage: str, _done: int, _total: int) -> None:
            stages[stage] = time.perf_counter() - began

        document = await system.ingest([corpus], IngestOptions(), progress)
        total = time.perf_counter() - began
        findable = stages.get("words", total)
        bare, texts = await _bare(parts)
        exchanges = document["exchanges"]["new"]
        return {
            "exchanges": exchanges,
            "texts": texts,
            "findable_by_words_per_s": round(exchanges / findable, 1),
            "learned_per_s": round(exchanges / total, 1),
            "bare_embedding_s": round(bare, 2),
            "learned_embedded_indexed_s": round(total - findable, 2),
            "ratio_to_bare_embedding": round((total - findable) / bare, 3),
            "items": document["items"],
            "peak_memory_mb": memory_mb(),
        }


async def _bare(parts: Parts) -> tuple[float, int]:
    truth, model = await parts.truth(), parts.model()
    texts: set[str] = set()
    after = ""
    while owners := await truth.ledger.owners(after):
        after = owners[-1]
        exchanges, items = await truth.exchanges.get(owners), await truth.items.get(owners)
        documents = [exchange_document(one) for one in exchanges.values()] + [
            item_document(one) for one in items.values()
        ]
        texts.update(passage.text for document in documents if document.embeddable for passage in document.passages)
    listed = sorted(texts)
    began = time.perf_counter()
    for start in range(0, len(listed), 256):
        await model.embed(listed[start : start + 256])
    return time.perf_counter() - began, len(listed)


def synthetic(number: int, rng: random.Random) -> tuple[Exchange, KnowledgeItem]:
    """Return one exchange and the item that rests on it, of varied content."""
    subject, fault, cure, tool = (rng.choice(words) for words in (SUBJECTS, FAULTS, CURES, TOOLS))
    title = f"The {subject} in {tool} {fault}: {cure}"
    content = f"Problem: the {subject} of service {number} {fault} with {tool}.\nCause: case {number}.\nFix: {cure}."
    moment = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(minutes=number)
    project = f"project-{number % 12}"
    exchange = Exchange(
        f"x{number:024x}",
        f"s{number // 20}",
        number % 20,
        "bench.jsonl",
        project,
        "any",
        title,
        content,
        str(number),
        moment,
    )
    item = KnowledgeItem(
        f"k{number:024x}",
        rng.choice(list(KnowledgeType)),
        title,
        content,
        rng.uniform(0.5, 0.99),
        project,
        exchange.session_id,
        moment,
        moment,
        moment,
        (Evidence(exchange.id, "assistant", 0, 20),),
    )
    return exchange, item


async def search_at(size: int, home: Path, queries: int) -> dict[str, Any]:
    """Fill a home with `size` items and time searches in process, query embedding included."""
    rng = random.Random(size)
    async with Parts(load(home), "bench") as parts:
        truth = await parts.truth()
        for start in range(0, size, 1000):
            pairs = [synthetic(number, rng) for number in range(start, min(size, start + 1000))]
            await truth.items.load([item for _, item in pairs])
        began = time.perf_counter()
        await (await parts.indexer()).catch_up()
        indexed = time.perf_counter() - began
        system = KnowledgeSystem(parts)
        optimised = await system.index_optimize()
        questions = [
            SearchRequest(f"why does the {rng.choice(SUBJECTS)} {rng.choice(FAULTS)} with {rng.choice(TOOLS)}")
            for _ in range(queries)
        ]
        for question in questions[:20]:
            await system.search(question)
        times: dict[str, list[float]] = {"plain": [], "filtered": []}
        for question in questions:
            for name, asked in (
                ("plain", question),
                ("filtered", replace(question, types=("bug_solution",), scope=question.scope)),
            ):
                began = time.perf_counter()
                await system.search(asked)
                times[name].append((time.perf_counter() - began) * 1000)
        return {
            "items": size,
            "index_s": round(indexed, 1),
            "optimize": optimised,
            **{f"{name}_ms": percentiles(values) for name, values in times.items()},
            "peak_memory_mb": memory_mb(),
        }


def isolated(arguments: list[str]) -> Any:
    """Run one measurement in a process of its own, so that memory figures are its own."""
    done = subprocess.run([sys.executable, __file__, *arguments], check=True, capture_output=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--corpus", type=Path)
    parser.add_argument("--sizes", default="1000,10000")
    parser.add_argument("--queries", type=int, default=300)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--only", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        home = Path(scratch) / "home"
        if chosen.only == "ingest":
            print(json.dumps(asyncio.run(ingest_corpus(chosen.corpus, home))))
            return
        if chosen.only:
            print(json.dumps(asyncio.run(search_at(int(chosen.only), home, chosen.queries))))
            return
    figures: dict[str, Any] = {
        "machine": {"cores": os.cpu_count(), "python": platform.python_version(), "date": time.strftime("%Y-%m-%d")},
        "start_up": start_up(),
    }
    if chosen.corpus:
        figures["ingest"] = isolated(["--only", "ingest", "--corpus", str(chosen.corpus)])
    figures["search"] = [
        isolated(["--only", size, "--queries", str(chosen.queries)]) for size in chosen.sizes.split(",") if size
    ]
    print(json.dumps(figures, indent=None if chosen.json else 2))


if __name__ == "__main__":
    main()
