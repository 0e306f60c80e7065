"""How fast a corpus becomes findable by words: read, redacted, stored, indexed; each run in a fresh process and home.

`python bench/ingest.py --corpus DIR [--runs 5] [--cores 2] [--alone]`: exchanges a second, seconds until each stage was
done, processor time of this process and of the child that reads ahead; `--alone` without that child. The clock starts
before the database exists, and the model is loaded already, as in `bench/speed.py`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from knowledge_system.application.compose import Parts
from knowledge_system.application.following import read_in
from knowledge_system.application.system import KnowledgeSystem
from knowledge_system.extraction.ingestion import Ingestion, IngestOptions, IngestTally
from knowledge_system.settings import load


async def read_alone(parts: Parts, corpus: Path) -> IngestTally:
    """Read in this process alone, the index closed until the end."""
    ingestion = Ingestion(parts.reader(), parts.gatekeeper(), await parts.truth(), parts.emit)
    return await ingestion.run([corpus], IngestOptions())


async def measure(corpus: Path, home: Path, *, alone: bool) -> dict[str, Any]:
    async with Parts(load(home), "bench") as parts:
        await parts.model().embed(["warm up"])
        before, began = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
        parts.own()
        if alone:
            tally = await read_alone(parts, corpus)
        else:
            tally = await read_in(parts, [corpus], IngestOptions(), lambda *_: None)
        stored = time.perf_counter() - began
        await KnowledgeSystem(parts).index_words()
        findable = time.perf_counter() - began
        after, child = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
        return {
            "exchanges": tally.new,
            "findable_per_s": round(tally.new / findable, 1),
            "stored_s": round(stored, 2),
            "findable_s": round(findable, 2),
            "cpu_s": round(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, 2),
            "child_cpu_s": round(child.ru_utime + child.ru_stime, 2),
            "peak_memory_mb": round(after.ru_maxrss / 1024),
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--cores", type=int, default=2)
    parser.add_argument("--alone", action="store_true")
    parser.add_argument("--once", action="store_true", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.once:
        with tempfile.TemporaryDirectory() as scratch:
            print(json.dumps(asyncio.run(measure(chosen.corpus, Path(scratch) / "home", alone=chosen.alone))))
        return
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[-chosen.cores :])
    command = [sys.executable, __file__, "--once", "--corpus", str(chosen.corpus), *["--alone"] * chosen.alone]
    runs = [
        json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        for _ in range(chosen.runs)
    ]
    median = {name: statistics.median(run[name] for run in runs) for name in runs[0]}
    best = max(run["findable_per_s"] for run in runs)
    print(json.dumps({"cores": chosen.cores, "load": os.getloadavg()[0], "best_per_s": best, **median}, indent=2))


if __name__ == "__main__":
    main()
