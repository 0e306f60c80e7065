"""Reads sources for a scrape: all at once, in bounded time, not more often than needed. None can fail a scrape."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, TypeAlias

from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator, Mapping

    from prometheus_client.core import Metric

    Source: TypeAlias = Callable[[], Awaitable[Iterable[Metric]]]

FRESH: Final = 5.0
"""Seconds for which a sample is shown again instead of being read anew."""
WITHIN: Final = 1.0
"""Seconds that a scrape waits for its sources."""
RARELY: Final = 60.0
"""The same for sources that cost more than they tell. They are read behind a scrape, the first time within it."""
RARELY_AFTER: Final = 1.0
"""Seconds behind a scrape at which those are read: no scrape waits for them."""
PAUSE: Final = 30.0
"""Seconds for which a source that took too long is not asked again: one that hangs delays no further scrape."""


@dataclass(slots=True)
class _State:
    families: list[Metric] = field(default_factory=list)
    read_at: float = float("-inf")
    ask_from: float = float("-inf")
    reading: asyncio.Task[list[Metric]] | None = None


class Sampling(Collector):
    """Holds the last sample of each source. `refresh` in the event loop, then `collect` from anywhere."""

    def __init__(
        self,
        sources: Mapping[str, Source],
        failed: Callable[[str], None],
        rare: Collection[str] = (),
        *,
        within: float = WITHIN,
        rarely_after: float = RARELY_AFTER,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._sources = dict(sources)
        self._states = {name: _State() for name in sources}
        self._failed = failed
        self._rare = rare
        self._within = within
        self._rarely_after = rarely_after
        self._monotonic = monotonic
        self._turn = asyncio.Lock()

    def add(self, name: str, source: Source) -> None:
        """Read another source from now on."""
        self._sources[name] = source
        self._states[name] = _State()

    async def refresh(self) -> None:
        """Read what is not fresh any more; what fails or takes too long has no series, and is counted. Never raises."""
        async with self._turn:
            now = self._monotonic()
            due = [name for name, state in self._states.items() if now - state.read_at >= self._kept(name)]
            for name in [name for name in due if self._states[name].families and name in self._rare]:
                due.remove(name)
                self._begin_behind(name)
            waited = {task: name for name in due if (task := self._begun(name, now)) is not None}
            if waited:
                await asyncio.wait(waited, timeout=self._within)
            for task, name in waited.items():
                self._ended(name, task)

    async def close(self) -> None:
        """Cancel what is still being read."""
        reading = [state.reading for state in self._states.values() if state.reading is not None]
        for task in reading:
            task.cancel()
        if reading:
            await asyncio.wait(reading, timeout=self._within)

    def collect(self) -> Iterator[Metric]:
        """Yield the last sample of every source."""
        for state in self._states.values():
            yield from state.families

    def describe(self) -> list[Metric]:
        """Return nothing: what is there is known when it was read."""
        return []

    def _kept(self, name: str) -> float:
        return RARELY if name in self._rare else FRESH

    def _begun(self, name: str, now: float) -> asyncio.Task[list[Metric]] | None:
        """Return a new reading; None, and the series are dropped, while the source is still busy or resting."""
        state = self._states[name]
        state.families = []
        if state.reading is not None or now < state.ask_from:
            self._failed(name)
            return None
        state.reading = asyncio.get_running_loop().create_task(self._read(name), name=f"sample {name}")
        state.reading.add_done_callback(lambda _: self._rested(state))
        return state.reading

    def _begin_behind(self, name: str) -> None:
        """Read a source once the scrape is over; its last sample is shown until then."""
        state = self._states[name]
        if state.reading is None:
            state.reading = asyncio.get_running_loop().create_task(self._read_behind(name), name=f"sample {name}")
            state.reading.add_done_callback(lambda task: self._read_or_not(name, task))

    async def _read_behind(self, name: str) -> list[Metric]:
        await asyncio.sleep(self._rarely_after)
        async with asyncio.timeout(self._within):
            return await self._read(name)

    def _read_or_not(self, name: str, task: asyncio.Task[list[Metric]]) -> None:
        state = self._states[name]
        state.reading = None
        if task.cancelled():  # everything ends
            return
        state.families = []
        if isinstance(task.exception(), TimeoutError):
            state.ask_from = self._monotonic() + PAUSE
        self._ended(name, task)

    async def _read(self, name: str) -> list[Metric]:
        return list(await self._sources[name]())

    def _rested(self, state: _State) -> None:
        state.reading = None

    def _ended(self, name: str, task: asyncio.Task[list[Metric]]) -> None:
        state, now = self._states[name], self._monotonic()
        if not task.done():
            task.cancel()
            state.ask_from = now + PAUSE
        elif not task.cancelled() and task.exception() is None:
            state.families, state.read_at = task.result(), now
            return
        self._failed(name)
