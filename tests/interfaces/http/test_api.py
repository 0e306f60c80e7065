"""The HTTP API over a real system: knowledge, the engine, costs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tests.interfaces.conftest import CHORE, FIXED_BUG
from tests.interfaces.http.inside import Inside, inside

from knowledge_system.domain.truth import Page
from knowledge_system.testing.scripted_provider import ScriptedProvider, Step

DOCUMENT: dict[str, Any] = {
    "format": "knowledge-transcript/1",
    "session": {"id": "s1", "project": "shop", "agent": "any"},
    "exchanges": [FIXED_BUG, CHORE],
}


@pytest.fixture
async def door(tmp_path: Path, provider: ScriptedProvider) -> AsyncIterator[Inside]:
    async with inside(tmp_path / "home", provider, {"KNOWLEDGE__LEARNING__WITH_MODEL": "never"}) as opened:
        yield opened


async def learned(door: Inside) -> dict[str, Any]:
    """Store the document and wait until an item was learned from it and can be searched."""
    await door.json("POST", "/v1/exchanges", json=DOCUMENT)
    anything = {"query": "pool of connections", "scope": "items", "threshold": 0}
    async with asyncio.timeout(60):
        while not (await door.json("POST", "/v1/search", json=anything))["results"]:  # noqa: ASYNC110 -- over HTTP one can only ask
            await asyncio.sleep(0.05)  # learning goes on in the background
    (row,) = (await door.json("GET", "/v1/items"))["results"]
    return dict(row)


async def test_exchanges_are_stored_once_found_at_once_and_learned_from(door: Inside) -> None:
    first = await door.json("POST", "/v1/exchanges", json=DOCUMENT)
    again = await door.json("POST", "/v1/exchanges", json=DOCUMENT)
    found = await door.json("POST", "/v1/search", json={"query": "QueuePool limit", "scope": "exchanges"})
    item = await learned(door)

    assert first["exchanges"] == {"new": 2, "known": 0, "updated": 0}
    assert again["exchanges"] == {"new": 0, "known": 2, "updated": 0}
    assert found["results"][0]["session_id"] == "s1"
    assert (item["type"], item["project"]) == ("bug_solution", "shop")


async def test_a_session_sent_again_with_more_at_its_end_is_stored_once(door: Inside) -> None:
    more = {"user": "continue", "assistant": "The second pool is closed too."}
    for session in ({"id": "s1", "project": "shop"}, {"project": "shop"}):
        first = await door.json("POST", "/v1/exchanges", json={**DOCUMENT, "session": session})
        longer = {**DOCUMENT, "session": session, "exchanges": [FIXED_BUG, CHORE, more, more]}
        grown = await door.json("POST", "/v1/exchanges", json=longer)
        last = {**more, "assistant": "The second pool is closed too. Tests pass."}
        window = {**DOCUMENT, "session": {**session, "id": first["session_id"]}, "exchanges": [CHORE, more, last]}
        updated = await door.json("POST", "/v1/exchanges", json=window)

        assert grown["exchanges"] == {"new": 2, "known": 2, "updated": 0}
        assert updated["exchanges"] == {"new": 0, "known": 2, "updated": 1}
        assert grown["session_id"] == updated["session_id"] == first["session_id"]
        rows = await door.system.list("exchanges", Page(session_id=first["session_id"]))
        assert len(rows["results"]) == 4


async def test_a_long_document_is_read_wherever_its_format_stands(door: Inside) -> None:
    many = [{"user": f"step {number}", "assistant": "done " * 2000} for number in range(60)]
    document = {"exchanges": many, "session": {"id": "long"}, "format": "knowledge-transcript/1"}
    stored = await door.json("POST", "/v1/exchanges", json=document)
    assert stored["exchanges"] == {"new": 60, "known": 0, "updated": 0}


async def test_a_search_takes_the_options_of_the_command_line(door: Inside) -> None:
    item = await learned(door)
    body = {"query": "pool of connections leaks", "scope": "items", "type": "bug_solution", "project": ["shop"]}

    found = await door.json("POST", "/v1/search", json={**body, "since": "2025-01-01", "threshold": 0, "limit": 3})
    other = await door.json("POST", "/v1/search", json={**body, "project": "elsewhere", "threshold": 0})
    earlier = await door.json("POST", "/v1/search", json={**body, "as_of": "2025-06-01", "threshold": 0})

    assert [hit["id"] for hit in found["results"]] == [item["id"]]
    assert set(found) == {"query", "scope", "took_ms", "degraded", "results"}
    assert other["results"] == earlier["results"] == []


async def test_items_are_shown_judged_and_forgotten(door: Inside) -> None:
    item = await learned(door)
    path = f"/v1/items/{item['id']}"

    shown = await door.json("GET", path)
    judged = await door.json("POST", f"{path}/feedback", json={"verdict": "wrong", "note": "it was the DNS"})
    assert shown["evidence"]
    assert judged["status"] == "deprecated"
    assert (await door.json("GET", "/v1/items"))["results"] == []
    assert len((await door.json("GET", "/v1/items?include_deprecated=true"))["results"]) == 1
    assert (await door.json("DELETE", path))["forgotten"] == 1
    assert (await door.json("GET", path, 404))["code"] == "not-found"
    assert (await door.json("DELETE", path, 404))["code"] == "not-found"


async def test_lists_go_on_at_next(door: Inside) -> None:
    for name in ("a", "b", "c"):
        await door.json("POST", "/v1/exchanges", json={**DOCUMENT, "session": {"id": name}, "exchanges": [CHORE]})

    first = await door.json("GET", "/v1/sessions?limit=2")
    second = await door.json("GET", "/v1/sessions", params={"limit": 2, "after": first["next"]})

    assert sorted(row["id"] for row in first["results"] + second["results"]) == ["a", "b", "c"]
    assert second["next"] is None
    assert (await door.json("GET", "/v1/sessions?after=nonsense", 400))["code"] == "usage"


async def test_a_session_has_its_path(door: Inside) -> None:
    await learned(door)

    path = await door.json("GET", "/v1/trajectory/s1")

    assert [point["index"] for point in path["points"]] == [0, 1]
    assert (await door.json("GET", "/v1/trajectory/nobody", 404))["code"] == "not-found"


async def test_an_answer_says_who_why_and_at_what_cost_and_the_report_sums_it_up(door: Inside) -> None:
    body = {"prompt": "Say hello.", "sensitivity": "public", "project": "shop"}

    reply = await door.json("POST", "/v1/infer", json=body)
    await door.json("POST", "/v1/infer", json={"prompt": "Say it again.", "sensitivity": "public"})
    report = await door.json("GET", "/v1/costs/report?period=week")
    budget = await door.json("GET", "/v1/budget")

    assert (reply["text"], reply["provider"], reply["usage"]["input"]) == ("hello there", "groq", 100)
    assert reply["cost"] == pytest.approx(0.00012)
    assert reply["attempts"][0]["outcome"]
    assert reply["why"]
    assert report["totals"] == {"calls": 2, "tokens": 220, "cost": pytest.approx(0.00024)}
    assert report["byProvider"][0]["provider"] == "groq"
    assert {row["project"]: row["calls"] for row in report["byProject"]} == {"shop": 1, "": 1}
    assert report["byOperation"][0]["operation"] == "infer"
    assert report["partial"]
    assert budget["spend"] == pytest.approx(0.00024)


async def test_an_earlier_period_is_whole_and_empty(door: Inside) -> None:
    report = await door.json("GET", "/v1/costs/report?period=month&at=2026-02-14")

    assert (report["from"], report["ends"]) == ("2026-02-01T00:00:00Z", "2026-03-01T00:00:00Z")
    assert (report["partial"], report["elapsed"], report["totals"]["calls"]) == (False, 1.0, 0)
    assert (await door.json("GET", "/v1/costs/report?period=daily", 422))["errors"][0]["field"] == "period"


async def test_texts_are_embedded_here_or_by_the_provider(door: Inside, provider: ScriptedProvider) -> None:
    provider.default = Step(dimensions=1536)
    here = await door.json("POST", "/v1/embed", json={"texts": ["one", "two"]})
    there = await door.json("POST", "/v1/embed", json={"texts": "one", "dimension": 1536, "sensitivity": "public"})

    assert (here["provider"], here["dimension"], len(here["vectors"]), here["cost"]) == ("local", 384, 2, 0)
    assert (there["provider"], there["dimension"], len(there["vectors"][0])) == ("openai", 1536, 1536)


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        (b'{"query": ', 400, "line 1, column 11"),
        (b'{"query": NaN}', 400, "NaN"),
        (b'{"query": "\\ud800"}', 400, "surrogate"),
        (b'{"query": 1e999}', 400, "too large"),
        (b'{"query": ' + b"[" * 70 + b"]" * 70 + b"}", 400, "levels"),
        (b"\xff", 400, "UTF-8"),
        (b'{"query": "a", "limt": 3}', 422, "did you mean limit?"),
        (b'{"query": "a", "limit": "3"}', 422, "limit"),
        (b'{"query": "a", "limit": 0}', 422, "limit"),
        (b'{"limit": 3}', 422, "query"),
        (b'{"query": "a", "since": "soon"}', 400, "since"),
        (b'{"query": "   "}', 400, "empty"),
        (b"[]", 422, "body"),
        (b"", 422, "body"),
    ],
)
async def test_a_wrong_body_is_refused_with_its_place(door: Inside, body: bytes, status: int, words: str) -> None:
    response = await door.client.post("/v1/search", content=body, headers={"content-type": "application/json"})

    assert (response.status_code, response.headers["content-type"]) == (status, "application/problem+json")
    assert words in response.text


async def test_only_json_is_read_and_answered(door: Inside) -> None:
    form = await door.client.post("/v1/search", data={"query": "a"})
    xml = await door.client.post("/v1/search", json={"query": "a"}, headers={"accept": "text/html"})
    unknown = await door.client.get("/v1/items?limmit=3")

    assert (form.status_code, form.json()["hint"]) == (415, "send Content-Type: application/json")
    assert xml.status_code == 406
    assert (unknown.status_code, "did you mean limit?" in unknown.text) == (400, True)


async def test_methods_and_heads_are_as_http_says(door: Inside) -> None:
    wrong = await door.client.put("/v1/items/x")
    head, whole = await door.client.head("/v1/items"), await door.client.get("/v1/items")

    assert (wrong.status_code, wrong.headers["allow"]) == (405, "DELETE, GET, HEAD")
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == whole.headers["content-length"]


async def test_texts_that_a_killed_process_left_unredacted_are_removed(
    tmp_path: Path, provider: ScriptedProvider
) -> None:
    folder = tmp_path / "home" / "arrivals"
    folder.mkdir()
    (folder / "tmpleft.json").write_text("password=hunter2")
    async with inside(tmp_path / "home", provider) as door:
        assert not folder.exists()
        await door.json("POST", "/v1/exchanges", json=DOCUMENT)
        assert list(folder.iterdir()) == []
