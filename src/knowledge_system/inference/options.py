"""What the engine is told: one small frozen tree, filled by `application` from the settings."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING

from knowledge_system.domain.inference import Call
from knowledge_system.inference.styles import BUILT_IN, DEFAULT, Style, chosen

if TYPE_CHECKING:
    from collections.abc import Mapping

    from knowledge_system.domain.inference import EmbedCall


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """Times in seconds where nothing else is said.

    `internal` is where internal content may go: `local-first`, `local-only` or `anywhere` (the strategy's order).
    `active` is None when the configuration names no strategy. `operations` maps an operation to its strategy.
    `retries` are of the last target standing: N retries are N + 1 requests. `patience` bounds a call without a
    deadline. `max_output` is what a call without one gets: without it no worst case is known. `unclassified` are
    operations of the classifier itself: never classified, always local. `fingerprint` stands for the settings that
    shape answers: it is part of every key of the cache, so that engines set up differently never share an answer.
    """

    priority: tuple[str, ...] = ("local", "groq", "openrouter")
    active: str | None = None
    strategies: Mapping[str, Style] = field(default_factory=lambda: dict(BUILT_IN))
    operations: Mapping[str, str] = field(default_factory=dict)
    internal: str = "local-first"
    offline: bool = False
    retries: int = 2
    backoff: float = 0.5
    patience: float = 120.0
    max_output: int = 1024
    lease: timedelta = timedelta(seconds=60)
    misconfigured_for: float = 300.0
    standing_for: float = 1.0
    classify_within: float = 30.0
    unclassified: frozenset[str] = frozenset({"classify-sensitivity"})
    l1_entries: int = 1000
    l1_bytes: int = 64 * 1024 * 1024
    l1_ttl: float = 3600.0
    l2_ttl: float = 86_400.0
    l2_private: bool = False
    generation_for: float = 1.0
    fingerprint: str = ""
    embed_inputs: int = 2048
    embed_tokens: int = 300_000

    def style(self, call: Call | EmbedCall) -> Style:
        """Return the strategy of `call`, by the precedence written in `styles`. Raises UsageError if unknown."""
        name = (call.strategy if isinstance(call, Call) else None) or self.operations.get(call.operation) or self.active
        if name:
            return chosen(self.strategies, name)
        style = self.strategies[DEFAULT]
        return Style("providerPriority", self.priority, cache_aggressive=style.cache_aggressive, batch=style.batch)
