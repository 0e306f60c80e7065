"""The whole stack: events, resources, what an import does."""

from __future__ import annotations

import asyncio
import subprocess
import sys

import pytest
from tests.inference.engine.actors import WORST, FakeModel, answer, ask, failed, hang, local, remote, scene, until
from tests.inference.engine.test_budget import BrokenLedger

from knowledge_system.domain.events import ModelCalled
from knowledge_system.domain.inference import (
    BudgetExhausted,
    Call,
    EmbedCall,
    FailureKind,
    NoProvider,
    PrivacyRefused,
    Reply,
)
from knowledge_system.domain.money import SENT
from knowledge_system.domain.sensitivity import Sensitivity
from knowledge_system.inference.canonical import content_hash
from knowledge_system.inference.engine import Shared, Surroundings, build_engine


async def test_each_logical_call_is_announced_once_however_it_ends() -> None:
    groq, openai = FakeModel("groq", failed(FailureKind.SERVER), failed(FailureKind.REFUSED)), FakeModel("openai")
    stage = scene(remote(groq), remote(openai, embeds=True), remote(openai))
    await stage.engine.infer(ask(project="api"))
    with pytest.raises(NoProvider):
        await stage.engine.infer(ask(provider="groq"))
    with pytest.raises(PrivacyRefused):
        await stage.engine.infer(ask(sensitivity=Sensitivity.SECRET))
    await stage.engine.embed(EmbedCall("embed-query", ("x",), provider="openai"))
    events = stage.told(ModelCalled)
    assert [event.outcome for event in events] == ["answered", "no-provider", "privacy-refused", "answered"]
    first = events[0]
    assert (first.provider, first.model, first.operation, first.project) == ("openai", "openai-model", "extract", "api")
    assert (first.cost_nano, first.requests, first.cached, first.sensitivity) == (110, 2, False, "public")
    assert [event.operation for event in events] == ["extract", "extract", "extract", "embed-query"]


async def test_a_cancelled_call_is_announced_as_such() -> None:
    groq = FakeModel("groq", hang)
    stage = scene(remote(groq))
    task = asyncio.create_task(stage.engine.infer(ask()))
    await until(lambda: groq.seen)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert [event.outcome for event in stage.told(ModelCalled)] == ["cancelled"]


async def test_events_hold_no_content() -> None:
    stage = scene(remote(FakeModel("groq", answer("the answer's words"))))
    await stage.engine.infer(ask("the question's words"))
    assert "words" not in repr(stage.events)


async def test_t35_what_cannot_be_entered_in_the_audit_log_is_not_sent_and_nothing_queues_up() -> None:
    groq = FakeModel("groq")
    stage = scene(remote(groq))
    engine = build_engine(
        stage.candidates, Shared(BrokenLedger(), stage.breakers), stage.options, Surroundings(stage.clock)
    )
    for number in range(50):
        with pytest.raises(NoProvider, match="locked"):
            await engine.infer(ask(str(number)))
    assert engine._parts.finishing.pending == 0
    assert not groq.seen


async def test_an_attempt_is_in_the_audit_log_before_its_first_byte_leaves() -> None:
    seen: list[tuple[str, int, str]] = []

    async def look(_: Call) -> Reply:
        seen.extend((row.content_hash, row.cost_nano, row.outcome) for row in stage.audit.rows)
        return answer("done", tokens=7)

    stage = scene(remote(FakeModel("groq", look)))
    call = ask()
    await stage.engine.infer(call)
    assert seen == [(content_hash(call), WORST, SENT)]
    assert [(row.cost_nano, row.outcome) for row in stage.audit.rows] == [(7, "answered")]


async def test_an_attempt_that_is_refused_leaves_no_entry() -> None:
    stage = scene(remote(FakeModel("groq")), limit=WORST - 1, tiers=(1.0, 1.0))
    with pytest.raises(BudgetExhausted):
        await stage.engine.infer(ask())
    assert not stage.audit.rows


async def test_nothing_is_left_running_after_many_mixed_calls() -> None:
    groq = FakeModel("groq", failed(FailureKind.SERVER), answer(), hang, failed(FailureKind.MALFORMED), answer())
    stage = scene(remote(groq, timeout=0.002), local(FakeModel("local")))
    styles = [None, "latency-optimized", "quality-optimized"]
    calls = [ask(str(number), strategy=styles[number % 3], temperature=0) for number in range(60)]
    await asyncio.gather(*(stage.engine.infer(call) for call in calls), return_exceptions=True)
    await stage.engine.close()
    assert asyncio.all_tasks() == {asyncio.current_task()}
    assert len(stage.engine._parts.shelves.replies) == 0


def test_t37_importing_the_engine_calls_nobody() -> None:
    script = """
import socket
def refuse(*_, **__):
    raise SystemExit("network at import")
socket.socket.connect = socket.create_connection = socket.getaddrinfo = refuse
import knowledge_system.inference.engine, knowledge_system.storage.redis_cache
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)
