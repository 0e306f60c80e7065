"""The engine: every model call of the system goes through here.

``trace → privacy → batches → cache → strategy → per attempt: span → breaker → audit → budget → time limit → provider``
"""

from __future__ import annotations

import asyncio
import dataclasses
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from knowledge_system.domain.errors import UsageError
from knowledge_system.domain.events import Emit, discard
from knowledge_system.domain.sensitivity import Sensitivity
from knowledge_system.inference.attempting import Means
from knowledge_system.inference.auditing import Audited
from knowledge_system.inference.batching import Batched
from knowledge_system.inference.breaking import Guarded, Watch
from knowledge_system.inference.budgeting import Budgeted, Purse
from knowledge_system.inference.caching import Cached, Shelves
from knowledge_system.inference.finishing import Finishing
from knowledge_system.inference.generation import OwnGeneration, RememberedGeneration
from knowledge_system.inference.memory_cache import MemoryCache
from knowledge_system.inference.privacy import PrivacyGate, Stack, allowed
from knowledge_system.inference.spans import Spanned
from knowledge_system.inference.standing import Standing
from knowledge_system.inference.strategy import Strategic
from knowledge_system.inference.timing import TimeLimited
from knowledge_system.inference.tracing import Traced

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence

    from knowledge_system.domain.clock import Clock
    from knowledge_system.domain.inference import Call, Delta, EmbedCall, EmbedReply, LanguageModel, Reply
    from knowledge_system.domain.money import Breakers, BreakerStatus, BudgetLedger, ResponseCache
    from knowledge_system.domain.sensitivity import Classifier
    from knowledge_system.inference.breaking import Mark
    from knowledge_system.inference.candidates import Bill, Candidate
    from knowledge_system.inference.generation import Generation
    from knowledge_system.inference.options import EngineOptions
    from knowledge_system.inference.styles import Style


@dataclass(frozen=True, slots=True)
class Shared:
    """What processes share: ledger (and audit log), breakers; where they have them, cache and generation."""

    ledger: BudgetLedger
    breakers: Breakers
    cache: ResponseCache | None = None
    generation: Generation | None = None


@dataclass(frozen=True, slots=True)
class Surroundings:
    """Time and ears: tests hand in their own."""

    clock: Clock
    emit: Emit = discard
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    monotonic: Callable[[], float] = time.monotonic


def build_engine(
    candidates: Sequence[Candidate],
    shared: Shared,
    options: EngineOptions,
    surroundings: Surroundings,
    classifier: Classifier | None = None,
) -> Engine:
    """Stack the wrappers. What a level may not reach is not in its stack."""
    parts = _Parts(shared, options, surroundings)

    def attempt(bill: Bill) -> LanguageModel:
        limited = TimeLimited(bill.candidate)
        budgeted = Budgeted(limited, bill, parts.purse, options.lease)
        audited = Audited(budgeted, bill, surroundings.clock)
        return Spanned(Guarded(audited, bill, parts.watch), bill)

    means = Means(
        options,
        attempt,
        parts.standing,
        surroundings.clock,
        surroundings.sleep,
        parts.finishing,
        surroundings.monotonic,
    )

    def stack(level: Sensitivity) -> Stack:
        permitted = allowed(candidates, level, options.internal)
        local_first = level is Sensitivity.INTERNAL and options.internal == "local-first"
        strategic = Strategic(permitted, means, prefer_local=local_first)
        cached = Cached(strategic, permitted, level, parts.shelves)
        return Stack(permitted, Batched(cached, options.embed_inputs, options.embed_tokens))

    stacks: dict[Sensitivity, Stack] = {level: stack(level) for level in Sensitivity if level is not Sensitivity.SECRET}
    gate = PrivacyGate(stacks, candidates, classifier, options)
    return Engine(Traced(gate, surroundings.emit, surroundings.monotonic), parts)


class _Parts:
    """What the wrappers of one engine have in common."""

    def __init__(self, shared: Shared, options: EngineOptions, around: Surroundings) -> None:
        self.options = options
        self.finishing = Finishing()
        self.standing = Standing(
            shared.ledger, offline=options.offline, fresh_for=options.standing_for, monotonic=around.monotonic
        )
        self.purse = Purse(shared.ledger, self.standing, around.emit, self.finishing, around.sleep)
        self.watch = Watch(shared.breakers, around.clock, around.emit, self.finishing, options.misconfigured_for)
        generation = RememberedGeneration(
            shared.generation or OwnGeneration(), options.generation_for, around.monotonic
        )
        l1 = MemoryCache(options.l1_entries, options.l1_bytes, around.monotonic)
        self.shelves = Shelves(l1, shared.cache, generation, options, around.emit)


class Engine:
    """The `LanguageModel` everybody calls, and the doors of its operators."""

    def __init__(self, model: LanguageModel, parts: _Parts) -> None:
        self._model = model
        self._parts = parts

    async def infer(self, call: Call) -> Reply:
        """Answer a call. Raises PrivacyRefused, BudgetExhausted, NoProvider, UsageError; never overspends."""
        return await self._model.infer(self._bounded(call))

    def stream(self, call: Call) -> AsyncIterator[Delta]:
        """Answer piece by piece; the last delta carries the reply. Closing the iterator cancels the request."""
        return self._model.stream(self._bounded(call))

    async def embed(self, call: EmbedCall) -> EmbedReply:
        """Embed any number of texts, in order, in one space. Raises as `infer`."""
        return await self._model.embed(call)

    def style(self, call: Call) -> Style:
        """Return the strategy a call would run under; `batch` asks callers to put many items in one call."""
        return self._parts.options.style(call)

    async def breakers(self) -> list[BreakerStatus]:
        """Return the state of every breaker that was used."""
        return await self._parts.watch.breakers.status()

    def marks(self) -> dict[tuple[str, str], Mark]:
        """Return what this process passes over for now, by provider and model: rate limits, misconfiguration."""
        return self._parts.watch.marks()

    async def reset(self, provider: str, actor: str) -> None:
        """Close a provider's breaker and forget what stands against it. Audited."""
        await self._parts.watch.reset(provider, actor)

    async def cache_stats(self) -> Mapping[str, float]:
        """Return requests by result (l1, l2, shared, stale, miss, bypass), size and bytes of L1."""
        return await self._parts.shelves.stats()

    async def clear_cache(self) -> int:
        """Empty both cache levels; return how many entries that were."""
        return await self._parts.shelves.clear()

    async def invalidate(self) -> None:
        """Make every cached answer unreachable, here at once and in every process that shares the generation."""
        await self._parts.shelves.generation.advance()

    async def close(self) -> None:
        """Wait for settlements and permits of callers that have left."""
        await self._parts.finishing.drain()

    def _bounded(self, call: Call) -> Call:
        """Return the call with its output bounded. Raises UsageError for parameters no worst case could hold."""
        parameters = dict(call.parameters)
        asked = [parameters.pop(name) for name in ("max_tokens", "max_completion_tokens") if name in parameters]
        limit = call.max_output if call.max_output is not None else next(iter(asked), self._parts.options.max_output)
        if isinstance(limit, bool) or not isinstance(limit, int) or limit < 1:
            raise UsageError(f"max_output cannot be {limit!r}", hint="give a whole number of tokens, at least 1")
        if parameters.pop("n", 1) != 1:
            raise UsageError("one call has one answer: n must be 1", hint="make several calls")
        for name in sorted(_UNBOUNDED & parameters.keys()):
            raise UsageError(
                f"the parameter {name} would change the model, the price or where the content goes",
                hint="use the engine's own options instead",
            )
        return dataclasses.replace(call, max_output=limit, parameters=parameters)


_UNBOUNDED = frozenset(
    {"model", "models", "messages", "input", "stream", "best_of", "web_search_options", "plugins", "route", "provider"}
    | {"service_tier", "modalities", "audio", "store", "prediction", "background", "extra_body", "base_url"}
)
"""Parameters that reach past privacy gate or reservation: other models, other hosts, priced extras, stored content."""
