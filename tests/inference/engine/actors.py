"""Fake providers that follow a script, a settable clock, and an engine around them."""

from __future__ import annotations

import asyncio
import inspect
from array import array
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from knowledge_system.domain.events import Event
from knowledge_system.domain.inference import (
    Call,
    Delta,
    EmbedCall,
    EmbedReply,
    FailureKind,
    Message,
    ProviderFailed,
    Reply,
    Usage,
)
from knowledge_system.domain.money import BreakerRule
from knowledge_system.domain.sensitivity import Sensitivity
from knowledge_system.inference.candidates import Candidate, Free
from knowledge_system.inference.engine import Engine, Shared, Surroundings, build_engine
from knowledge_system.inference.options import EngineOptions
from knowledge_system.testing.inference import MemoryAudit, MemoryBreakers, MemoryLedger

WORST = 100
"""Nano-dollars that an attempt at a fake remote model costs at most; it costs one for each token."""

Step = Any
"""What a provider does with one call: a Reply, an error to raise, or a coroutine function of the call."""


class SettableClock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.moment = datetime(2026, 5, 10, 12, 0, tzinfo=UTC)

    def now(self) -> datetime:
        return self.moment

    def advance(self, seconds: float) -> None:
        self.moment += timedelta(seconds=seconds)


class FlatPrice:
    """Every attempt holds `worst` and costs one nano-dollar a token; None is an unknown price."""

    def __init__(self, worst: int | None = WORST) -> None:
        self.worst = worst

    def worst_case(self, call: Call | EmbedCall) -> int | None:
        del call
        return self.worst

    def cost(self, usage: Usage, model: str = "") -> int | None:
        del model
        return None if self.worst is None else usage.input + usage.output


class FakeModel:
    """A provider that follows `script`, then repeats its last step; it records what it is asked."""

    def __init__(self, provider: str, *script: Step) -> None:
        self.provider = provider
        self.script = list(script)
        self.seen: list[Call | EmbedCall] = []
        self.cancelled = 0
        self.closed = 0

    async def infer(self, call: Call) -> Reply:
        return await self._play(call)

    async def stream(self, call: Call) -> AsyncIterator[Delta]:
        try:
            reply = await self._play(call)
            for word in reply.text.split():
                yield Delta(text=word)
                await asyncio.sleep(0)
            if reply.finish == "break":
                raise failed(FailureKind.CONNECTION, self.provider)
            yield Delta(reply=reply)
        finally:
            self.closed += 1

    async def embed(self, call: EmbedCall) -> EmbedReply:
        await self._play(call)
        vectors = tuple(array("f", [float(len(text)), 1.0]) for text in call.texts)
        return EmbedReply(vectors, self.provider, call.model or "", Usage(input=len(call.texts)))

    async def _play(self, call: Call | EmbedCall) -> Any:
        self.seen.append(call)
        step = self.script.pop(0) if len(self.script) > 1 else self.script[0] if self.script else answer(self.provider)
        try:
            if callable(step):
                step = await step(call)
            if isinstance(step, BaseException):
                raise step
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        return replace(step, provider=self.provider, model=step.model or call.model or "")


def answer(text: str = "done", *, tokens: int = 10, **fields: Any) -> Reply:
    usage = None if tokens < 0 else Usage(input=tokens)
    return Reply(text=text, provider="", model=fields.pop("model", ""), usage=usage, **fields)


def failed(
    kind: FailureKind, provider: str = "x", *, started: bool = True, after: float | None = None
) -> ProviderFailed:
    return ProviderFailed(f"{kind.value} happened", kind=kind, provider=provider, started=started, retry_after=after)


async def hang(_: Call) -> Reply:
    await asyncio.Event().wait()
    raise AssertionError


def after(gate: asyncio.Event, step: Reply | None = None) -> Callable[[Call], Any]:
    async def play(_: Call) -> Reply:
        await gate.wait()
        return step or answer()

    return play


def ask(text: str = "hello", **fields: Any) -> Call:
    fields.setdefault("sensitivity", Sensitivity.PUBLIC)
    return Call(fields.pop("operation", "extract"), (Message("user", text),), **fields)


def remote(model: FakeModel, /, *, price: Any = None, **fields: Any) -> Candidate:
    name = fields.pop("model", f"{model.provider}-model")
    return Candidate(model.provider, name, local=False, port=model, pricing=price or FlatPrice(), **fields)


def local(model: FakeModel, /, **fields: Any) -> Candidate:
    name = fields.pop("model", f"{model.provider}-model")
    return Candidate(model.provider, name, local=True, port=model, pricing=Free(), **fields)


@dataclass
class Scene:
    """An engine, and everything around it that a test wants to look at."""

    candidates: list[Candidate]
    options: EngineOptions = field(default_factory=EngineOptions)
    limit: int = 1_000_000
    classifier: Any = None
    cache: Any = None
    generation: Any = None
    clock: SettableClock = field(default_factory=SettableClock)
    events: list[Event] = field(default_factory=list)
    slept: list[float] = field(default_factory=list)
    tiers: tuple[float, float] = (0.8, 0.9)
    still: bool = False
    ledger: Any = None
    breakers: Any = None
    engine: Engine = field(init=False)

    def __post_init__(self) -> None:
        self.audit = MemoryAudit()
        self.ledger = self.ledger or MemoryLedger(self.clock, self.limit, audit=self.audit, tiers=self.tiers)
        self.breakers = self.breakers or MemoryBreakers(self.clock, self.audit)
        self.engine = self.another_process()

    def another_process(self) -> Engine:
        """Return a second engine on the same shared state, as another process would have it."""
        shared = Shared(self.ledger, self.breakers, self.cache, self.generation)
        around = Surroundings(self.clock, self.events.append, self.sleep, self.monotonic)
        return build_engine(self.candidates, shared, self.options, around, self.classifier)

    async def sleep(self, seconds: float) -> None:
        """Move the clock instead of waiting; in `still` scenes nobody's pause ever ends."""
        if self.still:
            await asyncio.Event().wait()
        self.slept.append(seconds)
        self.clock.advance(seconds)
        await asyncio.sleep(0)

    def monotonic(self) -> float:
        return self.clock.now().timestamp()

    def told(self, kind: type[Event]) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]


def scene(*candidates: Candidate, **fields: Any) -> Scene:
    names = tuple(dict.fromkeys(candidate.provider for candidate in candidates))
    options = fields.pop("options", EngineOptions())
    if options.priority == EngineOptions().priority:
        options = replace(options, priority=names)
    return Scene(list(candidates), options=options, **fields)


RULE = BreakerRule(failure_threshold=3, reset_timeout=60_000, half_open_requests=2)


async def until(condition: Callable[[], Any]) -> None:
    """Let the others run until `condition` (a value, or something to await) holds."""
    while True:
        held = condition()
        if await held if inspect.isawaitable(held) else held:
            return
        await asyncio.sleep(0)
