"""How the service is: checks that are bounded in time, asked for once by however many, and cannot fail.

A check that does not answer within its time is left running and asked for again when it has ended, so that something
that hangs costs one task, not one for every caller.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from knowledge_system.domain.errors import Busy, DependencyUnavailable, IntegrityFailure, KnowledgeError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

KEPT_FOR = 1.5
"""Seconds that a report is served again: a crowd of load balancers costs what one does."""
WITHIN = 1.9
"""Seconds within which a report is there, whatever hangs (R109 allows two)."""

Grade = Literal["ok", "degraded", "failed"]
Status = Literal["healthy", "degraded", "unhealthy"]


@dataclass(frozen=True, slots=True)
class Checked:
    """What one entry of `checks` says, and what that means for the whole. `counts` False: shown, and no more."""

    fields: Mapping[str, Any]
    grade: Grade = "ok"
    counts: bool = True


Entries = dict[str, Checked]


@dataclass(frozen=True, slots=True)
class Check:
    """Work that returns entries within `within` seconds; `missing` returns them when it could not, told why in words.

    It is not begun before all of `after` are there, and not at all when one of those failed.
    """

    name: str
    work: Callable[[], Awaitable[Entries]]
    missing: Callable[[str], Entries]
    within: float
    after: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Report:
    """All entries as they were at one moment of the monotonic clock."""

    entries: Mapping[str, Checked]
    taken: float = field(default=0.0, compare=False)

    @property
    def status(self) -> Status:
        """Return the whole: what failed makes it unhealthy, anything else that is not right degraded."""
        grades = {one.grade for one in self.entries.values() if one.counts}
        return "unhealthy" if "failed" in grades else "degraded" if "degraded" in grades else "healthy"

    def document(self) -> dict[str, dict[str, Any]]:
        """Return `checks` as JSON."""
        return {name: dict(one.fields) for name, one in sorted(self.entries.items())}


class Watch:
    """Runs checks in parallel, one report at a time, and serves it again for `KEPT_FOR` seconds. Never raises.

    `patience` times as long may everything take: where a slow machine is not what is asked about.
    """

    def __init__(
        self, checks: Sequence[Check], monotonic: Callable[[], float] = time.monotonic, patience: float = 1.0
    ) -> None:
        self._checks = checks
        self._monotonic = monotonic
        self._patience = patience
        self._running: dict[str, asyncio.Task[Entries]] = {}
        self._flight: asyncio.Task[Report] | None = None
        self._last: Report | None = None

    async def report(self) -> Report:
        """Return a report that is at most `KEPT_FOR` seconds old, within `WITHIN` seconds."""
        if self._last is not None and self._monotonic() - self._last.taken < KEPT_FOR:
            return self._last
        if self._flight is None or self._flight.done():
            self._flight = asyncio.create_task(self._all(), name="health")
        return await asyncio.shield(self._flight)

    async def close(self) -> None:
        """Give up what is running."""
        tasks = [*self._running.values(), *([self._flight] if self._flight else [])]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=WITHIN)

    async def _all(self) -> Report:
        found: dict[str, Entries] = {}
        told = {check.name: asyncio.Event() for check in self._checks}
        steps = [asyncio.create_task(self._step(check, found, told)) for check in self._checks]
        _, late = await asyncio.wait(steps, timeout=WITHIN * self._patience)
        for step in late:
            step.cancel()
        for check in self._checks:
            found.setdefault(check.name, check.missing("no answer in time"))
        entries = {name: one for part in found.values() for name, one in part.items()}
        self._last = Report(entries, self._monotonic())
        return self._last

    async def _step(self, check: Check, found: dict[str, Entries], told: Mapping[str, asyncio.Event]) -> None:
        for name in check.after:
            await told[name].wait()
        failed = [name for name in check.after if any(one.grade == "failed" for one in found[name].values())]
        found[check.name] = (
            check.missing(f"not asked: {failed[0]} does not answer") if failed else await self._boxed(check)
        )
        told[check.name].set()

    async def _boxed(self, check: Check) -> Entries:
        running = self._running.get(check.name)
        if running is not None and running.done():  # it ended after it had been given up: what it says is old
            _noted(running)
            running = None
        if running is None:
            running = asyncio.create_task(_begun(check), name=f"health {check.name}")
            self._running[check.name] = running
        done, _ = await asyncio.wait({running}, timeout=check.within * self._patience)
        if not done:
            return check.missing(f"no answer within {check.within:g} s")
        del self._running[check.name]
        error = _noted(running)
        return running.result() if error is None else check.missing(sentence(error))


def _noted(ended: asyncio.Task[Entries]) -> BaseException | None:
    """Return how a task failed."""
    return asyncio.CancelledError() if ended.cancelled() else ended.exception()


async def _begun(check: Check) -> Entries:
    return await check.work()


_SENTENCES: tuple[tuple[type[BaseException], str], ...] = (
    (Busy, "another process holds it"),
    (DependencyUnavailable, "it cannot be used right now"),
    (IntegrityFailure, "what is stored contradicts itself"),
    (KnowledgeError, "it refused"),
    (TimeoutError, "no answer in time"),
    (OSError, "the operating system refused"),
)


def sentence(error: BaseException) -> str:
    """Return an error as strangers may read it: its class and a sentence, never its message (paths, addresses)."""
    said = next((text for kind, text in _SENTENCES if isinstance(error, kind)), "it failed; the log says more")
    return f"{type(error).__name__}: {said}"
