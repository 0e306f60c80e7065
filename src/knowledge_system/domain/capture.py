"""Capture: what a coding agent's hook leaves behind for the owner of the data directory."""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime
    from pathlib import Path

FLUSHING = frozenset({"stop", "session-end", "pre-compact"})
"""Events after which what was captured is learned at once instead of after a quiet moment."""


by_itself: ContextVar[bool] = ContextVar("knowledge_by_itself", default=False)
"""True in the tasks of a service that captures and learns while sessions go on, False in what somebody asked for."""


@dataclass(frozen=True, slots=True)
class Notice:
    """One thing that a hook noticed: usually that a transcript has grown (`transcript`), or exchanges (`body`).

    `name` identifies the notice in the spool. `body` is a `knowledge-transcript/1` document of an agent that keeps no
    transcript of its own; it has **not been redacted**.
    """

    name: str
    at: datetime
    agent: str
    event: str
    session_id: str
    cwd: str = ""
    transcript: Path | None = None
    body: dict[str, Any] | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class SpoolDepth:
    """What waits in the spool; `refused` notices could not be read and were put aside."""

    waiting: int
    bytes: int
    oldest_at: datetime | None
    refused: int


class Spool(Protocol):
    """Notices survive every crash: they are removed only after what they announce has been stored."""

    async def take(self, limit: int) -> list[Notice]:
        """Return the oldest notices; those taken before and not finished come first."""
        ...

    async def done(self, notices: Sequence[Notice]) -> None:
        """Remove notices that have been dealt with."""
        ...

    async def depth(self) -> SpoolDepth:
        """Return how much waits."""
        ...
