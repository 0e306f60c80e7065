"""Both cache levels as the application sets them up: two systems stand for two processes, Redis is a real one."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.inference.engine.redis_server import RedisServer

from knowledge_system import settings
from knowledge_system.application.cache import COMMON, cache_clear, cache_stats, cache_warm
from knowledge_system.application.caches import MOST_OPERATIONS, OTHER, Caches, fingerprint
from knowledge_system.application.compose import Parts
from knowledge_system.application.engine import engine_state
from knowledge_system.application.gateway import open_gateway
from knowledge_system.application.upkeep import standard_jobs
from knowledge_system.domain.caching import CacheCount, Holding
from knowledge_system.domain.embedding import Vector
from knowledge_system.domain.errors import DependencyUnavailable, ModelUnavailable, UsageError
from knowledge_system.domain.events import CacheConsulted, CacheDegraded, Event
from knowledge_system.domain.inference import Call, Message, Reply
from knowledge_system.domain.money import Hold
from knowledge_system.domain.search import SearchLogEntry
from knowledge_system.domain.sensitivity import Sensitivity
from knowledge_system.retrieval.search import asked
from knowledge_system.storage.redis_cache import is_local
from knowledge_system.testing.embedding import HashingEmbeddingModel
from knowledge_system.testing.scripted_provider import ScriptedProvider, Step

PRICED = {"input": 1.0, "output": 2.0}


class StandingClock:
    def __init__(self) -> None:
        self.moment = datetime(2026, 5, 10, 12, 0, tzinfo=UTC)

    def now(self) -> datetime:
        return self.moment


@dataclass
class Place:
    """A home whose only provider is a scripted server on this machine."""

    home: Path
    provider: ScriptedProvider
    clock: StandingClock = field(default_factory=StandingClock)
    events: list[Event] = field(default_factory=list)

    def configure(self, cache: dict[str, Any] | None = None, *, local: bool = False, model: str = "a") -> None:
        url = self.provider.openai_url
        inference: dict[str, Any] = {"providerPriority": ["groq"], "localModels": {"enabled": False}}
        inference["providers"] = {"groq": {"baseUrl": url, "model": model, "price": PRICED}}
        if local:
            inference = {"providerPriority": ["local"], "localModels": {"endpoint": self.provider.url}}
        self.home.mkdir(mode=0o700, exist_ok=True)
        (self.home / "config.json").write_text(json.dumps({"inference": inference, "cache": cache or {}}))

    @asynccontextmanager
    async def process(self, model: Any = None) -> AsyncIterator[Parts]:
        """Open the home as a process of its own would."""
        loaded = settings.load(self.home, environ={})
        async with Parts(loaded, "test", self.clock, self.events.append, _model=model) as parts:
            yield parts

    def told(self, kind: type[Event]) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]


@pytest.fixture
async def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, judging: Path) -> AsyncIterator[Place]:
    monkeypatch.setenv("GROQ_API_KEY", "key-of-a-test")
    (tmp_path / "home").mkdir(mode=0o700)
    (tmp_path / "home" / "models").symlink_to(judging, target_is_directory=True)
    async with ScriptedProvider(default=Step(text="hello", input_tokens=100, output_tokens=10)) as provider:
        one = Place(tmp_path / "home", provider)
        one.configure()
        yield one


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    (tmp_path / "redis").mkdir()
    with RedisServer(tmp_path / "redis") as server:
        yield server


def question(text: str = "Say hello.", level: Sensitivity = Sensitivity.PUBLIC) -> Call:
    return Call("greet", (Message("user", text),), sensitivity=level, temperature=0, max_output=10)


async def ask(parts: Parts, call: Call | None = None) -> Reply:
    return await (await parts.engine()).infer(call or question())


async def test_r303_an_answer_is_found_by_another_process_through_redis(place: Place, redis: RedisServer) -> None:
    place.configure({"l2": {"url": redis.url}})
    async with place.process() as one, place.process() as other:
        assert not (await ask(one)).cached
        reply = await ask(other)
        assert (reply.text, reply.cached, reply.cost_nano) == ("hello", True, 0)
        assert reply.route.startswith("cache l2")
        assert (await ask(other)).route.startswith("cache l1")
    assert len(place.provider.requests) == 1


async def test_without_redis_each_process_asks_for_itself_once(place: Place) -> None:
    async with place.process() as one, place.process() as other:
        for parts in (one, one, other, other):
            await ask(parts)
    assert len(place.provider.requests) == 2


async def test_a_clear_reaches_every_process_without_redis(place: Place) -> None:
    async with place.process() as one, place.process() as other, place.process() as operator:
        for parts in (one, other):
            await ask(parts)
        await cache_clear(operator)
        assert len(place.provider.requests) == 2
        for number, parts in enumerate((one, other), start=3):
            while (await ask(parts)).cached:  # noqa: ASYNC110 -- it looks once a second, and tells nobody
                await asyncio.sleep(0.02)
            assert len(place.provider.requests) == number


async def test_a_clear_empties_redis_for_this_installation_only(
    place: Place, redis: RedisServer, tmp_path: Path
) -> None:
    cache = {"l2": {"url": redis.url}}
    place.configure(cache)
    neighbour = Place(tmp_path / "neighbour", place.provider)
    neighbour.configure(cache)
    async with place.process() as mine, neighbour.process() as theirs:
        assert not (await ask(mine)).cached
        assert not (await ask(theirs)).cached, "installations share a server, not answers"
        document = await cache_clear(mine)
        assert document["l2"] == {"state": "up", "entries": 2, "private": False, "ttl_ms": 86_400_000}
        assert (await cache_stats(mine, 1))["l2"]["entries"] == 0
        # An answer, and the verdict on its question.
        assert (await cache_stats(theirs, 1))["l2"]["entries"] == 2
    async with neighbour.process() as later:
        assert (await ask(later)).cached


async def test_redis_gone_is_one_warning_and_its_return_another(place: Place, redis: RedisServer) -> None:
    place.configure({"l2": {"url": redis.url}})
    async with place.process() as parts:
        redis.stop()
        for number in range(3):
            call = question(str(number))
            assert not (await ask(parts, call)).cached
            assert (await ask(parts, call)).cached, "the first level goes on"
        assert [(event.level, bool(event.reason)) for event in place.told(CacheDegraded)] == [("l2", True)]
        assert (await cache_stats(parts, 1))["l2"]["state"] == "down"
        assert (await cache_clear(parts))["l2"]["entries"] is None
        redis.start()
        while len(place.told(CacheDegraded)) == 1:
            await ask(parts, question("back"))
            await cache_stats(parts, 1)
        await ask(parts, question("there again"))
        assert place.told(CacheDegraded)[1:] == [CacheDegraded("l2", "")]
        assert (await cache_stats(parts, 1))["l2"] == {
            "state": "up",
            "entries": 2,  # an answer, and the verdict on its question
            "private": False,
            "ttl_ms": 86_400_000,
        }


@pytest.mark.parametrize("level", [Sensitivity.INTERNAL, Sensitivity.CONFIDENTIAL], ids=str)
@pytest.mark.parametrize("private", [False, True])
async def test_t31_only_a_private_redis_holds_what_is_above_public(
    *, place: Place, redis: RedisServer, private: bool, level: Sensitivity
) -> None:
    place.configure({"l2": {"url": redis.url, "private": private}}, local=True)
    async with place.process() as one, place.process() as other:
        await ask(one, question(level=level))
        stats = await cache_stats(one, 1)
        assert stats["l2"]["entries"] == (1 if private else 0)
        assert (await ask(one, question(level=level))).cached
        assert (await ask(other, question(level=level))).cached == private


@pytest.mark.parametrize("url", ["redis://cache.example:6379/0", "rediss://10.0.0.5/0", "redis://[fd00::1]/0"])
async def test_a_redis_elsewhere_is_never_private(place: Place, url: str) -> None:
    place.configure({"l2": {"url": url, "private": True}})
    async with place.process() as parts:
        with pytest.raises(UsageError, match=r"cache\.l2\.private"):
            await parts.engine()
    assert not is_local(url)


@pytest.mark.parametrize("url", ["redis://localhost/0", "redis://:word@127.0.0.1:6380/1", "unix:///run/redis.sock"])
def test_loopback_and_sockets_are_this_machine(url: str) -> None:
    assert is_local(url)


async def test_answers_under_other_settings_are_other_answers(place: Place, redis: RedisServer) -> None:
    cache = {"l2": {"url": redis.url}}
    place.configure(cache, model="a")
    async with place.process() as one:
        await ask(one)
        before = fingerprint(one.settings.tree)
    place.configure(cache, model="b")
    async with place.process() as other:
        assert fingerprint(other.settings.tree) != before
        assert not (await ask(other)).cached
    place.configure(cache, model="a")
    async with place.process() as again:
        assert fingerprint(again.settings.tree) == before
        assert (await ask(again)).cached


async def test_a_changed_price_is_another_fingerprint_and_a_changed_limit_is_not(place: Place) -> None:
    tree = settings.load(place.home, environ={}).tree
    prices = {"KNOWLEDGE__INFERENCE__PROVIDERS__GROQ__PRICE__INPUT": "3"}
    assert fingerprint(settings.load(place.home, environ=prices).tree) != fingerprint(tree)
    limits = {"KNOWLEDGE__BUDGET__MONTHLY": "3"}
    assert fingerprint(settings.load(place.home, environ=limits).tree) == fingerprint(tree)


async def test_stats_tell_what_ended_processes_did(place: Place) -> None:
    async with place.process() as one:
        for _ in range(3):
            await ask(one)
        await ask(one, Call("chat", (Message("user", "hi"),), sensitivity=Sensitivity.PUBLIC, max_output=10))
    async with place.process() as other:
        stats = await cache_stats(other, 1)
    assert (stats["requests"], stats["hits"], stats["misses"], stats["bypassed"]) == (4, 2, 1, 1)
    assert stats["hit_rate"] == round(2 / 3, 4)
    assert stats["saved"] == 2 * 0.00012, "100 tokens at $1 and 10 at $2 a million, twice"
    assert stats["results"] == {"l1": 2, "l2": 0, "shared": 0, "stale": 0, "miss": 1, "bypass": 1}
    assert {row["operation"]: row["hit_rate"] for row in stats["operations"]} == {"greet": 0.6667, "chat": None}
    assert stats["l1"] == {"processes": 0, "entries": 0, "bytes": 0, "max": 1000, "ttl_ms": 3_600_000}


async def test_stats_without_traffic_have_no_rate(place: Place) -> None:
    async with place.process() as parts:
        stats = await cache_stats(parts, 30)
        assert (stats["requests"], stats["hit_rate"], stats["saved"], stats["operations"]) == (0, None, 0, [])
        for days in (0, 401):
            with pytest.raises(UsageError, match="--days"):
                await cache_stats(parts, days)


async def test_a_living_process_shares_what_it_holds_and_takes_it_back_at_its_end(place: Place) -> None:
    async with place.process() as other:
        async with place.process() as one:
            await ask(one)
            await (await one.caches()).flush()
            level = (await cache_stats(other, 1))["l1"]
            assert (level["processes"], level["entries"]) == (1, 1)
            assert level["bytes"] > 100
        assert (await cache_stats(other, 1))["l1"]["processes"] == 0


class FailingBook:
    """A book that cannot be written until it is mended."""

    def __init__(self) -> None:
        self.broken = True
        self.added: list[CacheCount] = []

    async def add(self, process: str, counts: Any, holding: Holding | None) -> None:
        del process, holding
        if self.broken:
            raise DependencyUnavailable("locked", hint="wait")
        self.added += counts


@dataclass
class FailingState:
    book: FailingBook
    generation: Any


async def test_counts_that_could_not_be_written_are_written_later(place: Place) -> None:
    async with place.process() as parts:
        book = FailingBook()
        caches = Caches(parts, FailingState(book, (await parts.caches()).state.generation), None)  # type: ignore[arg-type]
        caches.emit(CacheConsulted("extract", "l1", 5))
        with pytest.raises(DependencyUnavailable):
            await caches.flush()
        caches.emit(CacheConsulted("extract", "l1", 7))
        book.broken = False
        await caches.flush()
        await caches.flush()
        assert book.added == [CacheCount("extract", "l1", 2, 12)]
        book.broken = True
        caches.emit(CacheConsulted("extract", "miss"))
        await caches.leave()
    assert place.told(CacheConsulted)[:2] == [CacheConsulted("extract", "l1", 5), CacheConsulted("extract", "l1", 7)]


async def test_names_that_callers_make_up_do_not_grow_the_book(place: Place) -> None:
    async with place.process() as parts:
        caches = await parts.caches()
        for number in range(MOST_OPERATIONS + 50):
            caches.emit(CacheConsulted(f"made up {number}", "miss"))
        await caches.flush()
        counts = await caches.state.book.counts()
    assert len(counts) == MOST_OPERATIONS + 1
    assert next(one for one in counts if one.operation == OTHER).requests == 50


async def logged(parts: Parts, query: str | None, times: int = 1, days_ago: float = 0) -> None:
    at = parts.clock.now() - timedelta(days=days_ago)
    for _ in range(times):
        await (await parts.truth()).ledger.log_search(SearchLogEntry(at, query, f"hash of {query}", "all"))


async def test_r304_the_first_request_after_warming_is_a_hit(place: Place) -> None:
    async with place.process() as one:
        await logged(one, "why does the pool leak?", 3)
        await logged(one, "what is a lock?")
        await logged(one, "long ago", 9, days_ago=8)
        await logged(one, None, 5)
        document = await cache_warm(one, None, 100, 7)
    rows = [(row["query"], row["outcome"]) for row in document["results"]]
    assert rows == [("why does the pool leak?", "warmed"), ("what is a lock?", "warmed")]
    assert (document["source"], document["queries"], document["warmed"], document["hidden"]) == ("log", 2, 2, 1)
    async with place.process() as other:
        asker = await other.asker()
        await asker.embed(["why does the pool leak?"])
        await asker.embed(["why does the pool leak?"])
        await asker.embed(["never asked"])
    assert [event.result for event in place.told(CacheConsulted)] == ["l2", "l1", "miss"]
    assert not place.provider.requests, "warming asks nobody and spends nothing"


@pytest.mark.parametrize(
    "query", ["0.....======.", "  what\tis   a lock?  ", "[secret:token#1] x", "x" * 5000], ids=len
)
async def test_what_the_log_has_is_warmed_as_it_was_embedded(place: Place, query: str) -> None:
    async with place.process(HashingEmbeddingModel()) as parts:
        text = asked(query, parts.gatekeeper().scrub).text
        await logged(parts, text)
        document = await cache_warm(parts, None, 100, 7)
        assert [row["query"] for row in document["results"]] == [text]
        assert (await (await parts.asker()).prepare(text))[1]


async def test_warming_again_finds_everything_known(place: Place) -> None:
    async with place.process() as parts:
        await cache_warm(parts, ["a", "b", "a"], 100, 7)
    async with place.process() as other:
        document = await cache_warm(other, ["b", "a", "c"], 2, 7)
        assert (document["source"], document["queries"], document["known"], document["warmed"]) == ("file", 2, 2, 0)
        assert (await cache_stats(other, 1))["kept_questions"] == 2
        assert (await cache_clear(other))["kept_questions"] == 2
        assert not (await (await other.asker()).prepare("a"))[1], "cleared here, too"


async def test_r177_where_nothing_was_asked_the_common_questions_are_warmed(place: Place) -> None:
    async with place.process() as parts:
        document = await cache_warm(parts, None, 100, 7)
        await logged(parts, None)
        sensitive_only = await cache_warm(parts, None, 100, 7)
    assert [row["query"] for row in document["results"]] == list(COMMON)
    assert (document["source"], document["warmed"]) == ("common", 5)
    assert (sensitive_only["source"], sensitive_only["queries"], sensitive_only["hidden"]) == ("log", 0, 1)


async def test_sensitive_questions_are_neither_kept_nor_repeated(place: Place) -> None:
    async with place.process() as parts:
        mail = "jo.smith@example-corp.com"
        document = await cache_warm(parts, [f"who is {mail}?", "what is a lock?"], 100, 7)
        assert [row["outcome"] for row in document["results"]] == ["sensitive", "warmed"]
        assert mail not in json.dumps(document)
        assert (await cache_stats(parts, 1))["kept_questions"] == 1


async def test_a_question_that_fails_stops_no_other_and_all_failing_is_an_error(place: Place) -> None:
    async with place.process(Picky()) as parts:
        document = await cache_warm(parts, ["bad one", "good one"], 100, 7)
        assert [row["outcome"] for row in document["results"]] == ["failed", "warmed"]
        assert document["failed"] == 1
        with pytest.raises(ModelUnavailable):
            await cache_warm(parts, ["bad one", "another bad one"], 100, 7)
        for limit, days in ((0, 7), (1001, 7), (1, 0), (1, 401)):
            with pytest.raises(UsageError):
                await cache_warm(parts, ["x"], limit, days)


class Picky(HashingEmbeddingModel):
    """A model that cannot embed what is bad."""

    async def embed(self, texts: Sequence[str]) -> list[Vector]:
        if "bad" in texts[0]:
            raise ModelUnavailable("no memory", hint="free some")
        return await super().embed(texts)


async def test_a_resident_process_charges_what_a_crashed_caller_left_reserved(place: Place) -> None:
    async with place.process() as parts:
        ledger = (await engine_state(parts)).ledger
        await ledger.reserve(Hold(500, "groq", "a", "extract", "api", timedelta(minutes=1)))
        jobs = {job.name: job for job in await standard_jobs(parts)}
        await jobs["sweep-reservations"].work()
        assert (await ledger.status()).reserved_nano == 500
        place.clock.moment += timedelta(minutes=2)
        for job in jobs.values():
            await job.work()
        status = await ledger.status()
        assert (status.reserved_nano, status.unmeasured_nano) == (0, 500)


def upkeep_tasks() -> list[str]:
    return sorted(task.get_name() for task in asyncio.all_tasks() if task.get_name().startswith("upkeep "))


async def test_the_gateway_keeps_house_until_it_is_closed(place: Place) -> None:
    async with place.process() as parts:
        await open_gateway(parts)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert set(upkeep_tasks()) >= {"upkeep sweep-reservations", "upkeep share-cache-counts", "upkeep warm-cache"}
    assert upkeep_tasks() == []
