"""The system for a process that lives long and is used now and then: it has the data directory only while in use."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, suppress
from typing import TYPE_CHECKING, TypeVar

from knowledge_system.application.system import opened
from knowledge_system.domain.clock import SystemClock
from knowledge_system.domain.errors import Busy
from knowledge_system.storage.home import Home

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from knowledge_system.application.system import KnowledgeSystem
    from knowledge_system.domain.events import Emit
    from knowledge_system.settings import Settings

_T = TypeVar("_T")
IDLE = 20.0
"""Seconds without use after which the directory is given back to others."""
PATIENCE = 3.0
"""Seconds that a call waits for another process to give the directory back."""
_AGAIN = 0.1
_LOOK_EVERY = 0.1


class Lease:
    """Opens the system for the first call, keeps it for those that follow soon, and gives it back when idle.

    Beside a running service nothing is held at all: every call goes through it.
    """

    def __init__(self, settings: Settings, purpose: str, emit: Emit | None = None, idle: float = IDLE) -> None:
        self._settings = settings
        self._purpose = purpose
        self._emit = emit
        self._idle = idle
        self._turn = asyncio.Lock()
        self._stack: AsyncExitStack | None = None
        self._system: KnowledgeSystem | None = None
        self._users = 0
        self._closing: asyncio.Task[None] | None = None

    async def use(self, verb: Callable[[KnowledgeSystem], Awaitable[_T]]) -> _T:
        """Run `verb`. Raises what it raises; Busy when another process keeps the directory for too long."""
        end = asyncio.get_running_loop().time() + PATIENCE
        while True:
            try:
                return await self._use(verb)
            except Busy:
                await self._release()
                if asyncio.get_running_loop().time() >= end:
                    raise
                await asyncio.sleep(_AGAIN)

    async def close(self) -> None:
        """Give the directory back now."""
        if self._closing is not None:
            self._closing.cancel()
        async with self._turn:
            await self._shut()

    async def _use(self, verb: Callable[[KnowledgeSystem], Awaitable[_T]]) -> _T:
        system = await self._enter()
        try:
            return await verb(system)
        finally:
            self._users -= 1
            if not self._users:
                self._closing = asyncio.get_running_loop().create_task(self._close_when_idle())

    async def _enter(self) -> KnowledgeSystem:
        async with self._turn:
            if self._closing is not None:
                self._closing.cancel()
                self._closing = None
            if self._system is None:
                stack = AsyncExitStack()
                self._system = await stack.enter_async_context(opened(self._settings, self._purpose, self._emit))
                self._stack = stack
            self._users += 1
            return self._system

    async def _release(self) -> None:
        async with self._turn:
            if not self._users:
                await self._shut()

    async def _close_when_idle(self) -> None:
        """Wait until nobody has needed the system for a while, or somebody else asks for the directory."""
        home = Home(self._settings.home, SystemClock())
        asked, until = home.wanted(), asyncio.get_running_loop().time() + self._idle
        while home.wanted() == asked and asyncio.get_running_loop().time() < until:  # noqa: ASYNC110 -- another process's
            await asyncio.sleep(_LOOK_EVERY)
        async with self._turn:
            if not self._users:
                with suppress(asyncio.CancelledError):
                    await asyncio.shield(self._shut())

    async def _shut(self) -> None:
        stack, self._stack, self._system = self._stack, None, None
        if stack is not None:
            await stack.aclose()
