"""Ingest, search and start-up speed at several sizes, black box where it counts.

`python bench/speed.py [--corpus DIR] [--sizes 1000,10000,100000] [--homes DIR] [--large-mb 1000] [--json]`: ingest
rates and learning overhead on a real corpus, search percentiles over synthetic items, memory, start-up. With `--homes`
the filled homes are kept there and found again: filling one of 100,000 items takes minutes, measuring it seconds.
`--exchanges` adds the exchanges that the items rest on, so that there are twice as many entries. Cores and date are
printed with the figures.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from knowledge_system.application.compose import Parts
from knowledge_system.application.system import KnowledgeSystem
from knowledge_system.domain.search import SearchRequest
from knowledge_system.extraction.ingestion import IngestOptions
from knowledge_system.retrieval.indexing import exchange_document, item_document
from knowledge_system.settings import load
from large_file import ingest_large
from synthetic import fill, questions

KNOWLEDGE = Path(sys.executable).with_name("knowledge")
WARM_UP = 20
QUIET = 1.25
"""A search was undisturbed when fixed work just before and after it took at most so many times its shortest time."""


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


async def search_at(size: int, home: Path, queries: int, *, exchanges: bool) -> dict[str, Any]:
    """Time searches in process over `size` items, query embedding included; `home` is filled when it is new.

    Every question is new, so no cache knows its vector. Besides the time that passed there is the processor time of the
    whole process, and the time of those searches during which the machine was undisturbed: fixed work of about half a
    millisecond is timed between searches.
    """
    new = not (home / "analytics.db").exists()
    async with Parts(load(home), "bench") as parts:
        built = await fill(parts, size, exchanges=exchanges) if new else "found"
        system, asked = KnowledgeSystem(parts), iter(questions(WARM_UP + 2 * queries, size))
        for _ in range(WARM_UP):
            await system.search(SearchRequest(next(asked)))
        plain, filtered = [], []
        for _ in range(queries):
            plain.append(await timed(system, SearchRequest(next(asked))))
            filtered.append(await timed(system, SearchRequest(next(asked), types=("bug_solution",))))
        status = await (await parts.index()).status()
        return {
            "items": size,
            "with_exchanges": exchanges,
            "points": status.points,
            "in_graph": status.indexed_vectors,
            "built": built,
            "plain": summary(plain),
            "filtered": summary(filtered),
            "load": [round(one, 1) for one in os.getloadavg()],
            "peak_memory_mb": memory_mb(),
        }


async def timed(system: KnowledgeSystem, request: SearchRequest) -> tuple[float, float, float]:
    """Return the milliseconds of a search, those of processor time, and the longer of two runs of fixed work."""
    before, spent, began = fixed_work(), time.process_time(), time.perf_counter()
    await system.search(request)
    took, spent = (time.perf_counter() - began) * 1000, (time.process_time() - spent) * 1000
    return took, spent, max(before, fixed_work())


def fixed_work() -> float:
    """Return the milliseconds that a fixed piece of work takes now."""
    began = time.perf_counter()
    sum(number * number for number in range(6_000))
    return (time.perf_counter() - began) * 1000


def summary(runs: list[tuple[float, float, float]]) -> dict[str, Any]:
    shortest = min(work for _, _, work in runs)
    calm = [took for took, _, work in runs if work <= QUIET * shortest]
    return {
        "ms": percentiles([took for took, _, _ in runs]),
        "processor_ms": percentiles([spent for _, spent, _ in runs]),
        "undisturbed_ms": percentiles(calm) if calm else None,
        "undisturbed": f"{len(calm)} of {len(runs)}",
    }


def isolated(arguments: list[str]) -> Any:
    """Run one measurement in a process of its own, so that memory figures are its own."""
    done = subprocess.run([sys.executable, __file__, *arguments], check=True, capture_output=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", type=Path)
    parser.add_argument("--sizes", default="1000,10000")
    parser.add_argument("--queries", type=int, default=300)
    parser.add_argument(
        "--homes", type=Path, help="keep the filled homes in this directory, and use those that are there"
    )
    parser.add_argument("--exchanges", action="store_true")
    parser.add_argument("--large-mb", type=int, help="ingest a generated file of so many MB and tell the peak memory")
    parser.add_argument("--large-exchange-kb", type=int, default=100)
    parser.add_argument("--learn", action="store_true", help="also learn from the large file")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--only", help=argparse.SUPPRESS)
    return parser.parse_args()


def one_part(chosen: argparse.Namespace, scratch: Path) -> dict[str, Any]:
    """Measure what `--only` names: `ingest`, `large`, or a number of items."""
    if chosen.only == "ingest":
        return asyncio.run(ingest_corpus(chosen.corpus, scratch / "home"))
    if chosen.only == "large":
        return ingest_large(scratch, chosen.large_mb, chosen.large_exchange_kb, learn=chosen.learn)
    home = (chosen.homes or scratch) / f"items-{chosen.only}{'-exchanges' if chosen.exchanges else ''}"
    return asyncio.run(search_at(int(chosen.only), home, chosen.queries, exchanges=chosen.exchanges))


def main() -> None:
    chosen = arguments()
    if chosen.only:
        with tempfile.TemporaryDirectory() as scratch:
            print(json.dumps(one_part(chosen, Path(scratch))))
        return
    figures: dict[str, Any] = {
        "machine": {"cores": os.cpu_count(), "python": platform.python_version(), "date": time.strftime("%Y-%m-%d")},
        "start_up": start_up(),
    }
    given = sys.argv[1:]
    if chosen.corpus:
        figures["ingest"] = isolated([*given, "--only", "ingest"])
    if chosen.large_mb:
        figures["large_file"] = isolated([*given, "--only", "large"])
    figures["search"] = [isolated([*given, "--only", size]) for size in chosen.sizes.split(",") if size]
    print(json.dumps(figures, indent=None if chosen.json else 2))


if __name__ == "__main__":
    main()
