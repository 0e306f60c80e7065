"""Nouns for the storage tests, made with as few words as a test needs."""

from __future__ import annotations

from array import array
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from knowledge_system.domain.embedding import EmbeddingSpace
from knowledge_system.domain.knowledge import Evidence, KnowledgeItem, KnowledgeType
from knowledge_system.domain.sessions import Exchange, Session, SourceState
from knowledge_system.domain.truth import IngestBatch, SavedExchanges, Truth

START = datetime(2026, 1, 1, tzinfo=UTC)
SPACE = EmbeddingSpace("small", 4, "r1")
OTHER_SPACE = EmbeddingSpace("small", 4, "r2")


class HandClock:
    """A clock that stands until a test moves it."""

    def __init__(self) -> None:
        self.moment = datetime(2026, 6, 1, tzinfo=UTC)

    def now(self) -> datetime:
        return self.moment

    def advance(self, **step: float) -> None:
        self.moment += timedelta(**step)


def minute(number: float) -> datetime:
    return START + timedelta(minutes=number)


def exchange(name: str = "a", **values: Any) -> Exchange:
    """An exchange `x<name>`; its content hash follows its texts."""
    one = Exchange(
        id=f"x{name}",
        session_id="s1",
        index=0,
        path="/logs/s1.jsonl",
        project="api",
        agent="coder",
        user=f"question {name}",
        assistant=f"answer {name}",
        content_hash="",
        timestamp=START,
    )
    one = replace(one, **values)
    return one if one.content_hash else replace(one, content_hash=f"h:{one.user}:{one.assistant}:{one.tools}")


def session(name: str = "s1", **values: Any) -> Session:
    one = Session(id=name, project="api", agent="coder", format="jsonl", path=f"/logs/{name}.jsonl", started_at=START)
    return replace(one, **values)


def state(**values: Any) -> SourceState:
    return replace(SourceState("/logs/s1.jsonl", "jsonl", 10, 1_700_000_000_000_000_001, "abc", 1), **values)


def batch(*exchanges: Exchange, **values: Any) -> IngestBatch:
    return replace(IngestBatch(sessions=(session(),), exchanges=exchanges, state=state()), **values)


async def save(truth: Truth, *exchanges: Exchange) -> SavedExchanges:
    return await truth.ingest.save(batch(*exchanges))


def evidence(name: str, start: int = 0) -> Evidence:
    return Evidence(f"x{name}", "assistant", start, start + 6)


def item(name: str = "1", *sources: str, **values: Any) -> KnowledgeItem:
    """An item `k<name>` that rests on the exchanges `x<source>`, `xa` when none is named."""
    rests_on = sources or ("a",)
    one = KnowledgeItem(
        id=f"k{name}",
        type=KnowledgeType.BUG_SOLUTION,
        title=f"title {name}",
        content=f"content {name}",
        confidence=0.7,
        project="api",
        session_id="s1",
        created_at=START,
        updated_at=START,
        valid_from=START,
        evidence=tuple(evidence(source) for source in rests_on),
        support=len(set(rests_on)),
    )
    return replace(one, **values)


def vector(*values: float) -> array[float]:
    return array("f", values or (1.0, 0.0, 0.0, 0.0))


async def drain(truth: Truth) -> None:
    """Empty the outbox, as an indexer would."""
    for stage in ("words", "vectors"):
        await truth.outbox.advance(await truth.outbox.pending(stage, 10_000), None)


async def waiting(truth: Truth, stage: str = "words") -> set[str]:
    return {entry.owner_id for entry in await truth.outbox.pending(stage, 10_000)}
