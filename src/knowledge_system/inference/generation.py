"""The generation of knowledge: part of every cache key, so that advancing it makes every older answer unreachable."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from typing import TYPE_CHECKING, Protocol

from knowledge_system.domain.errors import KnowledgeError

if TYPE_CHECKING:
    from collections.abc import Callable


class Generation(Protocol):
    """A number shared by all processes that share the knowledge."""

    async def current(self) -> int:
        """Return it."""
        ...

    async def advance(self) -> int:
        """Make it greater, for everybody; return it."""
        ...


class OwnGeneration:
    """The number of a process that shares its knowledge with nobody."""

    def __init__(self) -> None:
        self._number = 0

    async def current(self) -> int:
        """Return the number."""
        return self._number

    async def advance(self) -> int:
        """Add one."""
        self._number += 1
        return self._number


class RememberedGeneration:
    """Asks the shared number at most once in `fresh_for` seconds, and keeps working when it cannot be read.

    So a write in another process takes effect here within `fresh_for`; one in this process at once. As long as the
    number was never read the generation is one that nobody else has: nothing that was invalidated can be found.
    """

    def __init__(self, shared: Generation, fresh_for: float, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._shared = shared
        self._fresh_for = fresh_for
        self._monotonic = monotonic
        self._seen = f"unread-{secrets.token_hex(8)}"
        self._asked = float("-inf")
        self._own = 0
        self._asking = asyncio.Lock()

    async def current(self) -> str:
        """Return the shared number with the advances that only this process knows of."""
        if self._due():
            async with self._asking:  # whoever comes meanwhile waits for the answer instead of using an old number
                if self._due():
                    with contextlib.suppress(KnowledgeError):  # the last known number goes on
                        self._seen = str(await self._shared.current())
                    self._asked = self._monotonic()
        return f"{self._seen}.{self._own}"

    async def advance(self) -> None:
        """Invalidate: here at once, elsewhere as soon as they look. Raises when the others cannot be told."""
        async with self._asking:
            try:
                self._seen = str(await self._shared.advance())
                self._asked = self._monotonic()
            except KnowledgeError:
                self._own += 1  # this process at least forgets
                raise

    def _due(self) -> bool:
        return self._monotonic() - self._asked >= self._fresh_for
