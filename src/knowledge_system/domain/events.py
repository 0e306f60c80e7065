"""Facts that parts announce; metrics, logs and audit subscribe in `application`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Event:
    """Base of all events."""


@dataclass(frozen=True, slots=True)
class ExchangesIngested(Event):
    """A batch of a file was stored."""

    path: str
    new: int
    known: int
    updated: int
    redactions: int


@dataclass(frozen=True, slots=True)
class FileSkipped(Event):
    """A file could not be read or holds no transcript."""

    path: str
    reason: str


@dataclass(frozen=True, slots=True)
class TranscriptWarning(Event):
    """Something inside a transcript was skipped or looks drifted."""

    path: str
    place: str
    reason: str


@dataclass(frozen=True, slots=True)
class ItemLearned(Event):
    """A new item was stored, or an existing one gained evidence (`merged`) or was replaced (`superseded`)."""

    item_id: str
    type: str
    outcome: str


@dataclass(frozen=True, slots=True)
class ItemRejected(Event):
    """An exchange stays an exchange; `reason` is the judge's."""

    exchange_id: str
    reason: str


@dataclass(frozen=True, slots=True)
class SearchAnswered(Event):
    """A search was answered."""

    scope: str
    results: int
    took_ms: float
    dropped: int
    degraded: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class IndexRebuilt(Event):
    """The index was rebuilt from the truth, with the reason why."""

    reason: str
    points: int


class Emit(Protocol):
    """Announce a fact. Never blocks, never raises."""

    def __call__(self, event: Event) -> None:
        """Hand `event` to the subscribers."""
        ...


def discard(event: Event) -> None:
    """Ignore `event`: the emitter of those who have nobody to tell."""
    del event
