"""Why it is slow: the four rows of the guide (symptom, cause, solution), decided by what was measured just now."""

from __future__ import annotations

import math
import os
import statistics
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from knowledge_system.operations.thresholds import metric

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

Document = dict[str, Any]
Grade = Literal["ok", "slow", "unknown"]

GRAPH_FROM, GRAPH_SHARE = 13_000, 0.8
"""Vectors from which a search without the graph is slow, and the share that must be in it: as learning has it."""
LOAD_PER_PROCESSOR = 1.5
"""Runnable tasks a processor above which everybody waits."""
SWAP_SHARE = 0.25
"""Share of the swap in use above which pages that are needed are likely to be there."""
LEAST_MEMORY = 0.05
"""Share of the memory that should be available."""
FSYNC_SECONDS = 0.05
"""Seconds of a flush above which every stored exchange is felt: a disk of its own takes a tenth of that."""
FSYNCS = 5


@dataclass(frozen=True, slots=True)
class Row:
    """One row of the guide. `cause` and `solution` are those of what was measured; empty when nothing is slow."""

    area: str
    symptom: str
    grade: Grade
    measured: Mapping[str, Any]
    cause: str = ""
    solution: str = ""

    def document(self) -> Document:
        """Return the row as JSON."""
        return {
            "area": self.area,
            "symptom": self.symptom,
            "grade": self.grade,
            "measured": dict(self.measured),
            "cause": self.cause,
            "solution": self.solution,
        }


def p95(seconds: Sequence[float]) -> float | None:
    """Return the 95th percentile, None without values."""
    return sorted(seconds)[max(0, math.ceil(0.95 * len(seconds)) - 1)] if seconds else None


def spread(seconds: Sequence[float]) -> Document:
    """Return count, median, 95th percentile and longest of durations, in milliseconds."""
    if not seconds:
        return {"count": 0, "median_ms": None, "p95_ms": None, "longest_ms": None}
    longest, middle, late = max(seconds), statistics.median(seconds), p95(seconds) or 0.0
    shown = {"median_ms": middle, "p95_ms": late, "longest_ms": longest}
    return {"count": len(seconds), **{name: round(1000 * value, 2) for name, value in shown.items()}}


def embedding_row(now: Sequence[float], loaded: float, recent: Sequence[float], problem: str) -> Row:
    """Return the row of embedding: `now` as just measured, `loaded` seconds to load the model, `recent` of requests."""
    about = ("embedding", "embedding is slow")
    measured = {"text": spread(now), "loading_ms": round(1000 * loaded, 1), "recent": spread(recent)}
    if problem:
        return Row(*about, "unknown", measured, problem, "run `knowledge models verify`")
    if statistics.median(now) > metric("embedding-384").alert:
        return Row(
            *about,
            "slow",
            measured,
            "the processor is too slow or too busy for the model, or has too few threads for it",
            "see the row of the machine; else set embeddings.variant to int8, or embeddings.threads to the processors",
        )
    if loaded > 1:
        solution = "nothing: it is loaded once; a running service (`knowledge serve`) keeps it loaded for every command"
        return Row(*about, "ok", measured, "the first text waits for the model to be loaded", solution)
    return Row(*about, "ok", measured)


def search_row(now: Sequence[float], index: Document, recent: Sequence[float], problem: str) -> Row:
    """Return the row of vector search; `index` has `vectors` and `indexed_vectors`."""
    about = ("vector search", "vector search is slow")
    vectors, indexed = index.get("vectors", 0), index.get("indexed_vectors", 0)
    share = round(indexed / vectors, 4) if vectors else None
    measured = {"query": spread(now), **index, "in_graph": share, "recent": spread(recent)}
    if problem:
        return Row(*about, "unknown", measured, problem, "run `knowledge doctor index`")
    missing = vectors >= GRAPH_FROM and (share or 0) < GRAPH_SHARE
    if missing:
        cause = f"the graph (HNSW) has {indexed} of {vectors} vectors, so the others are compared one by one"
        return Row(*about, "slow", measured, cause, "run `knowledge index optimize`")
    if statistics.median(now) > metric("vector-search").target:
        cause = "not the graph: too little memory for the index, or a busy machine"
        return Row(*about, "slow", measured, cause, "see the row of the machine")
    return Row(*about, "ok", measured)


def inference_row(providers: Sequence[Document], recent: Sequence[float]) -> Row:
    """Return the row of inference; `providers` have `provider`, `problem` and `breaker`."""
    about = ("inference", "inference is slow")
    usable = [one for one in providers if not one["problem"]]
    standing = [one["provider"] for one in usable if one["breaker"] != "closed"]
    shown = {one["provider"]: one["problem"] or one["breaker"] for one in providers}
    measured = {"providers": shown, "recent": spread(recent)}
    if standing:
        cause = f"the breaker of {', '.join(standing)} is not closed: calls go to those behind it, or fail"
        return Row(
            *about,
            "slow",
            measured,
            cause,
            "see `knowledge providers status`; reset it when the provider is well again",
        )
    late = p95(recent)
    if late is not None and late > metric("inference-latency").alert:
        solution = "put a faster provider first (inference.providerPriority), or use a strategy that hedges"
        return Row(*about, "slow", measured, "the provider answers slowly", solution)
    if not usable:
        return Row(*about, "unknown", measured, "no provider can be used", "set the key of one, or run a local model")
    return Row(*about, "ok" if recent else "unknown", measured, *([] if recent else ["no model was asked lately", ""]))


@dataclass(frozen=True, slots=True)
class Machine:
    """What the machine is doing: load over a minute, processors, shares of memory and swap, seconds of a flush."""

    load: float
    processors: int
    memory_available: float
    swap_used: float
    fsync: tuple[float, ...] = field(default=())


def look(home: Path) -> Machine:
    """Look at the machine, and flush a small file in `home` a few times. Blocks."""
    import psutil  # noqa: PLC0415 -- only where somebody looks

    memory, swap = psutil.virtual_memory(), psutil.swap_memory()
    return Machine(
        load=os.getloadavg()[0],
        processors=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        memory_available=memory.available / memory.total,
        swap_used=swap.percent / 100,
        fsync=tuple(flushes(home)),
    )


def flushes(home: Path) -> list[float]:
    """Return the seconds that writing and flushing four kilobytes took, each time."""
    path, taken = home / ".fsync", []
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        for _ in range(FSYNCS):
            began = time.perf_counter()
            os.write(descriptor, bytes(4096))
            os.fsync(descriptor)
            taken.append(time.perf_counter() - began)
    finally:
        os.close(descriptor)
        path.unlink(missing_ok=True)
    return taken


def machine_row(machine: Machine) -> Row:
    """Return the row of what is slow now and then."""
    measured = {
        "load": round(machine.load, 2),
        "processors": machine.processors,
        "memory_available": round(machine.memory_available, 3),
        "swap_used": round(machine.swap_used, 3),
        "fsync": spread(machine.fsync),
    }
    found = list(_pressures(machine))
    causes, solutions = "; ".join(cause for cause, _ in found), "; ".join(solution for _, solution in found)
    return Row("machine", "it is slow now and then", "slow" if found else "ok", measured, causes, solutions)


def _pressures(machine: Machine) -> Sequence[tuple[str, str]]:
    low = machine.memory_available < LEAST_MEMORY
    found = []
    if machine.load > LOAD_PER_PROCESSOR * machine.processors:
        found.append(("more is running than there are processors", "find what runs (`top`), or add processors"))
    if low or (machine.swap_used > SWAP_SHARE and machine.memory_available < 2 * LEAST_MEMORY):
        found.append(("memory is short", "see `knowledge doctor memory`, or add memory"))
    if machine.fsync and statistics.median(machine.fsync) > FSYNC_SECONDS:
        found.append(
            ("the disk is slow to make writes durable", "move the home to a local disk, or find who else writes")
        )
    return found
