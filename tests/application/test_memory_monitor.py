"""The service watches its own memory."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

from knowledge_system import settings
from knowledge_system.application.compose import Parts
from knowledge_system.application.logs import is_alarming
from knowledge_system.application.memory import FOLDER, MemoryMonitor, memory_job
from knowledge_system.domain.events import Event, MemoryHigh, MemoryMeasured
from knowledge_system.operations.memory import EVERY, Sample


class SteppingClock:
    def __init__(self) -> None:
        self.moment = datetime(2026, 5, 10, 12, tzinfo=UTC)

    def now(self) -> datetime:
        return self.moment


async def test_above_the_limit_there_is_one_snapshot_an_hour_and_everybody_hears_of_it(tmp_path: Path) -> None:
    clock, events, rss = SteppingClock(), list[Event](), 50_000_000
    limited = settings.load(tmp_path, environ={"KNOWLEDGE__TELEMETRY__MEMORY_LIMIT_MB": "64"})
    async with Parts(limited, "test", clock, events.append) as parts:
        monitor = MemoryMonitor(parts, lambda at: Sample(at, 1, rss, None, None, 1000))
        await monitor.look()
        assert events == [MemoryMeasured(50_000_000, 0, 1000)]
        rss = 65_000_000
        for _ in range(120):
            clock.moment += timedelta(seconds=EVERY)
            await monitor.look()

    told = [event for event in events if isinstance(event, MemoryHigh)]
    assert len(told) == 120
    named = [event.snapshot for event in told if event.snapshot]
    assert named == sorted(path.name for path in (tmp_path / FOLDER).glob("snapshot-*"))
    assert len(named) == 2
    assert [is_alarming(event) for event in told].count(True) == 2, "the log would be full of it"
    kept = json.loads((tmp_path / FOLDER / named[0]).read_text())
    assert (kept["rss"], kept["limit"]) == (65_000_000, 64_000_000)
    assert kept["types"][0]["count"] > 0
    assert len(monitor.samples) == 121


async def test_the_document_is_of_this_process_with_its_caches(tmp_path: Path) -> None:
    async with Parts(settings.load(tmp_path, environ={}), "test") as parts:
        await parts.engine()
        document = await parts.memory().document()
        (job,) = [memory_job(parts.memory())]
    assert document["rss"] > 10_000_000
    assert [(one["name"], one["entries"], one["limit"]) for one in document["caches"]] == [("answers", 0, 1000)]
    assert document["growth"]["samples"] == 0
    assert document["guide"] == []
    assert job.every == timedelta(seconds=60)
