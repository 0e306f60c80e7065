"""What this process has in memory: samples over time, and what it is made of. Types and counts, no content."""

from __future__ import annotations

import gc
import json
import os
import tracemalloc
from collections import Counter
from dataclasses import asdict, dataclass
from datetime import timedelta
from itertools import chain
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime
    from pathlib import Path

EVERY = 60
"""Seconds between two samples (operations guide, R320)."""
KEPT = 24 * 3600 // EVERY
"""Samples that are kept: a day."""
SNAPSHOTS = 5
"""Snapshots that are kept; the oldest goes first (D61)."""
ONE_IN = timedelta(hours=1)
"""Time within which there is one snapshot at most, whichever process makes it (D61)."""
SHOWN = 15
LEAST_SAMPLES = 30
"""Samples, half an hour, below which nothing is said about growth: a service that has just started grows."""
GROWTH = 0.1
"""Share of the memory in use by which an hour adds to it when something is not given back."""


@dataclass(frozen=True, slots=True)
class Sample:
    """Bytes at one moment: resident, and allocated by Python where `tracemalloc` runs; objects the collector knows."""

    at: str
    pid: int
    rss: int
    traced: int | None
    traced_peak: int | None
    gc_objects: int


def resident() -> int:
    """Return the bytes of this process that are resident."""
    import psutil  # noqa: PLC0415 -- only where somebody looks

    return int(psutil.Process().memory_info().rss)


def sample(at: str) -> Sample:
    """Return the memory of this process. Takes milliseconds."""
    traced, peak = tracemalloc.get_traced_memory() if tracemalloc.is_tracing() else (None, None)
    return Sample(at, os.getpid(), resident(), traced, peak, objects())


def objects() -> int:
    """Return how many objects the collector knows. Stops everything else for some milliseconds.

    In one call of C, in which no other thread runs: a tuple that another thread is still filling (`tuple(x for …)`) is
    known to the collector, and one more reference to it fails that thread with a SystemError (CPython issue 59313).
    """
    return next(map(len, map(gc.get_objects, (None,))))


def types(most: int = SHOWN) -> list[dict[str, Any]]:
    """Return the most numerous types of objects. Stops everything else for some tens of milliseconds.

    In one call of C, as `objects`, and therefore without sizes: to measure an object is to hold it while others go on.
    """
    counts = Counter(list(map(type, chain.from_iterable(map(gc.get_objects, (None,))))))
    return [{"type": f"{one.__module__}.{one.__qualname__}", "count": count} for one, count in counts.most_common(most)]


def allocations(most: int = SHOWN) -> list[dict[str, Any]] | None:
    """Return the lines of code that have allocated most; None without `tracemalloc` (PYTHONTRACEMALLOC=1)."""
    if not tracemalloc.is_tracing():
        return None
    found = tracemalloc.take_snapshot().statistics("lineno")[:most]
    return [{"place": str(one.traceback), "bytes": one.size, "count": one.count} for one in found]


def growth(samples: Sequence[Sample]) -> dict[str, Any]:
    """Return how memory moved over the samples of the last one's process; None where they are too few to say."""
    own = [one for one in samples if samples and one.pid == samples[-1].pid]
    enough = len(own) >= LEAST_SAMPLES
    return {
        "samples": len(own),
        "since": own[0].at if own else None,
        "rss_first": own[0].rss if own else None,
        "rss_last": own[-1].rss if own else None,
        "rss_peak": max((one.rss for one in own), default=None),
        "rss_per_hour": round(_slope([one.rss for one in own]) * 3600 / EVERY) if enough else None,
        "gc_objects_per_hour": round(_slope([one.gc_objects for one in own]) * 3600 / EVERY) if enough else None,
    }


def _slope(values: Sequence[int]) -> float:
    """Return the least-squares slope a step."""
    middle, mean = (len(values) - 1) / 2, sum(values) / len(values)
    spread = sum((place - middle) ** 2 for place in range(len(values)))
    return sum((place - middle) * (value - mean) for place, value in enumerate(values)) / spread


class SampleLog:
    """The samples of the last day in a file, so that they outlive the process they are about."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._file = directory / "samples.jsonl"

    def add(self, one: Sample) -> None:
        """Append a sample; what is older than a day goes when it is as much again."""
        self._directory.mkdir(mode=0o700, exist_ok=True)
        known = self._lines()
        if len(known) >= 2 * KEPT:
            part = self._file.with_suffix(".part")
            part.write_text("".join(f"{line}\n" for line in known[-KEPT:]), encoding="utf-8")
            part.chmod(0o600)
            part.replace(self._file)
        with self._file.open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(one)) + "\n")
        self._file.chmod(0o600)

    def read(self) -> list[Sample]:
        """Return the samples, oldest first; a line that was cut off is left out."""
        found = []
        for line in self._lines()[-KEPT:]:
            try:
                found.append(Sample(**json.loads(line)))
            except (ValueError, TypeError):
                continue
        return found

    def snapshot(self, at: datetime, made_of: Callable[[], dict[str, Any]]) -> Path | None:
        """Keep what memory is made of, at most once an hour whichever process asks; None when that was less ago.

        `made_of` is called only when it is kept: it looks at every object.
        """
        self._directory.mkdir(mode=0o700, exist_ok=True)
        kept = sorted(self._directory.glob("snapshot-*.json"))
        if kept and kept[-1].name > _snapshot_name(at - ONE_IN):
            return None
        path = self._directory / _snapshot_name(at)
        path.touch(mode=0o600)
        path.write_text(json.dumps(made_of(), indent=1), encoding="utf-8")
        for old in kept[: max(0, len(kept) + 1 - SNAPSHOTS)]:
            old.unlink(missing_ok=True)
        return path

    def _lines(self) -> list[str]:
        try:
            return self._file.read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            return []


def _snapshot_name(at: datetime) -> str:
    return f"snapshot-{at:%Y%m%dT%H%M%SZ}.json"


def guide(document: dict[str, Any], limit: int) -> list[dict[str, str]]:
    """Return what to make of it (R321): each with `symptom`, `cause` and `solution`."""
    found = []
    rss, grown = document["rss"], document["growth"]
    if rss > limit:
        found.append(
            _row(
                f"{rss // 1_000_000} MB are resident, above telemetry.memoryLimitMb",
                "caches, the embedding model and, without a process of its own, the index",
                "look at `caches` and `types`; lower cache.l1.max, or raise the limit if this is the normal size",
            )
        )
    slope = grown["rss_per_hour"]
    if slope is not None and slope > GROWTH * rss:
        objects = grown["gc_objects_per_hour"] or 0
        of_python = objects > GROWTH * document["gc"]["objects"]
        found.append(
            _row(
                f"memory grows by {slope // 1_000_000} MB an hour",
                "objects are kept that nobody needs: the growing ones lead `types`"
                if of_python
                else "not Python objects: a library's buffers, or a heap that is not given back",
                "start with PYTHONTRACEMALLOC=1: `allocations` of two `knowledge doctor memory` name the line"
                if of_python
                else "compare the resident memory an hour apart; restart the service if it does not level off",
            )
        )
    full = [one["name"] for one in document["caches"] if one["limit"] and one["entries"] > one["limit"]]
    if full:
        found.append(_row(f"above their limit: {', '.join(full)}", "a cache does not evict", "report it; restart"))
    if document["gc"]["uncollectable"]:
        found.append(
            _row(
                f"{document['gc']['uncollectable']} objects cannot be collected",
                "reference cycles through a library's objects",
                "restart the service, and report it with `types`",
            )
        )
    return found


def _row(symptom: str, cause: str, solution: str) -> dict[str, str]:
    return {"symptom": symptom, "cause": cause, "solution": solution}
