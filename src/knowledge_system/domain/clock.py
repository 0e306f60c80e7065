"""Time: UTC only, one textual representation whose string order is the time order."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Protocol

STORED_WIDTH = 27
"""Length of the stored form, `2026-01-01T00:00:00.000000Z`."""
PUBLIC_WIDTH = 19
"""Length of the shown form without its `Z`."""


class Clock(Protocol):
    """The only source of "now"; tests hand in their own."""

    def now(self) -> datetime:
        """Return the current time, timezone-aware and in UTC."""
        ...


class SystemClock:
    """The machine's clock."""

    def now(self) -> datetime:
        """Return the current time in UTC."""
        return datetime.now(UTC)


def to_utc(moment: datetime) -> datetime:
    """Return `moment` in UTC; a naive value is taken as UTC already."""
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def to_stored(moment: datetime) -> str:
    """Return the fixed-width UTC text that is stored and compared (27 characters, ends in `Z`)."""
    return to_utc(moment).isoformat(timespec="microseconds")[: STORED_WIDTH - 1] + "Z"


def from_stored(text: str) -> datetime:
    """Invert `to_stored`. Raises ValueError when `text` is not in the stored form."""
    if len(text) != STORED_WIDTH or text[10] != "T" or text[-1] != "Z":
        raise ValueError(f"{text!r} is not a stored time")
    return datetime.fromisoformat(text)


def to_public(moment: datetime) -> str:
    """Return the form shown to users and scripts: `2026-01-01T00:00:00Z`, whole seconds."""
    return to_utc(moment).isoformat(timespec="seconds")[:PUBLIC_WIDTH] + "Z"
