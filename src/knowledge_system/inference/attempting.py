"""One attempt as the strategy sees it: its bill, its time, its one repair, its stream."""

from __future__ import annotations

import asyncio
import dataclasses
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeVar

from knowledge_system.domain.inference import FailureKind, ProviderFailed
from knowledge_system.inference.streams import close, following
from knowledge_system.inference.structured import MalformedReply, repair_call

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable

    from knowledge_system.domain.clock import Clock
    from knowledge_system.domain.inference import Call, Delta, Reply
    from knowledge_system.inference.candidates import AttemptFactory, Bill, Candidate
    from knowledge_system.inference.finishing import Finishing
    from knowledge_system.inference.options import EngineOptions
    from knowledge_system.inference.standing import Standing
    from knowledge_system.inference.trail import Trail

_T = TypeVar("_T")
_T_co = TypeVar("_T_co", covariant=True)


@dataclass(frozen=True, slots=True)
class Means:
    """What every strategy works with."""

    options: EngineOptions
    attempt: AttemptFactory
    standing: Standing
    clock: Clock
    sleep: Callable[[float], Awaitable[None]]
    finishing: Finishing
    monotonic: Callable[[], float] = time.monotonic


class Ask(Protocol[_T_co]):
    """Make one attempt at a target."""

    async def __call__(self, target: Candidate) -> _T_co:
        """Return its answer or raise."""
        ...


async def timed(bill: Bill, work: Awaitable[_T], monotonic: Callable[[], float]) -> _T:
    """Await `work` and write its seconds on the bill."""
    begun = monotonic()
    try:
        return await work
    finally:
        bill.seconds = monotonic() - begun


async def once(target: Candidate, call: Call, trail: Trail, means: Means) -> Reply:
    """Ask a target, with its own model's name; a malformed structured reply is repaired once, on a bill of its own."""
    own = dataclasses.replace(call, provider=target.provider, model=target.model)
    bill = trail.bill(target)
    bill.repairable = call.schema is not None
    try:
        return await timed(bill, means.attempt(bill).infer(own), means.monotonic)
    except ProviderFailed as error:
        if error.kind is not FailureKind.MALFORMED or not bill.repairable:
            raise
        mended = repair(own, error)
    bill = trail.bill(target)
    return await timed(bill, means.attempt(bill).infer(mended), means.monotonic)


def repair(call: Call, error: ProviderFailed) -> Call:
    """Return the call that mends a malformed reply; one of which nothing is left is simply asked for again."""
    return repair_call(call, error.text, error.problem) if isinstance(error, MalformedReply) else call


class Stream:
    """An attempt that streams and has said something."""

    def __init__(self, deltas: AsyncIterator[Delta], first: Delta, bill: Bill, trail: Trail) -> None:
        self._deltas = deltas
        self._first = first
        self._bill = bill
        self._trail = trail
        self._begun = trail.monotonic()

    @classmethod
    async def opened(cls, target: Candidate, call: Call, trail: Trail, means: Means) -> Stream:
        """Open the stream of a target and wait for its first delta; a stream that fails before it is closed."""
        bill = trail.bill(target)
        own = dataclasses.replace(call, provider=target.provider, model=target.model)
        deltas = means.attempt(bill).stream(own)
        try:
            first = await following(deltas)
        except BaseException:
            await close(deltas)
            raise
        if first is None:
            raise _silent(target)
        return cls(deltas, first, bill, trail)

    async def rest(self) -> AsyncGenerator[Delta, None]:
        """Yield all deltas, until the deadline; closing it cancels the request."""
        try:
            delta: Delta | None = self._first
            while delta is not None:
                if delta.reply is not None:
                    self._bill.seconds = self._trail.monotonic() - self._begun
                yield delta
                delta = await self._following()
        finally:
            await close(self._deltas)

    async def _following(self) -> Delta | None:
        try:
            async with asyncio.timeout(self._trail.left()):
                return await following(self._deltas)
        except TimeoutError as error:
            raise ProviderFailed(
                "the deadline passed while the answer was streaming",
                kind=FailureKind.TIMEOUT,
                provider=self._bill.candidate.provider,
            ) from error


def _silent(target: Candidate) -> ProviderFailed:
    return ProviderFailed(
        f"{target.name} ended its stream without a word", kind=FailureKind.MALFORMED, provider=target.provider
    )
