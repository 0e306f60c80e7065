"""Something open that is replaced while it is in use: the old one stays open for those who still use it."""

from __future__ import annotations

import time
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Final, TypeVar

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

_T = TypeVar("_T")
LONGEST_USE: Final = 900.0
"""Seconds after which nobody can be in the middle of a call any more: longer than any deadline of ours."""


class Renewals:
    """Keeps what each generation has to do at its end."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._current = AsyncExitStack()
        self._retired: list[tuple[float, AsyncExitStack]] = []

    async def renewed(self, make: Callable[[Callable[[Callable[[], Awaitable[None]]], None]], Awaitable[_T]]) -> _T:
        """Return what `make` opens; it is handed a way to say what to do at the end. Closes what is long unused."""
        fresh = AsyncExitStack()
        made = await make(lambda step: _push(fresh, step))
        now = self._monotonic()
        self._retired.append((now, self._current))
        self._current = fresh
        for since, stack in [one for one in self._retired if now - one[0] >= LONGEST_USE]:
            self._retired.remove((since, stack))
            await stack.aclose()
        return made

    async def aclose(self) -> None:
        """Close all, newest first."""
        await self._current.aclose()
        for _, stack in reversed(self._retired):
            await stack.aclose()


def _push(stack: AsyncExitStack, step: Callable[[], Awaitable[None]]) -> None:
    stack.push_async_callback(step)
