"""Values as people type them."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from knowledge_system.domain.clock import to_utc
from knowledge_system.domain.errors import UsageError

if TYPE_CHECKING:
    from knowledge_system.domain.clock import Clock

_AGE = re.compile(r"(\d{1,6})\s*([mhdw])")
_UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def moment(text: str | None, option: str, clock: Clock) -> datetime | None:
    """Return the time that `text` names: `2026-01-31`, `2026-01-31T12:00:00Z`, or an age such as `7d` or `12h`.

    Raises UsageError when it is neither. A time without a zone is UTC.
    """
    if text is None:
        return None
    try:
        if age := _AGE.fullmatch(text.strip().lower()):
            return clock.now() - timedelta(**{_UNITS[age[2]]: int(age[1])})
        return to_utc(datetime.fromisoformat(text.strip())).astimezone(UTC)
    except (ValueError, OverflowError):
        raise UsageError(
            f"{option} {text!r} is no time", hint="write 2026-01-31, 2026-01-31T12:00:00Z, or an age such as 7d or 12h"
        ) from None


def counted(number: int, noun: str) -> str:
    """Return a number with the noun it counts: `1 hit`, `2 hits`."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def listed(values: list[str] | None) -> tuple[str, ...]:
    """Return option values, each of which may hold several separated by commas."""
    return tuple(part.strip() for value in values or () for part in value.split(",") if part.strip())
