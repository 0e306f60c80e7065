"""Health over real parts, with what it depends on hanging by real means."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from knowledge_system import settings
from knowledge_system.application.compose import Parts
from knowledge_system.application.engine import engine_state
from knowledge_system.application.health import MEASURED_FROM, Health, report_document
from knowledge_system.domain.caching import CacheCount
from knowledge_system.domain.inference import NANO
from knowledge_system.domain.money import BreakerRule, Hold, Settlement
from knowledge_system.operations.health import KEPT_FOR
from knowledge_system.operations.health import Report as HealthReport

GROQ = {"baseUrl": "https://groq.invalid/v1", "model": "m", "price": {"input": 1.0, "output": 2.0}}


def configured(home: Path, tree: dict[str, Any]) -> settings.Settings:
    home.mkdir(mode=0o700, exist_ok=True)
    roomy = {"telemetry": {"memoryLimitMb": 1_000_000}}  # the process of many tests is larger than a service
    (home / "config.json").write_text(json.dumps({**roomy, **tree}))
    return settings.load(home, environ={})


async def never(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Read what comes, and answer nothing."""
    del writer
    await reader.read()


def moved(place: Path, other: Path) -> None:
    place.rename(other)


@asynccontextmanager
async def opened(home: Path, tree: dict[str, Any] | None = None, patience: float = 30.0) -> AsyncIterator[Parts]:
    """Open the home; without haste, unless the test is about the time that something hanging may take."""
    async with Parts(configured(home, tree or {}), "test") as parts:
        parts._health = Health(parts, patience)
        parts.at_close(parts._health.close)
        yield parts


@pytest.fixture
def home(tmp_path: Path, judging: Path) -> Path:
    made = tmp_path / "home"
    made.mkdir(mode=0o700)
    (made / "models").symlink_to(judging, target_is_directory=True)
    return made


async def fresh(parts: Parts) -> HealthReport:
    """Return a report that is made now."""
    parts.health()._all._last = None
    return await parts.health().report()


async def test_a_fresh_home_is_healthy_and_says_what_was_measured(home: Path) -> None:
    async with opened(home) as parts:
        report = await parts.health().report()
        ready = await parts.health().ready()
        document = report_document(parts.health(), report, detailed=True)
    checks = document["checks"]
    assert (document["status"], ready.status) == ("healthy", "healthy"), document
    assert document["timestamp"].endswith("Z")
    assert set(ready.entries) == {"sqlite", "qdrant"}
    sqlite = checks["sqlite"]
    assert (sqlite["status"], sqlite["error"], sqlite["engine"]) == ("up", None, "sqlite")
    assert sqlite["writeLock"] == "free"
    assert sqlite["latency"] >= 0
    assert sqlite["longestTransaction"] >= 0
    assert checks["qdrant"]["status"] == "up"
    assert min(checks["sqlite"]["latency"], checks["qdrant"]["latency"]) > 0
    assert checks["cache"] == {"status": "ok", "hitRate": None, "size": 0, "shared": "off"}
    assert checks["budget"]["status"] == "ok"
    assert checks["index_drift"]["drift"] == 0
    assert {name for name in checks if name.startswith("provider_")} == {
        "provider_groq",
        "provider_openrouter",
        "provider_local",
    }
    assert checks["provider_local"] == {"status": "up", "circuitBreaker": "closed", "error": None}
    assert report_document(parts.health(), report, detailed=False).keys() == {"timestamp", "status"}


async def test_a_lock_that_another_writer_keeps_degrades_and_ends_with_it(home: Path) -> None:
    async with opened(home) as parts:
        await parts.health().report()
        other = sqlite3.connect((await parts.database()).connections.place, isolation_level=None)
        other.execute("BEGIN EXCLUSIVE")
        report = await fresh(parts)
        assert report.status == "degraded"
        assert report.document()["sqlite"]["writeLock"] == "held"
        assert report.document()["sqlite"]["status"] == "up", "reading goes on beside a writer"
        assert (await parts.health().ready()).status == "healthy"
        other.execute("ROLLBACK")
        other.close()
        assert (await fresh(parts)).status == "healthy"


async def test_a_database_that_is_gone_is_unhealthy_and_tells_no_path(home: Path) -> None:
    async with opened(home) as parts:
        await parts.health().report()
        place = Path((await parts.database()).connections.place)
        moved(place, place.with_suffix(".away"))
        report = await fresh(parts)
        ready = await parts.health().ready()
        moved(place.with_suffix(".away"), place)
    assert (report.status, ready.status) == ("unhealthy", "unhealthy")
    told = json.dumps(report.document())
    assert "OperationalError" in told
    assert str(home) not in told
    assert report.document()["budget"] == {"status": "unknown", "error": "not asked: sqlite does not answer"}
    assert report.document()["provider_groq"]["circuitBreaker"] is None


async def test_a_shared_cache_that_never_answers_degrades_within_the_time(home: Path) -> None:
    silent = await asyncio.start_server(never, "127.0.0.1", 0)
    port = silent.sockets[0].getsockname()[1]
    async with opened(home, {"cache": {"l2": {"url": f"redis://:hunter2@127.0.0.1:{port}/0"}}}) as parts:
        report = await parts.health().report()
        assert report.status == "degraded"
        assert report.document()["cache"]["shared"] == "down"
        assert "hunter2" not in json.dumps(report.document())
        assert (await parts.health().ready()).status == "healthy", "nobody needs that cache"
    silent.close()


async def test_an_open_breaker_degrades_where_the_provider_is_used(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GROQ_API_KEY", "key-of-a-test")
    async with opened(home, {"inference": {"providers": {"groq": GROQ}}}) as parts:
        assert (await parts.health().report()).document()["provider_groq"]["status"] == "up"
        breakers = (await engine_state(parts)).breakers
        rule = BreakerRule(failure_threshold=1, reset_timeout=3_600_000)
        for provider in ("groq", "openrouter"):
            await breakers.failed(await breakers.admit(provider, rule), rule, "test")
        report = await fresh(parts)
    assert report.status == "degraded"
    assert report.document()["provider_groq"]["circuitBreaker"] == "open"
    assert report.entries["provider_groq"].counts
    assert not report.entries["provider_openrouter"].counts, "it has no key: nobody uses it"


async def test_a_budget_nearly_spent_warns_and_one_of_nothing_does_not(home: Path) -> None:
    async with opened(home, {"budget": {"monthly": 1.0}}) as parts:
        ledger = (await engine_state(parts)).ledger
        for cents, status in ((95, "ok"), (1, "warning")):
            hold = Hold(cents * NANO // 100, "groq", "m", "extract", "p", timedelta(minutes=1))
            reservation = await ledger.reserve(hold)
            await ledger.settle(reservation, Settlement(cents * NANO // 100, None, "answered"))
            report = await fresh(parts)
            budget = report.document()["budget"]
            assert (budget["status"], budget["limit"]) == (status, 1.0)
        assert (budget["spend"], budget["percentage"], report.status) == (0.96, 96.0, "degraded")
    async with opened(home.parent / "other", {"budget": {"monthly": 0}}) as parts:
        assert (await parts.health().report()).document()["budget"]["status"] == "ok"


async def test_a_share_of_hits_counts_only_once_there_were_enough_requests(home: Path) -> None:
    async with opened(home) as parts:
        book = (await parts.caches()).state.book
        await book.add("p", [CacheCount("ask", "miss", MEASURED_FROM - 1), CacheCount("ask", "bypass", 900)], None)
        report = await fresh(parts)
        assert (report.document()["cache"]["hitRate"], report.status) == (0.0, "healthy")
        await book.add("p", [CacheCount("ask", "miss", 1)], None)
        report = await fresh(parts)
        assert (report.document()["cache"]["status"], report.status) == ("degraded", "healthy")
        await book.add("p", [CacheCount("ask", "l1", MEASURED_FROM)], None)
        assert (await fresh(parts)).document()["cache"] == {
            "status": "ok",
            "hitRate": 0.5,
            "size": 0,
            "shared": "off",
        }


async def test_a_stopped_process_of_the_index_is_down_within_the_time_and_up_again(home: Path) -> None:
    async with opened(home, patience=4.0) as parts:  # less than the supervisor has with a process that says nothing
        parts.resident = True
        assert (await parts.health().ready()).status == "healthy"
        (process,) = parts.index_processes()
        os.kill(process["pid"], signal.SIGSTOP)
        try:
            for report in (await fresh(parts), await stale_free_ready(parts)):
                assert report.status == "unhealthy"
                assert report.document()["qdrant"]["status"] == "down"
                assert report.document()["sqlite"]["status"] == "up"
        finally:
            os.kill(process["pid"], signal.SIGCONT)
        while (await stale_free_ready(parts)).status != "healthy":
            pass


async def stale_free_ready(parts: Parts) -> HealthReport:
    parts.health()._ready._last = None
    return await parts.health().ready()


def test_a_report_is_kept_for_less_than_the_two_seconds_it_may_take() -> None:
    assert KEPT_FOR < 2
