"""Which transactions of this process are open, what for, and since when: what to ask first of a locked database."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@dataclass(slots=True, eq=False)
class Transaction:
    """One transaction: `kind` is `read` or `write`, `purpose` the call it belongs to, `began` None while it waits."""

    kind: str
    purpose: str
    thread: str
    asked: float
    began: float | None = None
    _monotonic: Callable[[], float] = field(default=time.monotonic, repr=False)

    def begin(self) -> None:
        """Say that it has what it waited for: a connection, and for a write the lock."""
        self.began = self._monotonic()


class Transactions:
    """The open transactions of one set of connections. Safe to use from any thread; costs about a microsecond each."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._open: dict[int, Transaction] = {}
        self._numbers = itertools.count()

    @contextlib.contextmanager
    def entered(self, kind: str, purpose: str) -> Iterator[Transaction]:
        """Have a transaction in the list for the block; call `begin` on it once it no longer waits."""
        number = next(self._numbers)
        entry = Transaction(kind, purpose, threading.current_thread().name, self._monotonic(), None, self._monotonic)
        self._open[number] = entry
        try:
            yield entry
        finally:
            self._open.pop(number, None)

    def now(self) -> list[dict[str, str | float]]:
        """Return what is open or waits, oldest first: `kind`, `purpose`, `thread`, `state`, `seconds` in that state."""
        moment = self._monotonic()
        return [
            {
                "kind": one.kind,
                "purpose": one.purpose,
                "thread": one.thread,
                "state": "waiting" if one.began is None else "open",
                "seconds": round(moment - (one.asked if one.began is None else one.began), 6),
            }
            for one in list(self._open.values())
        ]

    def longest(self) -> float:
        """Return the seconds that the oldest open transaction has been open; 0 without one. Waiting does not count."""
        moment = self._monotonic()
        return max((moment - one.began for one in list(self._open.values()) if one.began is not None), default=0.0)


def purpose_of(work: object) -> str:
    """Return the name of the call that `work` was defined in: `SqlItems.save`."""
    return str(getattr(work, "__qualname__", type(work).__name__)).partition(".<locals>")[0]


def current_purpose() -> str:
    """Return the name of the call that the running task was started for."""
    task = asyncio.current_task()
    return "" if task is None else purpose_of(task.get_coro())
