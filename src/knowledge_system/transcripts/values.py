"""Reading values of any type out of foreign JSON without ever raising, and times out of foreign texts."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from knowledge_system.domain.clock import to_utc
from knowledge_system.transcripts.capping import clean, shortened

if TYPE_CHECKING:
    from collections.abc import Iterator

    from knowledge_system.domain.sessions import JsonObject

_DECODER = json.JSONDecoder()
_MILLISECONDS_FROM = 100_000_000_000
"""Epoch numbers above this are milliseconds: as seconds they would lie after the year 5138."""
_UNREADABLE = (ValueError, OverflowError, OSError)


class Malformed(ValueError):
    """Text that is not JSON. `position` is the character where reading stopped."""

    def __init__(self, reason: str, position: int = 0) -> None:
        super().__init__(reason)
        self.position = position


def decode_all(text: str) -> Iterator[tuple[int, Any]]:
    """Yield every JSON value of `text`, also when several stand on one line, after the position it starts at.

    Raises Malformed at what is no JSON.
    """
    position, end = 0, len(text)
    while position < end:
        if text[position] in " \t\r\n":
            position += 1
            continue
        start = position
        try:
            value, position = _DECODER.raw_decode(text, position)
        except RecursionError:
            raise Malformed("JSON nested too deeply", position) from None
        except ValueError as error:
            raise Malformed("not JSON", getattr(error, "pos", position)) from None
        yield start, value


def as_object(value: Any) -> JsonObject:
    """Return `value` when it is a JSON object, else an empty one."""
    return value if isinstance(value, dict) else {}


def as_list(value: Any) -> list[Any]:
    """Return `value` when it is a list, else an empty one."""
    return value if isinstance(value, list) else []


def as_text(value: Any) -> str:
    """Return `value` when it is a text, else an empty one."""
    return value if isinstance(value, str) else ""


def as_count(value: Any) -> int:
    """Return `value` when it is a non-negative whole number of sane size, else 0."""
    return value if type(value) is int and 0 <= value < 10**15 else 0


def short(value: Any) -> str:
    """Return `value` as one cleaned, stripped line of bounded length when it is a text, else an empty one."""
    return shortened(" ".join(as_text(value).split())) if value else ""


def to_json(value: Any) -> str:
    """Return `value` as compact JSON text; a value nested too deeply as a remark."""
    try:
        return clean(json.dumps(value, ensure_ascii=False, separators=(", ", ": ")))
    except (RecursionError, TypeError, ValueError):
        return "(not representable)"


def from_json(text: str) -> Any:
    """Return the JSON value that `text` is, or None."""
    try:
        return json.loads(text)
    except (RecursionError, ValueError):
        return None


def moment(value: Any) -> datetime | None:
    """Return the UTC time that `value` is: ISO 8601 text, epoch seconds or epoch milliseconds; else None."""
    try:
        if isinstance(value, bool):
            return None
        if isinstance(value, int | float):
            seconds = value / 1000 if abs(value) > _MILLISECONDS_FROM else value
            return datetime.fromtimestamp(seconds, UTC)
        if isinstance(value, str):
            return to_utc(datetime.fromisoformat(_iso(value)))
    except _UNREADABLE:
        pass
    return None


_ISO = re.compile(
    r"^\s*(\d{4}-\d\d-\d\d)[T _](\d\d)[:-](\d\d)(?:[:-](\d\d(?:\.\d{1,9})?))?\s*(Z|UTC|[+-]\d\d:?\d\d)?\s*$"
)
_AMERICAN = re.compile(r"^\s*(\d{1,2})/(\d{1,2})/(\d{4}),?(?: at)?\s+(\d{1,2}):(\d\d)(?::(\d\d))?\s*([AaPp][Mm])?")


def _iso(text: str) -> str:
    """Return `text` in the one form that `datetime.fromisoformat` reads, when it is a variant of it."""
    found = _ISO.match(text)
    if not found:
        return text
    day, hour, minute, second, zone = found.groups()
    whole, _, fraction = (second or "00").partition(".")
    micro = f".{fraction[:6].ljust(6, '0')}" if fraction else ""
    return f"{day}T{hour}:{minute}:{whole}{micro}{'+00:00' if zone in {None, 'Z', 'UTC'} else zone}"


def written_moment(text: str) -> datetime | None:
    """Return the time in a heading: ISO variants, or `12/7/2024, 9:57:09 PM`; local times are taken as UTC."""
    if found := moment(text):
        return found
    american = _AMERICAN.match(text)
    if not american:
        return None
    month, day, year, hour, minute = (int(part) for part in american.groups()[:5])
    if month > 12:  # noqa: PLR2004 -- months end at 12: the locale writes the day first
        month, day = day, month
    half = (american[7] or "").lower()
    hour = hour % 12 + (12 if half == "pm" else 0) if half else hour
    try:
        return datetime(year, month, day, hour, minute, int(american[6] or 0), tzinfo=UTC)
    except ValueError:
        return None
