"""The circuit breaker around one attempt, and what each kind of failure says about the provider."""

from __future__ import annotations

import asyncio
import contextlib
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from knowledge_system.domain.errors import KnowledgeError
from knowledge_system.domain.events import BreakerChanged, BreakerOpened, ProviderMisconfigured
from knowledge_system.domain.inference import BreakerOpen, FailureKind, ProviderFailed
from knowledge_system.domain.money import BreakerPhase
from knowledge_system.inference.streams import Closing

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator
    from datetime import datetime

    from knowledge_system.domain.clock import Clock
    from knowledge_system.domain.events import Emit
    from knowledge_system.domain.inference import Call, Delta, EmbedCall, EmbedReply, LanguageModel, Reply
    from knowledge_system.domain.money import Breakers, BreakerStatus, Permit
    from knowledge_system.inference.candidates import Bill, Candidate
    from knowledge_system.inference.finishing import Finishing

COUNTS = frozenset({FailureKind.TIMEOUT, FailureKind.CONNECTION, FailureKind.SERVER, FailureKind.MALFORMED})
"""The failures that are the provider's own."""

_MARKS = frozenset({FailureKind.MISCONFIGURED, FailureKind.NO_MONEY})
_LIMITS = frozenset({FailureKind.RATE_LIMITED, FailureKind.CAPACITY})


@dataclass(frozen=True, slots=True)
class Mark:
    """Why a target is passed over for now, until when."""

    kind: FailureKind
    reason: str
    until: datetime


class Watch:
    """The breakers of the engine, with what this process remembers: rate limits and misconfigured targets.

    Rate limits are kept per process on purpose: they belong to a moment, and asking again costs one refused request.
    """

    def __init__(
        self, breakers: Breakers, clock: Clock, emit: Emit, finishing: Finishing, misconfigured_for: float
    ) -> None:
        self.breakers = breakers
        self.finishing = finishing
        self._clock = clock
        self._emit = emit
        self._misconfigured_for = timedelta(seconds=misconfigured_for)
        self._marks: dict[tuple[str, str], Mark] = {}
        self._phases: dict[str, BreakerPhase] = {}

    def marks(self) -> dict[tuple[str, str], Mark]:
        """Return what is passed over now, by provider and model."""
        now = self._clock.now()
        self._marks = {key: mark for key, mark in self._marks.items() if mark.until > now}
        return dict(self._marks)

    def check(self, candidate: Candidate) -> None:
        """Raise ProviderFailed, unsent, while a mark stands against `candidate`."""
        mark = self._marks.get(candidate.key)
        if mark is None:
            return
        left = (mark.until - self._clock.now()).total_seconds()
        if left <= 0:
            del self._marks[candidate.key]
            return
        raise ProviderFailed(mark.reason, kind=mark.kind, provider=candidate.provider, retry_after=left, started=False)

    def note(self, candidate: Candidate, error: ProviderFailed) -> None:
        """Remember a rate limit until it ends, and a misconfigured target for a while."""
        now = self._clock.now()
        if error.kind in _LIMITS and error.retry_after:
            mark = Mark(error.kind, error.message, now + timedelta(seconds=error.retry_after))
        elif error.kind in _MARKS:
            wait = timedelta(seconds=error.retry_after) if error.retry_after else self._misconfigured_for
            mark = Mark(error.kind, error.message, now + wait)
            self._emit(ProviderMisconfigured(candidate.provider, candidate.model, error.message))
        else:
            return
        self._marks[candidate.key] = mark

    async def reset(self, provider: str, actor: str) -> None:
        """Close the provider's breaker and forget what stands against it."""
        await self.breakers.reset(provider, actor)
        self._marks = {key: mark for key, mark in self._marks.items() if key[0] != provider}
        await self.look(provider, f"reset by {actor}")

    async def look(self, provider: str, reason: str) -> None:
        """Announce the provider's phase when it is not the one seen last."""
        with contextlib.suppress(KnowledgeError):
            phase = _phase(await self.breakers.status(), provider)
            if phase is not self._phases.get(provider, BreakerPhase.CLOSED):
                self._phases[provider] = phase
                kind = BreakerOpened if phase is BreakerPhase.OPEN else BreakerChanged
                self._emit(kind(provider, phase.value, reason))


class Guarded:
    """Asks the breaker before an attempt, and tells it how the attempt ended; a permit never gets lost."""

    def __init__(self, inner: LanguageModel, bill: Bill, watch: Watch) -> None:
        self._inner = inner
        self._bill = bill
        self._watch = watch

    async def infer(self, call: Call) -> Reply:
        """Answer. Raises BreakerOpen, or ProviderFailed unsent, when the target is passed over."""
        async with self._permitted():
            return await self._inner.infer(call)

    async def stream(self, call: Call) -> AsyncGenerator[Delta, None]:
        """Stream under one permit, held until the stream ends or is closed."""
        async with self._permitted(), Closing(self._inner.stream(call)) as deltas:
            async for delta in deltas:
                yield delta

    async def embed(self, call: EmbedCall) -> EmbedReply:
        """Embed. Raises as `infer`."""
        async with self._permitted():
            return await self._inner.embed(call)

    @asynccontextmanager
    async def _permitted(self) -> AsyncIterator[None]:
        self._watch.check(self._bill.candidate)
        permit = await self._admit()
        told = False
        try:
            yield
            told = True
            await self._succeeded(permit)
        except ProviderFailed as error:
            told = await self._failed(permit, error)
            raise
        finally:
            if not told and permit is not None:
                await self._watch.finishing.finish(self._returned(permit))

    async def _admit(self) -> Permit | None:
        """Ask for a permit. Breakers that cannot be read stop nobody: they save time, they protect nothing."""
        candidate = self._bill.candidate
        asked = self._watch.finishing.start(self._watch.breakers.admit(candidate.provider, candidate.rule))
        try:
            return asked.result() if asked.done() else await asyncio.shield(asked)
        except BreakerOpen:
            raise
        except KnowledgeError:
            return None
        except asyncio.CancelledError:
            self._watch.finishing.start(self._return_late(asked))
            raise

    async def _succeeded(self, permit: Permit | None) -> None:
        if permit is None:
            return
        with contextlib.suppress(KnowledgeError):
            await self._watch.breakers.succeeded(permit, self._bill.candidate.rule)
        if permit.trial:
            await self._watch.look(permit.provider, "a trial succeeded")

    async def _failed(self, permit: Permit | None, error: ProviderFailed) -> bool:
        """Report a failure that counts; return whether it was reported."""
        candidate = self._bill.candidate
        self._watch.note(candidate, error)
        repair_follows = self._bill.repairable and error.kind is FailureKind.MALFORMED
        if error.kind not in COUNTS or repair_follows or permit is None:
            return False
        await self._watch.finishing.finish(self._report(permit, error))
        return True

    async def _report(self, permit: Permit, error: ProviderFailed) -> None:
        with contextlib.suppress(KnowledgeError):
            await self._watch.breakers.failed(permit, self._bill.candidate.rule, error.message, error.retry_after)
        await self._watch.look(permit.provider, error.message)

    async def _returned(self, permit: Permit) -> None:
        with contextlib.suppress(KnowledgeError):  # the lease gives it back
            await self._watch.breakers.returned(permit)

    async def _return_late(self, asked: asyncio.Future[Permit]) -> None:
        with contextlib.suppress(KnowledgeError):
            await self._returned(await asked)


def _phase(statuses: list[BreakerStatus], provider: str) -> BreakerPhase:
    return next((status.phase for status in statuses if status.provider == provider), BreakerPhase.CLOSED)
