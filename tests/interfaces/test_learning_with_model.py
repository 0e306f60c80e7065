"""Learning with a model, from a transcript to the item, the bill and the audit; and everything that can go wrong."""

from __future__ import annotations

import asyncio
import json
import random
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tests.canaries.birds import TOPICS, Net, everything
from tests.interfaces.conftest import CHORE, FIXED_BUG, Cli
from tests.interfaces.teaching import LESSON, School, asked, good, of_mind, shown

from knowledge_system.application.compose import Parts
from knowledge_system.application.engine import engine_state
from knowledge_system.extraction.framing import prompt
from knowledge_system.settings import load
from knowledge_system.testing.scripted_provider import ScriptedProvider, Step

WITHOUT = "evidence-"
REPORT = {
    "timestamp": "2026-01-06T10:00:00Z",
    "user": "the nightly report is empty on mondays: KeyError: 'weekday'",
    "assistant": "The root cause is that `load_rows()` filters by `date.today()`, and on Mondays the previous working"
    " day is Friday, so the filter matches nothing. I changed `load_rows()` in `report/rows.py` to ask the calendar for"
    " the last working day instead of subtracting one day. All 57 tests pass.",
    "tools": FIXED_BUG["tools"],
}
CREDENTIAL = {
    **FIXED_BUG,
    "user": f"{FIXED_BUG['user']} The database is postgres://shop:Xk39vQ2pLm@db.internal/orders",
}


@pytest.fixture
async def school(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[School]:
    for variable in ("OPENROUTER_API_KEY", "OPENAI_API_KEY"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("GROQ_API_KEY", "key-of-a-test")
    async with ScriptedProvider() as server:
        server.respond = of_mind(good)
        made = School(cli, server, tmp_path / "sessions")
        made.configure()
        yield made


def unused_url() -> str:
    """Return an address on this machine where nobody listens."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{one.getsockname()[1]}"


def reasons(document: dict[str, Any]) -> dict[str, int]:
    return {row["reason"]: row["count"] for row in document["model"]["fallbacks"]}


async def test_what_a_model_taught_says_so_is_paid_for_and_audited(school: School) -> None:
    path = school.transcript(FIXED_BUG, CHORE)

    done = await school.json("ingest", path)

    model = done["model"]
    assert (model["mode"], model["used"], model["calls"], model["answered"], model["why"]) == ("auto", True, 1, 1, "")
    assert model["exchanges"] == {"asked": 1, "kept": 1, "dismissed": 0, "disbelieved": 0, "reused": 0}
    assert model["fallbacks"] == []
    (item,) = (await school.json("list"))["results"]
    assert (item["title"], item["type"], item["content"]) == (LESSON["title"], LESSON["type"], LESSON["content"])
    told = {key: item["metadata"][key] for key in ("prompt", "provider", "model")}
    assert told == {"prompt": "extract-1", "provider": "groq", "model": "m-far"}
    assert item["metadata"]["extractor"].startswith("extract-1+evidence-")
    spent = (await school.json("budget", "status"))["spend"]
    assert spent == model["cost"] > 0
    (entry,) = (await school.json("audit"))["results"]
    assert (entry["operation"], entry["project"], entry["sensitivity"]) == ("extract", "shop", "internal")
    assert entry["cost"] == spent
    (request,) = school.server.requests
    assert request.body["messages"][0]["content"] == prompt("extract-1")
    assert shown(asked(request)) == [(FIXED_BUG["user"], FIXED_BUG["assistant"])], "the chore was not sent"
    printed = await school.json("show", item["id"])
    assert [one["quote"] for one in printed["evidence"]] == LESSON["quotes"]


async def test_the_command_line_says_what_asking_came_to(school: School) -> None:
    school.server.default = Step(status=500)
    school.server.respond = None
    done = school.cli.start("ingest", school.transcript(FIXED_BUG), stdout=-1, stderr=-1)
    out, err = await asyncio.to_thread(done.communicate)
    assert done.returncode == 0, err
    assert "1 items learned" in out
    assert "1 without a model: no-provider" in out


async def test_without_a_key_nobody_is_asked_and_the_reason_is_told(
    school: School, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("GROQ_API_KEY")
    (school.cli.home / "config.json").unlink()

    done = await school.ingest()

    assert done["items"]["created"] == 1
    assert (done["model"]["used"], done["model"]["calls"]) == (False, 0)
    assert "GROQ_API_KEY is not set" in done["model"]["why"]
    assert "local: not configured" in done["model"]["why"]
    assert school.seen == ""


@pytest.mark.parametrize(
    ("learning", "inference", "why"),
    [
        ({"withModel": "never"}, {}, "learning.withModel is never"),
        ({}, {"offlineMode": True}, "offlineMode"),
        ({}, {"providerPriority": ["openrouter"]}, "OPENROUTER_API_KEY is not set"),
        ({}, {"providers": {"groq": {"baseUrl": "http://far.example/v1"}}}, "https"),
        ({}, {"operations": {"extract": "mine"}, "strategies": {"mine": {"priority": ["openai"]}}}, "OPENAI_API_KEY"),
    ],
    ids=["never", "offline", "not permitted", "unsafe address", "own strategy"],
)
async def test_who_is_not_allowed_is_not_asked(
    school: School, learning: dict[str, Any], inference: dict[str, Any], why: str
) -> None:
    school.configure(learning=learning, inference=inference)

    done = await school.ingest()

    assert (done["items"]["created"], done["model"]["calls"]) == (1, 0)
    assert why in done["model"]["why"]
    assert school.seen == ""


FAULTS = {
    "down": Step(cut="start"),
    "500": Step(status=500),
    "401": Step(status=401),
    "429": Step(status=429, headers={"retry-after": "600"}),
    "prose": Step(text="Here is what I found: nothing."),
    "half": Step(text='{"exchanges": [{"index": 1'),
    "wrong form": Step(text='{"exchanges": [{"index": 1, "worth": "yes"}]}'),
    "cut off": Step(text='{"exchanges": []}', finish="length"),
    "refusal": Step(text="I cannot help with that.", finish="content_filter"),
    "hangs": Step(hang="start"),
    "stops": Step(hang="middle"),
}


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_model_that_fails_costs_nobody_a_lesson(school: School, fault: str) -> None:
    school.server.respond = None
    school.server.default = FAULTS[fault]
    school.configure(learning={"model": {"deadline": 1000}})

    done = await school.ingest()

    assert done["items"]["created"] == 1
    assert done["degraded"] == []
    assert sum(reasons(done).values()) == 1
    (item,) = await school.items()
    assert item.metadata["extractor"].startswith(WITHOUT)
    assert item.metadata["without_model"] in reasons(done)


async def test_a_provider_that_is_not_there_costs_nobody_a_lesson_either(school: School) -> None:
    groq = {"baseUrl": f"{unused_url()}/v1", "model": "m", "price": {"input": 1, "output": 1}}
    school.configure(inference={"providers": {"groq": groq}})

    done = await school.json("ingest", school.transcript(FIXED_BUG, REPORT))

    assert done["items"]["created"] == 2
    assert reasons(done) == {"no-provider": 2}
    assert "groq" in done["model"]["fallbacks"][0]["detail"]


async def test_no_money_means_no_call_and_a_lesson_all_the_same(school: School) -> None:
    school.configure(budget={"monthly": 0})

    done = await school.json("ingest", school.transcript(FIXED_BUG))

    assert done["items"]["created"] == 1
    assert reasons(done) == {"budget-exhausted": 1}
    assert school.server.requests == []
    assert (await school.json("budget", "status"))["spend"] == 0


async def test_a_limit_on_the_operation_or_project_is_a_limit_on_learning(school: School) -> None:
    await school.json("budget", "set", "0", "--scope", "operation:extract")
    assert reasons(await school.ingest()) == {"budget-exhausted": 1}
    assert school.server.requests == []


async def test_an_open_breaker_is_not_knocked_at_by_the_next_process(school: School) -> None:
    school.server.respond = None
    school.server.default = Step(status=500)
    school.configure(circuitBreaker={"groq": {"failureThreshold": 1, "resetTimeout": 3_600_000}})
    await school.ingest(FIXED_BUG)
    sent = len(school.server.requests)

    done = await school.ingest(REPORT, name="s2")

    assert len(school.server.requests) == sent == 1
    assert done["items"]["created"] == 1
    assert "breaker" in done["model"]["fallbacks"][0]["detail"]


async def test_confidential_exchanges_stay_here_and_are_learned_without_a_model(school: School) -> None:
    done = await school.ingest(CREDENTIAL)

    assert done["sensitivity"]["confidential"] == 1
    assert (done["items"]["created"], reasons(done)) == (1, {"privacy-refused": 1})
    assert school.seen == ""


async def test_one_confidential_exchange_does_not_keep_the_others_from_being_taught(school: School) -> None:
    done = await school.ingest(CREDENTIAL, FIXED_BUG)

    assert done["model"]["exchanges"]["kept"] == 1
    assert "Xk39vQ2pLm" not in school.seen
    assert len(school.server.requests) == 1


async def test_a_local_server_that_the_user_configured_teaches_for_nothing_and_sees_confidential_exchanges(
    school: School, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("GROQ_API_KEY")
    school.configure(inference={"localModels": {"endpoint": school.server.ollama_url}})

    done = await school.ingest(CREDENTIAL)

    assert done["model"]["exchanges"]["kept"] == 1
    assert done["model"]["cost"] == 0
    (item,) = await school.items()
    assert (item.metadata["provider"], item.sensitivity.value) == ("local", "confidential")


async def test_a_configured_local_server_that_is_not_there_is_knocked_at_once_and_the_breaker_remembers(
    school: School, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("GROQ_API_KEY")
    school.configure(
        inference={"localModels": {"endpoint": unused_url()}},
        circuitBreaker={"local": {"failureThreshold": 1, "resetTimeout": 3_600_000}},
    )

    first, second = await school.ingest(FIXED_BUG), await school.ingest(REPORT, name="s2")

    assert [one["items"]["created"] for one in (first, second)] == [1, 1]
    assert "no server at" in first["model"]["why"]
    assert "breaker" in second["model"]["why"]


async def test_always_tries_the_local_server_without_being_told_of_one(
    school: School, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("GROQ_API_KEY")
    school.configure(learning={"withModel": "always"}, inference={"localModels": {"endpoint": unused_url()}})

    done = await school.ingest()

    assert (done["items"]["created"], done["model"]["calls"], reasons(done)) == (1, 1, {"no-provider": 1})


async def test_what_was_taught_is_not_paid_for_again_when_the_session_goes_on(school: School) -> None:
    await school.ingest(FIXED_BUG)

    done = await school.ingest(FIXED_BUG, REPORT)

    assert done["model"]["exchanges"]["reused"] == 1
    assert [shown(asked(one)) for one in school.server.requests[1:]] == [[(REPORT["user"], REPORT["assistant"])]]
    assert LESSON["title"] in {one.title for one in await school.items()}


async def test_nothing_to_learn_needs_nobody(school: School) -> None:
    await school.ingest(FIXED_BUG)
    sent = len(school.server.requests)

    done = await school.ingest(FIXED_BUG)

    assert done["model"]["why"] == "nothing to learn from"
    assert len(school.server.requests) == sent


async def test_settings_decide_what_deserves_a_call(school: School) -> None:
    school.configure(learning={"model": {"sureAbove": 0.0, "plausibleFrom": 1.0}})
    done = await school.ingest()
    assert (done["model"]["calls"], done["model"]["used"]) == (0, False)
    assert school.seen == ""


async def test_doubtful_pairs_are_judged_and_merged(school: School) -> None:
    again = {**FIXED_BUG, "timestamp": "2026-01-07T10:00:00Z", "user": f"{FIXED_BUG['user']} It is back on main."}
    words = {1: LESSON["title"], 2: "Every 404 leaks a pooled connection of an order that is missing"}

    def twice(_: str, assistant: str) -> Any:
        taught = len(school.server.requests)
        return {**LESSON, "title": words[min(taught, 2)], "content": f"{words[min(taught, 2)]}. {assistant[:150]}"}

    def same(request: Any) -> Step:
        if " PAIR 1>>>" in asked(request):
            return Step(text='{"pairs": [{"index": 1, "relation": "same", "quote": ""}]}')
        return of_mind(twice)(request)

    school.server.respond = same
    school.configure(learning={"duplicateAt": 1.0, "model": {"doubtfulFrom": 0.3}})
    await school.ingest(FIXED_BUG)

    done = await school.ingest(again, name="s2")

    assert (done["items"]["created"], done["items"]["merged"]) == (0, 1)
    assert done["model"]["pairs"] == {"asked": 1, "same": 1}
    (item,) = await school.items()
    assert item.support == 2
    operations = {entry["operation"] for entry in (await school.json("audit"))["results"]}
    assert operations == {"extract", "judge-duplicate"}


async def test_our_own_prompts_are_not_what_privacy_objects_to(school: School) -> None:
    async with Parts(load(school.cli.home, environ={}), "test") as parts:
        layers = parts.layers()
        for version in ("extract-1", "judge-duplicate-1"):
            texts = [prompt(version)]
            found = [await layers.classify(texts, "extract"), await layers.examine(texts, "extract")]
            assert [one.level.value for one in found] == ["public", "public"], version


async def test_no_canary_reaches_the_provider_by_way_of_learning(school: School) -> None:
    (school.cli.home / "sensitivity-topics.json").write_text(json.dumps(TOPICS))
    drawn = random.Random(7).sample(everything(), 120)
    exchanges = []
    for number, canary in enumerate(drawn):
        story = REPORT if number % 2 else FIXED_BUG
        if number % 3 or canary.kind.startswith("topic:"):
            told = {"user": f"{canary.text}\n\n{story['user']} ({number})"}
        else:
            told = {"user": f"{story['user']} ({number})", "assistant": f"{story['assistant']}\n\n{canary.text}"}
        exchanges.append({**story, **told})

    done = await school.ingest(*exchanges, FIXED_BUG, REPORT)

    assert done["model"]["answered"] > 0, "something was sent, so the check can fail"
    assert Net(drawn).caught(school.seen) == set()


async def test_the_ledger_and_the_document_agree_on_many_calls(school: School) -> None:
    exchanges = [{**REPORT, "user": f"{REPORT['user']} ({n})"} for n in range(12)]
    done = await school.ingest(*exchanges)
    assert done["model"]["answered"] >= 2
    async with Parts(load(school.cli.home, environ={}), "test") as parts:
        status = await (await engine_state(parts)).ledger.status()
    assert status.settled_nano == round(done["model"]["cost"] * 1e9)
    assert status.reserved_nano == 0
