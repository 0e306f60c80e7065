"""What the ports on SQL share: a database, a clock, and calls that run to their end."""

from __future__ import annotations

import asyncio
import functools
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from knowledge_system.domain.clock import Clock
    from knowledge_system.storage.connections import Connections


class SqlPort:
    """Base of the ports on SQL."""

    def __init__(self, connections: Connections, clock: Clock) -> None:
        self._connections = connections
        self._clock = clock

    @property
    def connections(self) -> Connections:
        """Where the calls run."""
        return self._connections


_Self = TypeVar("_Self", bound=SqlPort)
_P = ParamSpec("_P")
_T = TypeVar("_T")


def uninterrupted(
    method: Callable[Concatenate[_Self, _P], Coroutine[Any, Any, _T]],
) -> Callable[Concatenate[_Self, _P], Coroutine[Any, Any, _T]]:
    """Let a call run to its end although its caller is cancelled; the caller does not wait for it.

    A driver interrupted in the middle of a statement leaves a connection that nobody can use, and a transaction that
    holds up every other writer. The calls are short; finishing one is cheaper than repairing that.
    """

    @functools.wraps(method)
    async def call(self: _Self, /, *args: _P.args, **kwargs: _P.kwargs) -> _T:
        task = asyncio.ensure_future(method(self, *args, **kwargs))
        self.connections.running.add(task)
        task.add_done_callback(self.connections.running.discard)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            task.add_done_callback(_acknowledge)
            raise

    return call


def _acknowledge(task: asyncio.Future[Any]) -> None:
    """Take note of the outcome of a call that nobody waits for any more."""
    if not task.cancelled():
        task.exception()
