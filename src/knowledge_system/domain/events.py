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
class ModelTaught(Event):
    """A run of learning asked a model: calls made and answered, their cost, and what became of the exchanges.

    `unasked` counts the exchanges and pairs that were learned without an answer, `reasons` says why, comma-separated.
    """

    calls: int
    answered: int
    cost_nano: int
    kept: int
    dismissed: int
    disbelieved: int
    unasked: int
    reasons: str


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


@dataclass(frozen=True, slots=True)
class SpaceCovered(Event):
    """How many of the entries that may be embedded have a vector in an embedding space, as just counted."""

    space: str
    dimension: int
    embeddable: int
    covered: int


@dataclass(frozen=True, slots=True)
class SpaceBehind(Event):
    """The index of the larger space could not follow, or what is new is not embedded there yet; nothing else waits."""

    space: str
    reason: str


@dataclass(frozen=True, slots=True)
class ModelCalled(Event):
    """A logical model call ended. `outcome` is `answered` or the code of the error; `requests` counts what was sent."""

    operation: str
    provider: str
    model: str
    outcome: str
    seconds: float
    cost_nano: int
    cached: bool
    requests: int
    sensitivity: str
    project: str = ""


@dataclass(frozen=True, slots=True)
class AttemptCharged(Event):
    """What one request to a provider costs, answered or not, as the ledger is about to be told."""

    provider: str
    operation: str
    cost_nano: int


@dataclass(frozen=True, slots=True)
class CacheConsulted(Event):
    """A cache was asked: `result` is l1, l2, stale, shared (another caller's flight), miss or bypass.

    `saved_nano` is what the answer cost when it was made, in nano-dollars.
    """

    operation: str
    result: str
    saved_nano: int = 0


@dataclass(frozen=True, slots=True)
class CacheDegraded(Event):
    """A shared cache cannot be used (told once), or answers again (`reason` empty)."""

    level: str
    reason: str


@dataclass(frozen=True, slots=True)
class BreakerChanged(Event):
    """A provider's breaker is in another phase than this process saw before: closed, half-open, open."""

    provider: str
    phase: str
    reason: str


@dataclass(frozen=True, slots=True)
class BreakerOpened(BreakerChanged):
    """A provider's breaker opened."""


@dataclass(frozen=True, slots=True)
class ProviderMisconfigured(Event):
    """A provider cannot be used until somebody acts: key, model name or credit."""

    provider: str
    model: str
    reason: str


@dataclass(frozen=True, slots=True)
class BudgetTierEntered(Event):
    """The budget stands in another tier; told once for each change, by one process."""

    tier: str


@dataclass(frozen=True, slots=True)
class SettlementFailed(Event):
    """The ledger could not be told what an attempt cost; its hold stays and expires at the worst case."""

    reservation: str
    cost_nano: int
    reason: str


@dataclass(frozen=True, slots=True)
class UpkeepRan(Event):
    """A periodic job of a resident process ended: `outcome` is `done` or the code of the error that `reason` tells."""

    job: str
    outcome: str
    seconds: float
    reason: str = ""


@dataclass(frozen=True, slots=True)
class NoticesCaptured(Event):
    """What this many hook notices announced is stored, and the notices are gone from the spool."""

    count: int


@dataclass(frozen=True, slots=True)
class CaptureRefused(Event):
    """A hook named a transcript that it may not name."""

    path: str
    reason: str


@dataclass(frozen=True, slots=True)
class CaptureMeasured(Event):
    """Exchanges in the watched transcripts against those captured, files behind, notices waiting, alarms raised."""

    expected: int
    captured: int
    behind: int
    spooled: int
    alarms: int


@dataclass(frozen=True, slots=True)
class CaptureFailed(Event):
    """A loop of the resident service (`capture`, `learn`, `watch`, `rescan`) failed and will try again."""

    loop: str
    reason: str


@dataclass(frozen=True, slots=True)
class SettingsChanged(Event):
    """Settings were changed while the service runs; `change` is what undoes it. `restart`: keys that wait for one."""

    change: str
    actor: str
    keys: tuple[str, ...]
    restart: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RequestRefused(Event):
    """The door refused a request unheard.

    `unauthorized`, `forbidden`, `malformed`, `too-large`, `rate-limited`, `crowded`, `timeout`.
    """

    reason: str


@dataclass(frozen=True, slots=True)
class OverridesIgnored(Event):
    """A setting changed at run time does not fit this version or its file; it counts for nothing until undone."""

    reason: str


@dataclass(frozen=True, slots=True)
class TextsEmbedded(Event):
    """An embedding model computed vectors of `dimension` for so many texts at once."""

    space: str
    dimension: int
    texts: int
    seconds: float


@dataclass(frozen=True, slots=True)
class VectorsSearched(Event):
    """The index of `dimension` answered so many queries by vector at once."""

    dimension: int
    queries: int
    seconds: float


@dataclass(frozen=True, slots=True)
class FeedbackGiven(Event):
    """Somebody judged an item: helpful, harmful, wrong."""

    item_id: str
    verdict: str


@dataclass(frozen=True, slots=True)
class TracesExported(Event):
    """Traces were sent to the collector (`sent`), or lost: `failed` there, `dropped` because too many waited."""

    outcome: str
    traces: int
    reason: str = ""


@dataclass(frozen=True, slots=True)
class MemoryMeasured(Event):
    """Memory of the service, in bytes; `traced` is 0 where allocations are not traced."""

    rss: int
    traced: int
    gc_objects: int


@dataclass(frozen=True, slots=True)
class MemoryHigh(Event):
    """More memory is resident than `limit` bytes; `snapshot` is the file that tells what it is made of, or empty."""

    rss: int
    limit: int
    snapshot: str


@dataclass(frozen=True, slots=True)
class IndexProcessRestarted(Event):
    """The process that holds an index ended, or hung, and another one took its place."""

    reason: str


@dataclass(frozen=True, slots=True)
class IndexProcessGivenUp(Event):
    """The process that holds an index ended too often: the index stays down until a rebuild is asked for."""

    reason: str


@dataclass(frozen=True, slots=True)
class ModelProcessRestarted(Event):
    """The process of the local embedding model ended, or hung, and another one took its place."""

    reason: str


@dataclass(frozen=True, slots=True)
class IndexServerLost(Event):
    """The server that holds an index cannot be used; told once, until it is back. What is stored waits for it."""

    space: str
    reason: str


@dataclass(frozen=True, slots=True)
class IndexServerBack(Event):
    """The server that holds an index answers again, after so many seconds; the index is made equal to the truth."""

    space: str
    seconds: float


class Emit(Protocol):
    """Announce a fact. Never blocks, never raises."""

    def __call__(self, event: Event) -> None:
        """Hand `event` to the subscribers."""
        ...


def discard(event: Event) -> None:
    """Ignore `event`: the emitter of those who have nobody to tell."""
    del event
