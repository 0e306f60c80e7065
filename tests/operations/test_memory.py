"""Samples, snapshots and what is made of them."""

from __future__ import annotations

import gc
import json
import sys
import threading
import tracemalloc
import weakref
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from knowledge_system.operations import gauges, memory
from knowledge_system.operations.memory import KEPT, SNAPSHOTS, Sample, SampleLog

NOON = datetime(2026, 5, 10, 12, tzinfo=UTC)


def made(number: int, rss: int = 100_000_000, pid: int = 1, objects: int = 1000) -> Sample:
    return Sample(f"2026-05-10T12:{number:04}Z", pid, rss, None, None, objects)


class Marked:
    """A type that is in memory as often as the test says."""


def test_a_sample_is_of_this_process_and_traced_only_when_asked_for() -> None:
    plain = memory.sample("now")
    assert plain.rss > 10_000_000
    assert plain.gc_objects > 1000
    assert plain.traced is None
    assert memory.allocations() is None
    tracemalloc.start()
    try:
        kept = [bytes(1000) for _ in range(1000)]
        traced = memory.sample("now")
        assert traced.traced is not None
        assert traced.traced >= 1000 * len(kept)
        assert traced.traced_peak is not None
        assert traced.traced_peak >= traced.traced
        assert any("test_memory" in one["place"] for one in memory.allocations(5) or [])
    finally:
        tracemalloc.stop()


def test_types_are_counted_and_their_content_is_not_told() -> None:
    kept = [Marked() for _ in range(321)]
    for one in kept:
        one.secret = "hunter2"  # type: ignore[attr-defined]
    gc.collect()
    found = {one["type"].rpartition(".")[2]: one for one in memory.types(100_000)}
    assert found["Marked"]["count"] == len(kept)
    assert "hunter2" not in json.dumps(list(found.values()))


def test_what_looks_at_objects_lets_go_of_them() -> None:
    class Held:
        """An object that is gone as soon as nobody refers to it."""

    gc.disable()
    try:
        one = Held()
        gone = weakref.ref(one)
        memory.types()
        memory.objects()
        del one
        assert gone() is None
    finally:
        gc.enable()


def test_a_tuple_that_another_thread_fills_is_not_disturbed() -> None:
    failed: list[BaseException] = []
    filled, stop = threading.Semaphore(0), threading.Event()

    def fill() -> None:
        while not stop.is_set():
            try:
                tuple(str(number) for number in range(15))
            except SystemError as error:  # one reference too many to a tuple under construction
                failed.append(error)
            filled.release()

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    other = threading.Thread(target=fill)
    other.start()
    try:
        for _ in range(40):
            filled.acquire()
            memory.objects()
            list(gauges.of_objects())
            memory.types(1)
    finally:
        stop.set()
        other.join()
        sys.setswitchinterval(interval)
    assert failed == []


def test_growth_is_of_one_process_and_needs_half_an_hour() -> None:
    earlier = [made(number, rss=900_000_000, pid=7) for number in range(50)]
    growing = [made(number, rss=100_000_000 + number * 1_000_000) for number in range(60)]
    found = memory.growth([*earlier, *growing])
    assert found["samples"] == 60
    assert found["rss_first"] == 100_000_000
    assert abs(found["rss_per_hour"] - 60_000_000) < 10
    assert memory.growth(growing[:10])["rss_per_hour"] is None
    assert memory.growth([])["samples"] == 0
    assert memory.growth([made(number) for number in range(60)])["rss_per_hour"] == 0


def test_a_day_of_samples_is_kept_privately_and_broken_lines_are_passed_over(tmp_path: Path) -> None:
    log = SampleLog(tmp_path / "memory")
    file = tmp_path / "memory" / "samples.jsonl"
    log.add(made(0))
    line = file.read_text()
    file.write_text(line * (2 * KEPT - 1) + "{broken\n")
    log.add(made(1))
    assert len(file.read_text().splitlines()) == KEPT + 1
    read = log.read()
    assert len(read) == KEPT - 1
    assert read[-1] == made(1)
    assert file.stat().st_mode & 0o077 == 0
    assert file.parent.stat().st_mode & 0o077 == 0


def test_snapshots_are_one_an_hour_and_a_few_at_most(tmp_path: Path) -> None:
    log = SampleLog(tmp_path / "memory")
    steps = ({"step": step} for step in range(100))
    taken = [log.snapshot(NOON + timedelta(minutes=10 * step), lambda: next(steps)) for step in range(60)]
    made_at = [step for step, path in enumerate(taken) if path is not None]
    assert made_at == list(range(0, 60, 6))
    kept = sorted((tmp_path / "memory").glob("snapshot-*.json"))
    assert [json.loads(path.read_text())["step"] for path in kept] == list(range(10))[-SNAPSHOTS:]
    assert all(path.stat().st_mode & 0o077 == 0 for path in kept)
    assert SampleLog(tmp_path / "memory").snapshot(NOON + timedelta(hours=9, minutes=30), dict) is None


def facts(**changed: Any) -> dict[str, Any]:
    grown = {"rss_per_hour": 0, "gc_objects_per_hour": 0}
    plain = {"rss": 100_000_000, "growth": grown, "gc": {"objects": 1000, "uncollectable": 0}, "caches": []}
    return {**plain, **changed}


def test_the_guide_says_nothing_when_nothing_is_wrong_and_names_what_is() -> None:
    assert memory.guide(facts(), 200_000_000) == []
    assert "memoryLimitMb" in memory.guide(facts(rss=300_000_000), 200_000_000)[0]["symptom"]
    leaking = {"rss_per_hour": 50_000_000, "gc_objects_per_hour": 900}
    assert "objects are kept" in memory.guide(facts(growth=leaking), 200_000_000)[0]["cause"]
    native = {"rss_per_hour": 50_000_000, "gc_objects_per_hour": 0}
    assert "not Python objects" in memory.guide(facts(growth=native), 200_000_000)[0]["cause"]
    full = [{"name": "Engine", "entries": 11, "limit": 10, "bytes": 1}]
    assert "Engine" in memory.guide(facts(caches=full), 200_000_000)[0]["symptom"]
    lost = {"objects": 1000, "uncollectable": 3}
    assert "3 objects" in memory.guide(facts(gc=lost), 200_000_000)[0]["symptom"]
