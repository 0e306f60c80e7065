"""Equal calls at the same time become one: the first leads, the others wait for its answer."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

_T = TypeVar("_T")


@dataclass(eq=False, slots=True)
class _Flight(Generic[_T]):
    task: asyncio.Task[_T]
    waiting: int = 0


class SingleFlight(Generic[_T]):
    """Coalesces by key. The work belongs to no caller: it goes on while anybody waits, and stops when nobody does."""

    def __init__(self) -> None:
        self._flights: dict[str, _Flight[_T]] = {}

    def __len__(self) -> int:
        return len(self._flights)

    async def do(self, key: str, work: Callable[[], Coroutine[Any, Any, _T]]) -> tuple[_T, bool]:
        """Return the result of `work` and whether this caller led. Errors reach every waiting caller."""
        flight = self._flights.get(key)
        led = flight is None
        if flight is None:
            flight = _Flight(asyncio.get_running_loop().create_task(work()))
            self._flights[key] = flight
            # By identity: a slow flight must not remove the one that took its place.
            flight.task.add_done_callback(lambda _, mine=flight: self._land(key, mine))  # type: ignore[misc]
        flight.waiting += 1
        try:
            return await asyncio.shield(flight.task), led
        finally:
            flight.waiting -= 1
            if not flight.waiting and not flight.task.done():
                self._land(key, flight)
                flight.task.cancel()

    def _land(self, key: str, flight: _Flight[_T]) -> None:
        if self._flights.get(key) is flight:
            del self._flights[key]
        if flight.task.done() and not flight.task.cancelled():
            flight.task.exception()  # retrieved, also when every waiter has left
