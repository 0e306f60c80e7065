"""Who may teach: what is looked at, what is knocked at, and for how long the answer is believed."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from knowledge_system.application.compose import Parts
from knowledge_system.application.learning import REMEMBERED, Teachers, answers, model_document
from knowledge_system.domain.events import Event, ModelTaught
from knowledge_system.extraction.extractor import EvidenceExtractor
from knowledge_system.extraction.learning import LearningTally
from knowledge_system.extraction.model_use import ModelTally
from knowledge_system.extraction.with_model import ModelExtractor
from knowledge_system.settings import Settings, load


class Hours:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.moment = datetime(2026, 6, 1, tzinfo=UTC)

    def now(self) -> datetime:
        return self.moment


@pytest.fixture(autouse=True)
def _no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("GROQ", "OPENROUTER", "OPENAI", "GEMINI", "ANTHROPIC"):
        monkeypatch.delenv(f"{name}_API_KEY", raising=False)
        monkeypatch.delenv(f"{name}_API_KEY_FILE", raising=False)


@contextlib.asynccontextmanager
async def parts_of(home: Path, **tree: Any) -> AsyncIterator[tuple[Parts, Hours]]:
    clock = Hours()
    async with Parts(configured(home, tree), "test", clock) as parts:
        yield parts, clock


def configured(home: Path, tree: dict[str, Any]) -> Settings:
    home.mkdir(exist_ok=True, mode=0o700)
    (home / "config.json").write_text(json.dumps(tree))
    return load(home, environ={})


@contextlib.asynccontextmanager
async def listening() -> AsyncIterator[tuple[str, asyncio.Queue[int]]]:
    """Accept connections on this machine; of each comes the number of bytes it was told."""
    knocks: asyncio.Queue[int] = asyncio.Queue()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        knocks.put_nowait(len(await reader.read()))
        writer.close()

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", knocks


async def test_a_server_that_listens_is_knocked_at_and_told_nothing() -> None:
    async with listening() as (url, knocks):
        assert await answers(url)
        assert await asyncio.wait_for(knocks.get(), 10) == 0


async def test_what_does_not_listen_or_is_no_address_does_not_answer() -> None:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        taken = one.getsockname()[1]
        assert not await answers(f"http://127.0.0.1:{taken}")
    assert not await answers("http://127.0.0.1:99999")
    assert not await answers("nonsense")


async def test_a_server_that_accepts_nobody_is_left_after_a_moment() -> None:
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        port = full.getsockname()[1]
        with contextlib.ExitStack() as waiting:
            for _ in range(8):  # more than the queue holds: the next one gets no answer at all
                other = waiting.enter_context(socket.socket())
                other.settimeout(0)
                with contextlib.suppress(BlockingIOError):
                    other.connect(("127.0.0.1", port))
            assert not await answers(f"http://127.0.0.1:{port}", within=0.05)


async def test_without_anything_the_extractor_teaches_alone(tmp_path: Path) -> None:
    async with parts_of(tmp_path) as (parts, _):
        teachers = await parts.teaching().begin(5)
        assert isinstance(teachers.extractor, EvidenceExtractor)
        assert teachers.duplicates is None
        assert "local: not configured" in teachers.tally.why
        assert not (tmp_path / "analytics.db").exists(), "nothing was opened to find that out"


async def test_a_key_is_enough_and_one_in_a_file_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "key").write_text("k-of-a-test\n")
    monkeypatch.setenv("GROQ_API_KEY_FILE", str(tmp_path / "key"))
    async with parts_of(tmp_path / "home") as (parts, _):
        teachers = await parts.teaching().begin(5)
        assert isinstance(teachers.extractor, ModelExtractor)
        assert teachers.duplicates is not None
        assert teachers.tally.why == ""


async def test_a_key_that_cannot_be_read_stops_no_learning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GROQ_API_KEY", "two words")
    async with parts_of(tmp_path) as (parts, _):
        teachers = await parts.teaching().begin(5)
        assert isinstance(teachers.extractor, EvidenceExtractor)
        assert "GROQ_API_KEY" in teachers.tally.why


async def test_an_unknown_strategy_stops_no_learning(tmp_path: Path) -> None:
    async with parts_of(tmp_path, inference={"activeStrategy": "thrifty"}) as (parts, _):
        teachers = await parts.teaching().begin(5)
        assert isinstance(teachers.extractor, EvidenceExtractor)
        assert "thrifty" in teachers.tally.why


async def test_a_configured_local_server_is_knocked_at_once_a_minute(tmp_path: Path) -> None:
    async with (
        listening() as (url, knocks),
        parts_of(tmp_path, inference={"localModels": {"endpoint": url}}) as (parts, clock),
    ):
        for _ in range(3):
            assert isinstance((await parts.teaching().begin(1)).extractor, ModelExtractor)
        clock.moment += REMEMBERED + timedelta(seconds=1)
        await parts.teaching().begin(1)
        assert [await asyncio.wait_for(knocks.get(), 10) for _ in range(2)] == [0, 0]
        assert knocks.empty()


async def test_each_run_is_counted_by_itself_and_pauses_are_remembered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GROQ_API_KEY", "k-of-a-test")
    async with parts_of(tmp_path) as (parts, _):
        first, second = await parts.teaching().begin(1), await parts.teaching().begin(1)
        assert first.tally is not second.tally
        assert isinstance(first.extractor, ModelExtractor)
        assert isinstance(second.extractor, ModelExtractor)
        assert first.extractor._use is second.extractor._use


def test_a_run_tells_what_asking_came_to_or_nothing() -> None:
    events: list[Event] = []
    Teachers(EvidenceExtractor(), None, ModelTally(why="no key")).tell(events.append)
    assert events == []
    tally = ModelTally(calls=3, answered=2, cost_nano=1_500, kept=4)
    tally.unasked.update({"paused": 5, "no-provider": 1})
    tally.disbelieved["unknown type"] = 2
    Teachers(EvidenceExtractor(), None, tally).tell(events.append)
    assert events == [ModelTaught(3, 2, 1_500, 4, 0, 2, 6, "no-provider, paused")]


def test_the_document_has_money_in_dollars_and_every_reason() -> None:
    tally = ModelTally(calls=3, answered=2, cost_nano=1_500_000, asked=9, kept=4, dismissed=3, pairs=2)
    tally.unasked["no-provider"] = 5
    tally.details["no-provider"] = "groq: HTTP 500"
    tally.disbelieved["unknown type"] = 2
    tally.decided["same"] = 1
    document = model_document("auto", LearningTally(model=tally))
    assert document == {
        "mode": "auto",
        "used": True,
        "why": "",
        "calls": 3,
        "answered": 2,
        "cost": 0.0015,
        "exchanges": {"asked": 9, "kept": 4, "dismissed": 3, "disbelieved": 2, "reused": 0},
        "pairs": {"asked": 2, "same": 1},
        "disbelieved": [{"reason": "unknown type", "count": 2}],
        "fallbacks": [{"reason": "no-provider", "count": 5, "detail": "groq: HTTP 500"}],
    }
    assert model_document("auto", LearningTally())["why"] == "nothing was learned"
