"""`GET /metrics`, request ids and traces of a real application over a real system."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx2
import pytest
from prometheus_client.core import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families
from tests.interfaces.conftest import CHORE, FIXED_BUG
from tests.interfaces.http.conftest import configure
from tests.interfaces.http.inside import URL

from knowledge_system import settings
from knowledge_system.application.capturing import measure
from knowledge_system.application.compose import Parts
from knowledge_system.application.gateway import open_gateway
from knowledge_system.application.memory import memory_job
from knowledge_system.application.residence import capture_job, memory_return_job
from knowledge_system.application.system import KnowledgeSystem
from knowledge_system.application.telemetry import Telemetry, open_telemetry
from knowledge_system.application.upkeep import standard_jobs, warming_job
from knowledge_system.domain.events import UpkeepRan
from knowledge_system.domain.search import SearchRequest
from knowledge_system.interfaces.http.app import make_app
from knowledge_system.interfaces.http.guard import GuardOptions
from knowledge_system.interfaces.http.observing import UNMATCHED, route_of
from knowledge_system.operations import gauges
from knowledge_system.operations.monitoring.platform import DAILY_JOBS
from knowledge_system.testing.scripted_provider import ScriptedProvider, Step

WORDS = "zebra crossing at midnight"
CHAT = {"model": "auto", "temperature": 0, "messages": [{"role": "user", "content": WORDS}]}
EXCHANGES: dict[str, Any] = {
    "format": "knowledge-transcript/1",
    "session": {"id": "s1", "project": "shop", "agent": "any"},
    "exchanges": [FIXED_BUG, CHORE],
}
STEPS = {"generate-embedding", "vector-search", "word-search", "read-truth", "rank-results"}


class Watched:
    """An application with telemetry, and what it says of itself."""

    def __init__(self, system: KnowledgeSystem, telemetry: Telemetry, client: httpx2.AsyncClient, app: Any) -> None:
        self.system = system
        self.telemetry = telemetry
        self.client = client
        self.app = app

    async def scrape(self) -> dict[str, float]:
        """Return every sample, by name and labels as exposed, read anew."""
        for state in self.telemetry.sampling._states.values():
            state.read_at = float("-inf")
        response = await self.client.get("/metrics")
        assert response.status_code == 200
        families = text_string_to_metric_families(response.text)
        return {
            one.name + json.dumps(one.labels, sort_keys=True): one.value
            for family in families
            for one in family.samples
        }

    async def value(self, name: str, /, **labels: str) -> float:
        return (await self.scrape()).get(name + json.dumps(labels, sort_keys=True), 0.0)


@asynccontextmanager
async def watched(home: Path, provider: ScriptedProvider, **environ: str) -> AsyncIterator[Watched]:
    if not (home / "config.json").exists():
        configure(home, provider)
    variables = {"KNOWLEDGE__LEARNING__WITH_MODEL": "never", **environ}
    async with Parts(settings.load(home, environ=variables), "test") as parts:
        parts.own()
        telemetry = await open_telemetry(parts)
        system = KnowledgeSystem(parts)
        app = make_app(await open_gateway(parts), GuardOptions(), system)
        transport = httpx2.ASGITransport(app=app, raise_app_exceptions=False)
        async with httpx2.AsyncClient(transport=transport, base_url=URL) as client:
            yield Watched(system, telemetry, client, app)


@pytest.fixture
async def door(tmp_path: Path, provider: ScriptedProvider) -> AsyncIterator[Watched]:
    async with watched(tmp_path / "home", provider) as opened:
        yield opened


async def used(door: Watched) -> None:
    """Do a little of everything: store, learn, search, ask a model, judge, measure capture."""
    await door.client.post("/v1/exchanges", json=EXCHANGES)
    async with asyncio.timeout(60):
        while not (items := (await door.client.get("/v1/items")).json()["results"]):  # noqa: ASYNC110 -- the API announces nothing
            await asyncio.sleep(0.05)
    for _ in range(2):
        assert (await door.client.post("/v1/search", json={"query": "pool of connections"})).status_code == 200
        assert (await door.client.post("/v1/chat/completions", json=CHAT)).status_code == 200
    await door.system.feedback({"id": items[0]["id"], "verdict": "helpful"})
    await measure(door.system.parts)
    await door.client.get("/v1/search/../etc/passwd")
    await door.client.get("/v1/search", headers={"host": "evil.example"})
    door.system.parts.emit(UpkeepRan("sweep-reservations", "done", 0.1))


async def test_every_series_is_there_and_counters_follow_what_is_done(door: Watched) -> None:
    await used(door)
    samples = await door.scrape()
    text = (await door.client.get("/metrics")).text
    silent = {
        "knowledge_circuit_breaker_transitions_total",
        "knowledge_loop_failures_total",
        "knowledge_slow_requests_total",
    }
    silent |= {"knowledge_scrape_errors_total", "knowledge_traces_exported_total"}

    for row in [*door.telemetry.metrics.series.rows(), *gauges.rows()]:
        name = row.name + ("_count" if row.kind == "histogram" else "")
        assert f"# TYPE {row.name} {row.kind}" in text, row.name
        assert row.name in silent or any(key.startswith(name + "{") for key in samples), row.name

    def value(name: str, **labels: str) -> float:
        return samples[name + json.dumps(labels, sort_keys=True)]

    call = {"provider": "groq", "operation": "gateway"}
    assert value("knowledge_inference_requests_total", **call, outcome="answered") == 2
    assert value("knowledge_inference_latency_seconds_count", **call) == 1, "the second came from the cache"
    assert value("knowledge_inference_cost_usd_total", **call) == pytest.approx(0.00012)
    assert value("knowledge_monthly_spend_usd") == pytest.approx(0.00012)
    assert value("knowledge_spend_usd", window="1h") == pytest.approx(0.00012)
    assert value("knowledge_cache_saved_usd_total") == pytest.approx(0.00012)
    assert sum(value("knowledge_searches_total", scope="all", degraded=one) for one in ("yes", "no")) == 2
    assert value("knowledge_vector_search_latency_seconds_count", dimension="384") >= 2
    assert value("knowledge_embedding_latency_seconds_count", dimension="384") >= 1
    assert value("knowledge_items_extracted_total", type="bug_solution", mode="realtime") == 1
    assert value("knowledge_items_stored", type="bug_solution", collection="knowledge_384") == 1
    assert value("knowledge_learning_outcomes_total", outcome="rejected") == 1
    assert value("knowledge_feedback_total", verdict="helpful") == 1
    assert value("knowledge_index_drift") == value("knowledge_exchanges_waiting") == 0
    assert value("knowledge_http_requests_total", method="POST", route="/v1/search", status="200") == 2
    assert value("knowledge_http_requests_total", method="GET", route=UNMATCHED, status="404") == 1
    assert value("knowledge_http_requests_total", method="GET", route="/v1/search", status="403") == 1
    assert value("knowledge_http_requests_in_flight") == 1, "the scrape itself"
    assert value("knowledge_sqlite_queries_total") > 10
    assert value("process_resident_memory_bytes") > 0


async def test_what_failed_attempts_are_charged_is_counted_as_in_the_ledger(
    door: Watched, provider: ScriptedProvider
) -> None:
    provider.default = Step(status=500)
    for number in range(7):  # the breaker opens after five: nobody is asked any more
        words = [{"role": "user", "content": f"{WORDS} {number}"}]
        assert (await door.client.post("/v1/chat/completions", json=CHAT | {"messages": words})).status_code == 503
    assert 0 < await door.value("knowledge_inference_latency_seconds_count", operation="gateway", provider="none") < 7
    refused = {"operation": "gateway", "outcome": "no-provider", "provider": "none"}
    assert await door.value("knowledge_inference_requests_total", **refused) == 7
    charged = await door.value("knowledge_inference_cost_usd_total", operation="gateway", provider="groq")
    assert charged > 0
    assert charged == pytest.approx(await door.value("knowledge_monthly_spend_usd"))
    assert await door.value("knowledge_circuit_breaker_state", provider="groq") == 2


async def test_alerts_know_which_jobs_are_daily(door: Watched) -> None:
    parts = door.system.parts
    jobs = [*await standard_jobs(parts), warming_job(parts), capture_job(parts), memory_return_job()]
    jobs.append(memory_job(parts.memory()))
    assert {job.name for job in jobs if job.every > timedelta(minutes=10)} == set(DAILY_JOBS)
    assert max(job.every for job in jobs) == timedelta(days=1)


async def test_spend_survives_a_restart(tmp_path: Path, provider: ScriptedProvider) -> None:
    async with watched(tmp_path / "home", provider) as before:
        await before.client.post("/v1/chat/completions", json=CHAT)
        spent = await before.value("knowledge_monthly_spend_usd")
    async with watched(tmp_path / "home", provider) as after:
        assert await after.value("knowledge_monthly_spend_usd") == spent > 0
        assert await after.value("knowledge_inference_cost_usd_total", provider="groq", operation="gateway") == 0


async def test_a_source_that_hangs_or_fails_does_not_fail_the_scrape(door: Watched) -> None:
    async def hangs() -> Iterable[Metric]:
        await asyncio.Event().wait()
        return []

    async def fails() -> Iterable[Metric]:
        raise OSError("no such machine")

    door.telemetry.sampling.add("hanging", hangs)
    door.telemetry.sampling.add("failing", fails)
    samples = await door.scrape()
    assert samples['knowledge_scrape_errors_total{"source": "hanging"}'] == 1
    assert samples['knowledge_scrape_errors_total{"source": "failing"}'] == 1
    assert samples["knowledge_monthly_budget_usd{}"] == 8.33


async def test_openmetrics_is_served_where_it_is_asked_for(door: Watched) -> None:
    plain = await door.client.get("/metrics")
    asked = await door.client.get("/metrics", headers={"accept": "application/openmetrics-text; version=1.0.0"})
    assert plain.headers["content-type"].startswith("text/plain; version=")
    assert asked.headers["content-type"].startswith("application/openmetrics-text")
    assert "knowledge_build_info" in {family.name for family in openmetrics(asked.text)}


async def test_an_answer_tells_its_request_and_its_trace(door: Watched) -> None:
    caller = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    sent = {"x-request-id": "mine-7", "traceparent": caller}
    known = await door.client.post("/v1/search", json={"query": WORDS}, headers=sent)
    forged = await door.client.get("/v1/models", headers={"x-request-id": "no good; drop"})
    refused = await door.client.get("/v1/models", headers={"host": "evil.example"})

    assert known.headers["x-request-id"] == "mine-7"
    assert known.headers["traceparent"].split("-")[1] == caller.split("-")[1]
    assert len(forged.headers["x-request-id"]) == len(refused.headers["x-request-id"]) == 32
    assert refused.status_code == 403
    assert door.telemetry.store.recent()[-1].id == caller.split("-")[1]


async def test_a_search_is_a_trace_of_its_steps(door: Watched) -> None:
    await door.system.find(SearchRequest(WORDS))
    (trace,) = door.telemetry.store.recent()
    assert trace.operation == "knowledge-search"
    assert {one.name for one in trace.spans} - {"open-index-and-model"} == {"knowledge-search", *STEPS}
    assert all(one.seconds <= trace.seconds for one in trace.spans)
    assert len(door.telemetry.store.durations("vector-search")) == 1


async def test_a_model_call_is_described_without_what_was_said(door: Watched) -> None:
    await door.client.post("/v1/chat/completions", json=CHAT)
    trace = door.telemetry.store.recent()[0]
    (attempt,) = [one for one in trace.spans if "gen_ai.operation.name" in one.attributes]
    assert attempt.attributes["gen_ai.operation.name"] == "chat"
    assert attempt.attributes["gen_ai.provider.name"] == "groq"
    assert attempt.attributes["gen_ai.usage.input_tokens"] == 100
    assert attempt.attributes["gen_ai.usage.output_tokens"] == 10
    assert not any("hello there" in str(one) or WORDS in str(one) for one in attempt.attributes.values())


async def test_a_slow_request_is_logged_whole_without_content(
    tmp_path: Path, provider: ScriptedProvider, capsys: pytest.CaptureFixture[str]
) -> None:
    log = {"KNOWLEDGE__TELEMETRY__SLOW_REQUEST_MS": "1", "KNOWLEDGE__TELEMETRY__LOG_FORMAT": "json"}
    async with watched(tmp_path / "home", provider, **log) as door:
        answer = await door.client.post("/v1/search", json={"query": WORDS})
        assert await door.value("knowledge_slow_requests_total", operation="POST /v1/search") == 1

    printed = capsys.readouterr().err
    (line,) = [one for one in map(json.loads, printed.splitlines()) if one["event"] == "slow-request"]
    assert line["trace_id"] == answer.headers["traceparent"].split("-")[1]
    assert {one["name"] for one in line["spans"]} >= {"POST /v1/search", "knowledge-search", *STEPS}
    assert "zebra" not in printed


async def test_every_documented_path_has_a_route_label_of_its_own(door: Watched) -> None:
    for path, operations in door.app.openapi()["paths"].items():
        for method in operations:
            scope = {
                "type": "http",
                "method": method.upper(),
                "path": path,
                "root_path": "",
                "headers": [],
                "app": door.app,
            }
            assert route_of(scope).partition("{")[0] == path.partition("{")[0]
