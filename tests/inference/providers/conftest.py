"""A scripted server, and providers pointed at it. No test here can reach another host."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from knowledge_system.inference.prices import Price, price
from knowledge_system.inference.provider import Provider, ProviderOptions
from knowledge_system.inference.transport import Reach
from knowledge_system.inference.vendors import vendor
from knowledge_system.testing.scripted_provider import ScriptedProvider

KEY = "sk-test-0123456789abcdef"
NOW = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
PRICE: Price = price("1", "4")
DIALECTS = ("groq", "openrouter", "gemini", "openai", "anthropic", "local", "local-v1")
Make = Callable[..., Provider]


class FixedClock:
    """A clock that stands still."""

    def now(self) -> datetime:
        return NOW


@pytest.fixture(autouse=True)
def _loopback_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Reach, "loopback_only", True)


@pytest.fixture
async def server() -> AsyncIterator[ScriptedProvider]:
    async with ScriptedProvider() as running:
        yield running


@pytest.fixture
async def make(server: ScriptedProvider) -> AsyncIterator[Make]:
    """Return a factory: `make("groq", embeds=True, price=…)`; `local-v1` is a local server of the OpenAI protocol."""
    made: list[Provider] = []

    def build(dialect: str = "groq", *, embeds: bool = False, key: str | None = KEY, **options: object) -> Provider:
        row = vendor(dialect.removesuffix("-v1"))
        base = server.ollama_url if dialect == "local" else server.openai_url
        chosen = replace(ProviderOptions(base_url=base, price=PRICE, embedding_price=PRICE), **options)  # type: ignore[arg-type]
        provider = Provider(row, chosen, key=key, clock=FixedClock(), embeds=embeds)
        made.append(provider)
        return provider

    yield build
    for provider in made:
        await provider.aclose()
