"""Settings changed while the system runs: rows in the truth, each with what it replaced."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime


@dataclass(frozen=True, slots=True)
class SettingChange:
    """One key of one change. `old` and `new` are JSON texts; None is "as the file says". Times in UTC."""

    id: int
    change: str
    at: datetime
    actor: str
    key: str
    old: str | None
    new: str | None
    undoes: str | None
    in_force: bool


class SettingChanges(Protocol):
    """The overrides in force and how they came about. Shared by all processes; every method is one atomic step."""

    async def in_force(self) -> list[SettingChange]:
        """Return the overrides in force, by key."""
        ...

    async def record(
        self, values: Mapping[str, str | None], actor: str, undoes: str | None = None
    ) -> list[SettingChange]:
        """Put `values` (dotted key → JSON, None: as the file says) in force as one change; return its rows."""
        ...

    async def change(self, identity: str) -> list[SettingChange]:
        """Return the rows of a change. Raises NotFound."""
        ...

    async def history(self, limit: int, before: str | None = None) -> tuple[list[SettingChange], str | None]:
        """Return rows newest first, and the cursor of the next page. Raises UsageError for a foreign cursor."""
        ...
