"""Nouns for the retrieval tests, and a small system of fakes to search in."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from knowledge_system.domain.knowledge import Evidence, KnowledgeItem, KnowledgeType
from knowledge_system.domain.sensitivity import Sensitivity
from knowledge_system.domain.sessions import Exchange, Session
from knowledge_system.retrieval.indexing import Indexer
from knowledge_system.retrieval.search import Searcher
from knowledge_system.testing.embedding import HashingEmbeddingModel
from knowledge_system.testing.index import MemoryIndex
from knowledge_system.testing.truth import memory_truth

if TYPE_CHECKING:
    from knowledge_system.domain.events import Event
    from knowledge_system.domain.search import SearchResponse

NOW = datetime(2026, 6, 1, tzinfo=UTC)
ANSWER = "A full answer that explains what was done, why it was done, and how it was checked afterwards."


def days_ago(days: float) -> datetime:
    return NOW - timedelta(days=days)


def exchange(name: str, user: str = "", assistant: str = ANSWER, **values: Any) -> Exchange:
    one = Exchange(
        id=f"x{name}",
        session_id=f"s-{name}",
        index=0,
        path=f"/logs/{name}.jsonl",
        project="api",
        agent="coder",
        user=user,
        assistant=assistant,
        content_hash=f"h-{name}",
        timestamp=days_ago(10),
    )
    return replace(one, **values)


def item(name: str, title: str, content: str = "", **values: Any) -> KnowledgeItem:
    one = KnowledgeItem(
        id=f"k{name}",
        type=KnowledgeType.BUG_SOLUTION,
        title=title,
        content=content or title,
        confidence=0.8,
        project="api",
        session_id=f"s-{name}",
        created_at=days_ago(5),
        updated_at=days_ago(5),
        valid_from=days_ago(10),
        evidence=(Evidence(f"x{name}", "assistant", 0, 5),),
    )
    return replace(one, **values)


class StandingClock:
    def now(self) -> datetime:
        return NOW


def open_scrub(text: str) -> tuple[str, Sensitivity]:
    return text, Sensitivity.INTERNAL


@dataclass
class World:
    """A searcher over fakes, and what it announced."""

    model: Any = field(default_factory=HashingEmbeddingModel)
    scrub: Any = open_scrub

    def __post_init__(self) -> None:
        self.truth = memory_truth(StandingClock())
        self.index = MemoryIndex(self.model.space)
        self.events: list[Event] = []
        self.searcher = Searcher(self.truth, self.index, self.model, StandingClock(), self.events.append, self.scrub)
        self.indexer = Indexer(self.truth, self.index, self.model)

    async def add(self, *records: Exchange | KnowledgeItem, indexed: bool = True) -> None:
        sessions = {
            one.session_id: Session(one.session_id, one.project, "coder", "jsonl", "/logs/a.jsonl") for one in records
        }
        exchanges = [one for one in records if isinstance(one, Exchange)]
        items = [one for one in records if isinstance(one, KnowledgeItem)]
        await self.truth.items.load([*sessions.values(), *exchanges, *items])
        if indexed:
            await self.indexer.catch_up()


def ids(response: SearchResponse) -> list[str]:
    return [hit.id for hit in response.results]
