"""The larger embedding space from the command line to a provider and back, over real HTTP and real processes."""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from tests.embedding.remote_parts import meaningful
from tests.interfaces.conftest import CHORE, FIXED_BUG, Cli, transcript

from knowledge_system import settings
from knowledge_system.application.compose import Parts
from knowledge_system.application.engine import budget_status, open_engine
from knowledge_system.application.system import KnowledgeSystem, opened
from knowledge_system.domain.events import Event, SpaceBehind, SpaceCovered
from knowledge_system.domain.inference import Call, EmbedCall, Message
from knowledge_system.domain.search import Accuracy, Scope, SearchRequest
from knowledge_system.domain.sensitivity import Sensitivity
from knowledge_system.testing.scripted_provider import Received, ScriptedProvider, Step

SUBJECTS = ("pool", "cache", "queue", "parser", "router", "lock", "index", "token")
CANARY = "zebrafish-7731"


@dataclass
class Place:
    """A home whose larger space is at a scripted provider."""

    cli: Cli
    server: ScriptedProvider
    folder: Path
    tree: dict[str, Any] = field(default_factory=dict)

    def configure(self, budget: float = 8.33, price: float | None = None, **remote: Any) -> None:
        self.tree = {
            "budget": {"monthly": budget},
            "inference": {
                "providerPriority": ["groq"],
                "localModels": {"enabled": False},
                "providers": {"openai": {"baseUrl": self.server.openai_url, "embeddingPrice": price}},
            },
            "embeddings": {"batchSize": 4, "remote": remote},
        }
        self.write()

    def write(self) -> None:
        (self.cli.home / "config.json").write_text(json.dumps(self.tree))

    async def run(self, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        return await asyncio.to_thread(self.cli.run, "--json", *arguments)

    async def json(self, *arguments: str | Path, code: int = 0) -> Any:
        done = await self.run(*arguments)
        assert done.returncode == code, done.stderr
        return json.loads(done.stdout)

    def system(self, events: list[Event] | None = None) -> Any:
        emit = None if events is None else events.append
        return opened(settings.load(self.cli.home, environ={}), "test", emit, alone=True)

    async def fill(self, system: KnowledgeSystem) -> Any:
        """Ingest the sessions and embed everything in both spaces."""
        await system.ingest([self.folder], _options(), _silent)
        return await system.index_backfill(None)

    def write_sessions(self, count: int, extra: dict[str, Any] | None = None) -> None:
        for number in range(count):
            subject = SUBJECTS[number % len(SUBJECTS)]
            bug = {**FIXED_BUG, "user": f"The {subject} of service {number} fails with `Error{number}`. Why?"}
            transcript(self.folder / f"s{number}.json", f"s{number}", [bug, CHORE, *([extra] if extra else [])])

    @property
    def texts(self) -> list[str]:
        """Every text that arrived, in order."""
        return [text for request in self.server.requests for text in request.body["input"]]

    def never_saw(self, word: str) -> bool:
        return not any(word in request.text for request in [*self.server.requests, *self.server.probes])


@pytest.fixture
async def place(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Place]:
    """Return an empty home with a provider that answers with meaningful vectors."""
    monkeypatch.setenv("OPENAI_API_KEY", "key-of-a-test")
    async with ScriptedProvider() as server:
        server.respond = meaningful
        made = Place(cli, server, tmp_path / "sessions")
        made.configure()
        yield made


async def asked(system: KnowledgeSystem, query: str = "the pool fails", **values: Any) -> Any:
    return await system.search(SearchRequest(query, accuracy=Accuracy.HIGH, threshold=0.0, **values))


async def test_a_backfill_says_its_price_asks_and_then_pays_once(place: Place) -> None:
    place.write_sessions(4)
    await place.json("ingest", place.folder)

    plan = await place.json("index", "backfill", "--dry-run")
    refused = await place.run("index", "backfill")

    assert refused.returncode == 4
    assert place.server.requests == []
    assert plan["entries"] >= 8
    assert "approximation" in plan["counted"]
    assert plan["cost"] == pytest.approx(plan["tokens"] * plan["price_per_million"] / 1e6, abs=1e-9)
    assert plan["cost"] < plan["at_most"] < plan["budget_remaining"]

    done = await place.json("index", "backfill", "--yes")

    assert (done["entries"], done["texts"]) == (plan["entries"], plan["texts"])
    assert sorted(place.texts) == sorted(set(place.texts))
    assert done["coverage"]["share"] == 1.0
    budget = await place.json("budget", "status")
    assert budget["spend"] == pytest.approx(done["cost"])
    assert 0 < done["cost"] <= plan["at_most"]

    again = await place.json("index", "backfill")  # nothing to pay, so nothing to ask
    assert (again["entries"], again["cost"], again["requests"]) == (0, 0, 0)
    status = await place.json("status")
    assert status["larger_space"]["covered"] == status["larger_space"]["embeddable"] == plan["entries"]
    index = await place.json("index", "status")
    assert index["larger_space"]["collection"] == "knowledge_1536"
    assert index["larger_space"]["vectors"] == index["vectors"]


async def test_killed_between_batches_it_goes_on_and_pays_nothing_twice(place: Place) -> None:
    place.write_sessions(8)
    await place.json("ingest", place.folder)
    answered: list[str] = []

    def third_hangs(received: Received) -> Step:
        if len(place.server.requests) == 3:
            return Step(hang="start")
        answered.extend(received.body["input"])
        return meaningful(received)

    place.server.respond = third_hangs
    running = place.cli.start("index", "backfill", "--yes", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        await place.server.until(lambda: len(place.server.requests) == 3, 200)
    finally:
        running.kill()
        await asyncio.to_thread(running.wait)
    assert len(answered) == 8, "two batches of four came back"
    place.server.respond = meaningful

    await place.json("index", "backfill", "--yes")

    sent = Counter(place.texts)
    assert all(sent[text] == 1 for text in answered)
    assert max(sent.values()) == 2, "only what was on its way when it was killed goes again"
    status = await place.json("index", "status")
    assert status["larger_space"]["share"] == 1.0
    assert status["larger_space"]["vectors"] == status["vectors"]
    assert (await place.json("index", "verify"))["larger_space"] == {
        "ok": True, "problems": [], "missing": 0, "surplus": 0,
    }  # fmt: skip


async def test_it_stops_at_the_budget_and_never_overspends(place: Place) -> None:
    place.configure(budget=0.02, price=10.0)
    place.write_sessions(8)
    await place.json("ingest", place.folder)

    stopped = await place.json("index", "backfill", "--yes", code=4)

    assert stopped["stopped"]["code"] == "budget-exhausted"
    assert 0 < stopped["coverage"]["share"] < 1
    paid = len(place.texts)

    place.configure(budget=8.33, price=10.0)
    async with place.system() as system:
        budget = await budget_status(system.parts)
        assert 0 < budget["spend"] <= 0.02
        assert (await system.index_backfill(None))["coverage"]["share"] == 1.0
    assert len(place.texts) > paid
    assert len(place.texts) == len(set(place.texts))


async def test_beside_a_running_service_it_is_the_service_that_embeds_and_follows(place: Place) -> None:
    place.write_sessions(2)
    await place.json("ingest", place.folder)
    process = place.cli.start("--json", "serve", "--port", "0", stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        assert json.loads(await asyncio.to_thread(process.stdout.readline))["url"]
        done = await place.json("index", "backfill", "--yes")
        answer = await place.json("search", "the pool fails", "--accuracy", "high", "--scope", "exchanges")
        await place.json("forget", answer["results"][0]["id"], "--yes")
        index = await place.json("index", "status")
    finally:
        process.terminate()
        await asyncio.to_thread(process.wait)
    assert done["coverage"]["share"] == 1.0
    assert answer["degraded"] == []
    assert index["larger_space"]["points"] == index["points"]
    assert len(place.texts) == len(set(place.texts))


async def test_vectors_of_another_length_end_it_after_one_request(place: Place) -> None:
    place.server.respond = None
    place.server.default = Step(dimensions=8)
    place.write_sessions(4)
    await place.json("ingest", place.folder)

    stopped = await place.json("index", "backfill", "--yes", code=5)

    assert stopped["stopped"]["code"] == "wrong-dimension"
    assert stopped["coverage"]["covered"] == 0
    assert len(place.server.requests) == 1


async def test_a_price_that_nobody_knows_is_asked_for_and_nothing_is_sent(place: Place) -> None:
    place.configure(model="a-model-of-nobody")
    done = await place.run("index", "backfill", "--yes")
    assert done.returncode == 4
    assert "embeddingPrice" in done.stderr


async def test_confidential_and_secret_content_never_reaches_the_provider(place: Place) -> None:
    personal = {"user": f"Write to alice.meyer@corp-mail.io about {CANARY}.", "assistant": f"Sent {CANARY} to her."}
    key = "\n".join(["-----BEGIN RSA PRIVATE KEY-----", "MIIEpAIBAAKCAQEA" * 20, "-----END RSA PRIVATE KEY-----"])
    secret = {"user": f"Here is the key for {CANARY}:\n{key}", "assistant": f"Stored {CANARY}."}
    place.configure(auto=True)
    place.write_sessions(3, personal)
    transcript(place.folder / "secret.json", "secret", [secret])
    done = await place.json("ingest", place.folder)
    assert done["sensitivity"]["confidential"] == 3
    assert done["sensitivity"]["secret"] == 1
    plan = await place.json("index", "backfill", "--dry-run")
    assert plan["withheld"] == {"confidential": 3, "secret": 1}
    await place.json("index", "backfill", "--yes")
    async with place.system() as system:
        found = await asked(system, f"what about alice.meyer@corp-mail.io and {CANARY}?")
        again = await asked(system, CANARY)

    assert place.texts, "the rest did leave"
    assert "accuracy-high-privacy" in found["degraded"]
    assert any(CANARY in hit["content"] or CANARY in hit["title"] for hit in again["results"]), "found all the same"
    sent = [text for text in place.texts if CANARY in text]
    assert sent == [CANARY], "the open question alone may carry the word"
    assert place.never_saw("alice.meyer")


async def test_internal_content_stays_where_the_policy_says_so(place: Place) -> None:
    place.tree["inference"]["internal"] = "local-only"
    place.write()
    place.write_sessions(1)
    async with place.system() as system:
        await system.ingest([place.folder], _options(), _silent)
        plan = await system.backfill_estimate()
        done = await system.index_backfill(None)
    assert plan["entries"] == 0
    assert plan["withheld"]["internal"] >= 2
    assert done["texts"] == 0
    assert place.server.requests == []


async def test_a_model_on_a_server_of_ones_own_costs_nothing_and_may_see_confidential_content(place: Place) -> None:
    place.configure(provider="local", model="gte-qwen2")
    place.tree["inference"]["localModels"] = {"enabled": True, "endpoint": place.server.ollama_url}
    place.write()
    place.server.respond = None
    place.server.default = Step(dimensions=1536)
    personal = {"user": f"Write to alice.meyer@corp-mail.io about {CANARY}.", "assistant": f"Sent {CANARY} to her."}
    place.write_sessions(1, personal)
    async with place.system() as system:
        await system.ingest([place.folder], _options(), _silent)
        place.server.requests.clear()
        plan = await system.backfill_estimate()
        done = await system.index_backfill(None)
    assert (plan["cost"], plan["at_most"], plan["levels"]["confidential"]) == (0, 0, 1)
    assert (done["cost"], done["coverage"]["share"]) == (0, 1.0)
    assert {request.path for request in place.server.requests} == {"/api/embed"}
    assert any(CANARY in text for text in place.texts)


async def test_high_accuracy_answers_from_both_spaces_and_pays_for_the_question_once(place: Place) -> None:
    place.write_sessions(4)
    async with place.system() as system:
        await system.ingest([place.folder], _options(), _silent)
        before = await asked(system)
        assert before["degraded"] == ["accuracy-high-unavailable", "accuracy-high-coverage"]
        assert place.server.requests == []
        await system.index_backfill(None)
        paid = len(place.server.requests)

        found = await asked(system)
        again = await asked(system)

        assert found["degraded"] == []
        assert any("by meaning in openai:text-embedding-3-small" in why for why in found["results"][0]["why"])
        assert [hit["id"] for hit in found["results"]] == [hit["id"] for hit in again["results"]]
        assert place.texts[-1] == "the pool fails"
        assert len(place.server.requests) == paid + 1
        rows = (await place.json("audit"))["results"]
        assert Counter(row["operation"] for row in rows)["embed-query"] == 1


@pytest.mark.parametrize("fault", ["hangs", "fails", "is gone"])
async def test_a_provider_that_does_not_answer_leaves_the_normal_answer(place: Place, fault: str) -> None:
    place.configure(queryTimeout=400)
    place.write_sessions(3)
    async with place.system() as system:
        await place.fill(system)
        normal = await system.search(SearchRequest("the pool fails", threshold=0.0))
        place.server.respond = None
        place.server.default = Step(hang="start") if fault == "hangs" else Step(status=503)
        if fault == "is gone":
            await place.server.stop()

        found = await asked(system)

        assert found["degraded"] == ["accuracy-high-unavailable", "accuracy-high-provider"]
        assert [hit["id"] for hit in found["results"]] == [hit["id"] for hit in normal["results"]]
        assert all(any(why.startswith("normal accuracy: ") for why in hit["why"]) for hit in found["results"])


async def test_a_spent_budget_leaves_the_normal_answer(place: Place) -> None:
    place.write_sessions(3)
    async with place.system() as system:
        await place.fill(system)
        await place.json("budget", "freeze")
        sent = len(place.server.requests)
        found = await asked(system)
    assert "accuracy-high-budget" in found["degraded"]
    assert found["results"]
    assert len(place.server.requests) == sent


async def test_new_content_follows_by_itself_only_where_that_is_configured(place: Place) -> None:
    place.write_sessions(2)
    await place.json("ingest", place.folder)
    assert place.server.requests == [], "no silent spending"

    place.configure(auto=True)
    place.write_sessions(5)
    await place.json("ingest", place.folder)
    events: list[Event] = []
    async with place.system(events) as system:
        larger = (await system.status())["larger_space"]
    assert 0 < larger["covered"] < larger["embeddable"], "what is new; what was there before waits for a backfill"
    covered = [event for event in events if isinstance(event, SpaceCovered)]
    assert [(one.covered, one.dimension) for one in covered] == [(larger["covered"], 1536)]
    assert len(place.texts) == len(set(place.texts))


async def test_a_provider_that_is_down_holds_up_neither_ingest_nor_search(place: Place) -> None:
    place.configure(auto=True)
    place.server.respond = None
    place.server.default = Step(status=503)
    place.write_sessions(3)
    events: list[Event] = []
    async with place.system(events) as system:
        done = await system.ingest([place.folder], _options(), _silent)
        status = await system.status()
        found = await system.search(SearchRequest("the pool fails"))

        assert done["items"]["created"] >= 1
        assert any("larger embeddings wait" in reason for reason in done["degraded"])
        assert any(isinstance(event, SpaceBehind) for event in events)
        assert status["backlog"]["embedded_share"] == 1.0
        assert status["larger_space"]["waiting"] > 0
        assert found["results"]
        assert found["degraded"] == []

    place.server.respond = meaningful
    await place.json("providers", "reset", "openai")
    await place.json("ingest", place.folder)
    status = await place.json("status")
    assert (status["larger_space"]["share"], status["larger_space"]["waiting"]) == (1.0, 0)


async def test_forgetting_reaches_the_larger_space(place: Place) -> None:
    place.write_sessions(2)
    async with place.system() as system:
        await place.fill(system)
        before = await system.index_status()
        found = await system.search(SearchRequest("the cache of service 1 fails", scope=Scope.EXCHANGES))

        await system.forget([found["results"][0]["id"]])

        after = await system.index_status()
        assert after["larger_space"]["points"] == after["points"] < before["larger_space"]["points"]
        assert (await system.index_verify())["larger_space"]["surplus"] == 0


async def test_another_model_is_another_space_and_the_old_files_go(place: Place) -> None:
    place.write_sessions(2)
    async with place.system() as system:
        await place.fill(system)
    (old,) = (place.cli.home / "index").glob("knowledge_1536-*")

    place.configure(model="text-embedding-3-large", shorten=True)
    async with place.system() as system:
        assert "accuracy-high-coverage" in (await asked(system))["degraded"], "vectors of two models never meet"
        await system.index_backfill(None)

    (new,) = (place.cli.home / "index").glob("knowledge_1536-*")
    assert new != old
    models = {request.body["model"] for request in place.server.requests}
    assert models == {"text-embedding-3-small", "text-embedding-3-large"}

    place.configure()
    paid = len(place.server.requests)
    async with place.system() as system:
        assert (await system.index_status())["larger_space"]["share"] == 1.0, "paid vectors stay in the truth"
    assert len(place.server.requests) == paid


async def test_a_lost_index_comes_back_without_a_call(place: Place) -> None:
    place.write_sessions(2)
    async with place.system() as system:
        await place.fill(system)
        before = (await system.index_status())["larger_space"]["points"]
    paid = len(place.server.requests)
    for path in (place.cli.home / "index").glob("knowledge_1536-*/current"):
        path.unlink()

    async with place.system() as system:
        assert (await system.index_status())["larger_space"]["points"] == before
        assert (await system.index_rebuild())["larger_space"]["points"] == before
    assert len(place.server.requests) == paid


async def test_a_default_dimension_of_1536_asks_for_high_accuracy(place: Place) -> None:
    place.tree["embeddings"]["defaultDim"] = 1536
    place.write()
    place.write_sessions(1)
    async with place.system() as system:
        await system.ingest([place.folder], _options(), _silent)
        answer = await system.search(SearchRequest("the pool fails"))
    assert "accuracy-high-unavailable" in answer["degraded"]


async def test_one_engine_chats_and_embeds(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GROQ_API_KEY", "key-of-a-test")
    place.tree["inference"]["providers"]["groq"] = {"baseUrl": place.server.openai_url, "price": {"input": 1}}
    place.write()
    place.server.respond = lambda received: meaningful(received) if "input" in received.body else Step(text="hello")
    async with Parts(settings.load(place.cli.home, environ={}), "test") as parts:
        engine = await open_engine(parts)
        reply = await engine.infer(Call("test", (Message("user", "hi"),), sensitivity=Sensitivity.PUBLIC))
        made = await engine.embed(EmbedCall("test", ("hi",), sensitivity=Sensitivity.PUBLIC, provider="openai"))
        assert (reply.text, reply.provider) == ("hello", "groq")
        assert (len(made.vectors[0]), made.provider) == (1536, "openai")
        assert await parts.engine() is await parts.engine()


def _silent(stage: str, done: int, total: int) -> None:
    del stage, done, total


def _options() -> Any:
    from knowledge_system.application.options import IngestOptions  # noqa: PLC0415 -- as the commands import it

    return IngestOptions()
