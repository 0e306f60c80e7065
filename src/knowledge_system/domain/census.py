"""Counts of the truth that are cheap enough to be looked at every few seconds."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime


@dataclass(frozen=True, slots=True)
class Stock:
    """Items: by type all of them, and those without a vector in the first space (secret, or waiting); by status."""

    types: Mapping[str, int] = field(default_factory=dict)
    bare: Mapping[str, int] = field(default_factory=dict)
    statuses: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Flow:
    """What waits, and how many points the index should hold by now."""

    outbox: Mapping[str, int] = field(default_factory=dict)
    unlearned: int = 0
    points: int = 0


@dataclass(frozen=True, slots=True)
class Storage:
    """The database itself: `bytes` None where it is no file; `behind` schema revisions still to come."""

    bytes: int | None
    behind: int


@dataclass(frozen=True, slots=True)
class Counts:
    """Everything that is cheap, of one moment; `spent` in nano-dollars since each moment asked for."""

    stock: Stock
    flow: Flow
    storage: Storage
    spent: tuple[int, ...]


class Census(Protocol):
    """Counts of one database. Each call is one short read of one moment."""

    async def counts(self, since: Sequence[datetime]) -> Counts:
        """Return what is cheap, with what was spent since each of the moments."""
        ...

    async def flow(self) -> Flow:
        """Return what waits."""
        ...

    async def storage(self) -> Storage:
        """Return size and schema."""
        ...

    async def embedded(self, space: str) -> Mapping[str, int]:
        """Return the items by type whose whole text has a vector in a space; empty for a space not in use. Slower."""
        ...

    async def older(self, moment: datetime) -> int:
        """Return how many active items were learned before a moment. Slower."""
        ...
