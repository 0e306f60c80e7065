"""A remote embedding model over real HTTP: the whole engine, and a scripted server whose vectors mean something."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from knowledge_system.domain.clock import SystemClock
from knowledge_system.domain.money import BreakerRule
from knowledge_system.embedding.remote import DIMENSION, RemoteEmbeddingModel, RemoteOptions
from knowledge_system.inference.candidates import candidate_of
from knowledge_system.inference.engine import Engine, Shared, Surroundings, build_engine
from knowledge_system.inference.options import EngineOptions
from knowledge_system.inference.prices import price
from knowledge_system.inference.provider import ProviderOptions, make_provider
from knowledge_system.testing.embedding import HashingEmbeddingModel
from knowledge_system.testing.inference import MemoryAudit, MemoryBreakers, MemoryLedger
from knowledge_system.testing.scripted_provider import ScriptedProvider, Step

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from knowledge_system.testing.scripted_provider import Received

MODEL = "text-embedding-3-small"
OPTIONS = RemoteOptions("openai", MODEL, batch_size=32)


def meaningful(received: Received) -> Step:
    """Answer with vectors in which texts that share words are near, as a model's are; in reverse, told by `index`."""
    texts = received.body["input"]
    made = HashingEmbeddingModel(DIMENSION)
    rows = [{"index": place, "embedding": list(made.vector(text))} for place, text in enumerate(texts)]
    tokens = sum(len(text) // 4 + 1 for text in texts)
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return Step(body={"object": "list", "model": MODEL, "data": rows[::-1], "usage": usage})


@dataclass
class Remote:
    """A server, an engine in front of it, and the model."""

    server: ScriptedProvider
    engine: Engine
    ledger: MemoryLedger
    audit: MemoryAudit
    options: RemoteOptions = OPTIONS
    events: list[Any] = field(default_factory=list)

    @property
    def model(self) -> RemoteEmbeddingModel:
        return RemoteEmbeddingModel(self.engine, self.options)

    def with_options(self, **changes: Any) -> RemoteEmbeddingModel:
        return RemoteEmbeddingModel(self.engine, replace(self.options, **changes))

    @property
    def texts(self) -> list[str]:
        """Everything that was sent, in order."""
        return [text for request in self.server.requests for text in request.body["input"]]


@asynccontextmanager
async def remote(dollars: float = 8.33, **options: Any) -> AsyncIterator[Remote]:
    """Start a server that gives meaningful vectors, and an engine with `dollars` to spend."""
    async with ScriptedProvider() as server:
        server.respond = meaningful
        chosen = ProviderOptions(base_url=server.openai_url, embedding_model=MODEL, embedding_price=price("0.02"))
        provider = make_provider("openai", chosen, environ={"OPENAI_API_KEY": "key-of-a-test"}, embeds=True)
        clock, audit, events = SystemClock(), MemoryAudit(), []  # type: ignore[var-annotated]
        ledger = MemoryLedger(clock, round(dollars * 1_000_000_000), audit=audit)
        shared = Shared(ledger, MemoryBreakers(clock))
        engine_options = EngineOptions(**{"backoff": 0.01, "standing_for": 0.0, **options})
        candidate = candidate_of(provider, BreakerRule())
        engine = build_engine([candidate], shared, engine_options, Surroundings(clock, events.append))
        try:
            yield Remote(server, engine, ledger, audit, events=events)
        finally:
            await engine.close()
            await provider.aclose()
