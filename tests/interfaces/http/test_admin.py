"""Settings at run time, budget and breakers over HTTP; who may change them, and what is written down of it."""

from __future__ import annotations

import asyncio
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from tests.interfaces.conftest import Cli
from tests.interfaces.http.conftest import configure
from tests.interfaces.http.inside import Inside, inside

from knowledge_system.domain.access import Access
from knowledge_system.domain.events import OverridesIgnored, RequestRefused, SettingsChanged
from knowledge_system.interfaces.http.access import WINDOW, Failures, needed
from knowledge_system.testing.scripted_provider import ScriptedProvider

ASK = {"prompt": "Say hello.", "sensitivity": "public"}
LOCAL_ONLY = {"inference": {"providerPriority": ["local"], "offlineMode": True}}


@pytest.fixture
def home(tmp_path: Path, provider: ScriptedProvider) -> Path:
    configure(tmp_path / "home", provider)
    return tmp_path / "home"


async def changed(door: Inside, body: dict[str, Any], status: int = 200) -> dict[str, Any]:
    return dict(await door.json("POST", "/config", status, json=body))


async def test_a_change_takes_effect_at_once_and_is_undone(home: Path) -> None:
    async with inside(home) as door:
        assert (await door.json("POST", "/v1/infer", json=ASK))["provider"] == "groq"

        done = await changed(door, {"inference": {"offlineMode": True}})
        refused = await door.json("POST", "/v1/infer", 503, json={**ASK, "prompt": "Say another thing."})
        undone = await door.json("POST", f"/config/undo/{done['change']}")
        answered = await door.json("POST", "/v1/infer", json={**ASK, "prompt": "Say another thing."})

    assert done["changed"] == {"inference.offlineMode": True}
    assert (done["config"]["inference"]["offlineMode"], done["restart_required"]) == (True, [])
    assert refused["code"] == "no-provider"
    assert undone["config"]["inference"]["offlineMode"] is False
    assert answered["provider"] == "groq"
    assert any(isinstance(event, SettingsChanged) for event in door.events)


async def test_the_guides_short_key_and_a_partial_tree_are_merged(home: Path) -> None:
    async with inside(home) as door:
        await changed(door, {"defaultEmbeddingDim": 1536})
        shown = await changed(door, LOCAL_ONLY)
        listed = await door.json("GET", "/config")

    assert shown["config"]["embeddings"]["defaultDim"] == 1536
    assert shown["config"]["inference"]["providers"]["groq"]["model"] == "openai/gpt-oss-20b"
    assert {row["key"]: row["value"] for row in listed["overrides"]} == {
        "embeddings.defaultDim": 1536, "inference.offlineMode": True, "inference.providerPriority": ["local"],
    }  # fmt: skip


async def test_changes_survive_a_restart_and_what_needs_one_waits_for_it(home: Path) -> None:
    async with inside(home) as door:
        live = await changed(door, {"budget": {"monthly": 2.5}})
        waits = await changed(door, {"server": {"port": 4000}})
    async with inside(home) as door:
        restarted = await door.json("GET", "/config")
        budget = await door.json("GET", "/v1/budget")

    assert (live["restart_required"], live["config"]["budget"]["monthly"]) == ([], 2.5)
    assert (waits["restart_required"], waits["config"]["server"]["port"]) == (["server.port"], 3000)
    assert (restarted["restart_required"], restarted["config"]["server"]["port"]) == ([], 4000)
    assert budget["limit"] == 2.5


async def test_a_later_change_of_a_key_is_undone_first(home: Path) -> None:
    async with inside(home) as door:
        first = await changed(door, {"budget": {"monthly": 2}})
        second = await changed(door, {"budget": {"monthly": 3}})
        refused = await door.json("POST", f"/config/undo/{first['change']}", 400)
        await door.json("POST", f"/config/undo/{second['change']}")
        history = await door.json("GET", "/config/history?limit=2")
        older = await door.json("GET", "/config/history", params={"after": history["next"]})

    assert "later change" in refused["hint"]
    assert [(row["value"], row["before"]) for row in history["results"]] == [(2.0, 3.0), (3.0, 2.0)]
    assert history["results"][0]["undoes"] == second["change"]
    assert [(row["value"], row["before"]) for row in older["results"]] == [(2.0, None)]


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        ({}, 400, "nothing to change"),
        ({"budget": {"montly": 3}}, 400, "did you mean budget.monthly?"),
        ({"budget": {"monthly": -1}}, 400, "budget.monthly"),
        ({"budget": {"monthly": 1e300}}, 400, "budget.monthly"),
        ({"budget": {"monthly": "5"}}, 400, "budget.monthly"),
        ({"inference": {"offlineMode": "yes"}}, 400, "inference.offlineMode"),
        ({"server": {"deadline": 10**30}}, 400, "server.deadline"),
        ({"budget": None}, 400, "budget"),
        ({"budget.monthly": 3}, 400, "nest"),
        ({"embeddings": {"default_dim": 384}}, 400, "did you mean embeddings.defaultDim?"),
        ({"inference": {"activeStrategy": "free-lunch"}}, 400, "free-lunch"),
        ({"database": {"url": "postgresql://a:b@c/d"}}, 403, "file only"),
        ({"server": {"tokens": []}}, 403, "file only"),
        ({"cache": {"l2": {"url": "redis://:pass@127.0.0.1"}}}, 403, "secret"),
        ({"inference": {"providers": {"groq": {"apiKeyEnv": "gsk-123/456"}}}}, 403, "secret"),
    ],
)
async def test_what_may_not_be_set_changes_nothing(home: Path, body: dict[str, Any], status: int, words: str) -> None:
    async with inside(home) as door:
        before = await door.json("GET", "/config")
        refused = await changed(door, body, status)

        assert words in json.dumps(refused)
        assert await door.json("GET", "/config") == before


async def test_what_the_environment_sets_cannot_be_changed_silently(home: Path) -> None:
    async with inside(home, environ={"KNOWLEDGE__BUDGET__MONTHLY": "5"}) as door:
        refused = await changed(door, {"budget": {"monthly": 3}}, 403)

    assert "KNOWLEDGE__BUDGET__MONTHLY" in refused["hint"]


async def test_a_form_is_never_taken_for_a_change(home: Path) -> None:
    async with inside(home) as door:
        for path in ("/config", "/internal/budget/freeze"):
            form = await door.client.post(
                path, content=json.dumps(LOCAL_ONLY), headers={"content-type": "application/x-www-form-urlencoded"}
            )
            assert form.status_code == 415
            assert "application/json" in form.json()["hint"]
        assert (await door.json("GET", "/v1/budget"))["frozen"] is False


async def test_the_budget_is_frozen_recomputed_and_unfrozen(home: Path) -> None:
    async with inside(home) as door:
        frozen = await door.json("POST", "/internal/budget/freeze", json={})
        await door.json("POST", "/v1/infer", 403, json=ASK)
        await door.json("POST", "/internal/budget/reset")
        thawed = await door.json("POST", "/internal/budget/unfreeze")
        audit = await door.json("GET", "/internal/audit?limit=100")

    assert (frozen["frozen"], thawed["frozen"]) == (True, False)
    told = [(row["kind"], row["operation"], row["outcome"]) for row in audit["results"]]
    assert ("admin", "POST /internal/budget/freeze", "200") in told
    assert ("budget-freeze", "", "done") in told


async def test_breakers_are_shown_and_closed(home: Path) -> None:
    async with inside(home) as door:
        shown = await door.json("GET", "/internal/circuit-breaker/status")
        closed = await door.json("POST", "/internal/circuit-breaker/reset/groq")
        unknown = await door.json("POST", "/internal/circuit-breaker/reset/nobody", 404)
        told = await door.json("GET", "/internal/audit")

    assert [row["provider"] for row in told["results"] if row["kind"] == "breaker-reset"] == ["groq"]
    assert {row["provider"]: row["breaker"] for row in shown["providers"]}["groq"] == "closed"
    assert closed["strategy"] == "cost-optimized"
    assert "nobody" in unknown["detail"]


async def test_a_limit_set_by_hand_is_not_contradicted_silently(home: Path) -> None:
    assert Cli(home).run("budget", "set", "4").returncode == 0
    async with inside(home) as door:
        refused = await changed(door, {"budget": {"monthly": 3}}, 400)

    assert "budget set" in refused["detail"]


async def test_overrides_are_listed_and_undone_on_the_command_line(home: Path) -> None:
    async with inside(home) as door:
        done = await changed(door, {"budget": {"monthly": 2.5}})
    cli = Cli(home)
    shown = await asyncio.to_thread(cli.json, "config", "show")
    (row,) = (await asyncio.to_thread(cli.json, "config", "overrides"))["overrides"]
    undone = await asyncio.to_thread(cli.json, "config", "undo", done["change"])
    after = await asyncio.to_thread(cli.json, "config", "overrides")

    assert (shown["budget"]["monthly"], row["key"], row["value"]) == (2.5, "budget.monthly", 2.5)
    assert undone["config"]["budget"]["monthly"] == 8.33
    assert after == {"overrides": [], "ignored": []}


async def test_what_no_longer_fits_is_left_out_and_said(home: Path) -> None:
    async with inside(home) as door:
        await changed(door, {"inference": {"activeStrategy": "quality-optimized"}})
        database = await door.system.parts.database()
        misfits = {"budget.gone": "1", "budget.monthly": "1e300", "cache.l1.max": "{"}
        await database.setting_changes().record(misfits, "a newer version")
    async with inside(home) as door:
        shown = await door.json("GET", "/config")
        budget = await door.json("GET", "/v1/budget")
        await changed(door, {"cache": {"l1": {"max": 5}}})
        after = await door.json("GET", "/config")
        findings = await door.system.doctor()

    told = {event.reason.partition(":")[0] for event in door.events if isinstance(event, OverridesIgnored)}
    assert {row["key"] for row in shown["ignored"]} == told == set(misfits)
    assert shown["config"]["inference"]["activeStrategy"] == "quality-optimized"
    assert budget["limit"] == 8.33
    assert after["config"]["cache"]["l1"]["max"] == 5
    assert {row["key"] for row in after["ignored"]} == set(misfits) - {"cache.l1.max"}
    assert "ignored" in json.dumps([row for row in findings["checks"] if row["check"] == "configuration"])


def tokens(home: Path) -> dict[str, dict[str, str]]:
    """Configure one token a scope; return the header that carries each."""
    tree = json.loads((home / "config.json").read_text())
    names = ("read", "write", "admin")
    rows = [{"name": f"the-{one}", "scope": one, "sha256": hashlib.sha256(one.encode()).hexdigest()} for one in names]
    (home / "config.json").write_text(json.dumps({**tree, "server": {"tokens": rows}}))
    return {one: {"authorization": f"Bearer {one}"} for one in names}


async def test_each_scope_opens_its_part_and_no_more(home: Path) -> None:
    head = tokens(home)
    async with inside(home) as door:
        for who, method, path, status in (
            ("read", "GET", "/v1/items", 200), ("read", "DELETE", "/v1/items/x", 403), ("read", "GET", "/config", 403),
            ("write", "DELETE", "/v1/items/x", 404), ("write", "POST", "/internal/budget/freeze", 403),
            ("admin", "GET", "/config", 200), ("admin", "GET", "/v1/items", 200),
        ):  # fmt: skip
            await door.json(method, path, status, headers=head[who])
        shown = await door.json("GET", "/config", headers=head["admin"])
        audit = await door.json("GET", "/internal/audit", headers=head["admin"])

    assert shown["config"]["server"]["tokens"][0] == {
        "name": "the-read", "scope": "read", "sha256": "***", "tokenEnv": None
    }  # fmt: skip
    assert ("http:the-write", "POST /internal/budget/freeze", "403") in [
        (row["actor"], row["operation"], row["outcome"]) for row in audit["results"]
    ]


async def test_wrong_tokens_are_counted_and_a_right_one_on_this_machine_still_opens(home: Path) -> None:
    head = tokens(home)
    async with inside(home, failures=2) as door:
        assert (await door.client.get("/v1/items")).status_code == 401
        assert (await door.client.get("/v1/items", headers={"authorization": "Bearer no"})).status_code == 401
        third = await door.client.get("/v1/items", headers={"authorization": "Bearer no"})
        right = await door.client.get("/v1/items", headers=head["read"])

    assert (third.status_code, third.json()["code"]) == (429, "rate-limited")
    assert 1 <= int(third.headers["retry-after"]) <= WINDOW + 1
    assert right.status_code == 200


async def test_a_refused_request_is_answered_before_its_body_is_read(home: Path) -> None:
    tokens(home)
    sent: list[dict[str, Any]] = []

    async def never() -> dict[str, Any]:
        raise AssertionError("the body was read")

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": "/config", "headers": [(b"content-length", b"99")],
             "query_string": b"", "client": ("10.0.0.9", 1), "scheme": "http", "server": ("localhost", 1)}  # fmt: skip
    reasons: list[str] = []
    async with inside(home, refused=reasons.append) as door:
        await door.app(scope, never, send)

    assert (sent[0]["status"], reasons) == (401, ["unauthorized"])
    assert RequestRefused("unauthorized").reason == "unauthorized"


def test_failures_are_forgotten_after_the_window_and_bounded_in_memory() -> None:
    now = 0.0
    failures = Failures(1, lambda: now)
    failures.failed("a")
    assert failures.wait("a") > 0
    now = WINDOW + 1
    assert failures.wait("a") == 0
    for number in range(10_000):
        failures.failed(str(number))
    assert failures.wait("0") == 0
    assert failures.wait("9999") > 0


def test_what_changes_the_system_needs_admin() -> None:
    assert needed("GET", "/config") is needed("POST", "/internal/budget/reset") is Access.ADMIN
    assert needed("POST", "/v1/search") is needed("HEAD", "/v1/items") is Access.READ
    assert needed("POST", "/v1/exchanges") is needed("POST", "/mcp") is Access.WRITE
