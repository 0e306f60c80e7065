"""Budget, providers and audit through the command line; providers are scripted servers on this machine."""

from __future__ import annotations

import asyncio
import json
from decimal import Decimal
from pathlib import Path

import pytest
from tests.interfaces.conftest import Cli

from knowledge_system import settings
from knowledge_system.application.compose import Parts
from knowledge_system.application.engine import open_engine
from knowledge_system.domain.errors import RefusedByPolicy
from knowledge_system.domain.inference import Call, Message
from knowledge_system.domain.sensitivity import Sensitivity
from knowledge_system.testing.scripted_provider import ScriptedProvider, Step

FIELDS = {"limit", "spend", "reserved", "remaining", "percentage", "tier", "frozen", "offline"}


def test_the_budget_starts_as_documented_and_is_set_for_everybody(cli: Cli) -> None:
    status = cli.json("budget", "status")

    assert set(status) >= FIELDS
    assert (status["limit"], status["spend"], status["tier"]) == (8.33, 0, "normal")
    assert cli.json("budget", "set", "5")["limit"] == 5
    assert cli.json("budget", "status")["limit"] == 5
    assert cli.json("budget", "set", "1.5", "--scope", "project:shop")["limits"] == {"project:shop": 1.5}


def test_freeze_reads_back_what_is_in_force(cli: Cli) -> None:
    assert cli.json("budget", "freeze")["frozen"]
    assert cli.json("budget", "status")["frozen"]
    assert not cli.json("budget", "unfreeze")["frozen"]
    assert [row["kind"] for row in cli.json("audit")["results"]] == ["budget-unfreeze", "budget-freeze"]


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("budget", "set", "--", "-1"), 2),
        (("budget", "set", "1e300"), 2),
        (("budget", "set", "much"), 2),
        (("providers", "reset", "skynet"), 3),
        (("audit", "--limit", "0"), 2),
    ],
)
def test_a_wrong_request_changes_nothing(cli: Cli, arguments: tuple[str, ...], code: int) -> None:
    assert cli.run(*arguments).returncode == code
    assert cli.json("budget", "status")["limit"] == 8.33


def test_providers_say_what_keeps_them_from_being_used(cli: Cli) -> None:
    cli.environ |= {"GROQ_API_KEY": "", "OPENAI_API_KEY": "sk-of-a-test"}

    rows = {row["provider"]: row for row in cli.json("providers", "status")["providers"]}

    assert "GROQ_API_KEY" in rows["groq"]["problem"]
    assert not rows["openai"]["problem"]
    assert rows["local"]["local"]
    assert rows["groq"]["rule"] == {"failure_threshold": 5, "reset_timeout": 60_000, "half_open_requests": 3}
    assert all(row["breaker"] == "closed" for row in rows.values())
    assert cli.run("providers", "reset", "groq").returncode == 0


async def ask(home: Path, call: Call) -> str:
    async with Parts(settings.load(home, environ={}), "test") as parts:
        return (await (await open_engine(parts)).infer(call)).text


def groq_at(home: Path, url: str, monthly: float) -> None:
    priced = {"input": 1.0, "output": 2.0}
    tree = {
        "budget": {"monthly": monthly},
        "inference": {
            "providerPriority": ["groq"],
            "localModels": {"enabled": False},
            "providers": {"groq": {"baseUrl": url, "model": "openai/gpt-oss-20b", "price": priced}},
        },
    }
    (home / "config.json").write_text(json.dumps(tree))


def question(level: Sensitivity = Sensitivity.PUBLIC) -> Call:
    return Call("test", (Message("user", "Say hello."),), sensitivity=level, max_output=10)


async def test_a_call_is_charged_audited_and_refused_over_budget(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GROQ_API_KEY", "key-of-a-test")
    async with ScriptedProvider(default=Step(text="hello", input_tokens=100, output_tokens=10)) as server:
        groq_at(cli.home, server.openai_url, 8.33)

        assert await ask(cli.home, question()) == "hello"

        after = await asyncio.to_thread(cli.json, "budget", "status")
        assert Decimal(str(after["spend"])) == Decimal("0.00012"), "100 tokens at $1 and 10 at $2 a million"
        (entry,) = (await asyncio.to_thread(cli.json, "audit"))["results"]
        assert (entry["provider"], entry["operation"], entry["sensitivity"]) == ("groq", "test", "public")
        assert "hello" not in json.dumps(entry).lower()

        groq_at(cli.home, server.openai_url, 0.00012)
        sent = len(server.requests)
        with pytest.raises(RefusedByPolicy):
            await ask(cli.home, question())
        assert len(server.requests) == sent, "refused before anything was sent"


async def test_confidential_content_never_reaches_a_remote_provider(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GROQ_API_KEY", "key-of-a-test")
    async with ScriptedProvider(default=Step(text="hello")) as server:
        groq_at(cli.home, server.openai_url, 8.33)

        for level in (Sensitivity.CONFIDENTIAL, Sensitivity.SECRET):
            with pytest.raises(RefusedByPolicy):
                await ask(cli.home, question(level))

        assert server.requests == []
