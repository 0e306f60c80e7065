"""The alarm for silent failure: what should have been captured and learned, against what was."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

GRACE: Final = 300.0
"""Seconds after which what was written or announced should have been captured."""
LEAST_JUDGED: Final = 100
"""Exchanges that must have been judged before an absence of items means something."""
LEAST_ITEM_SHARE: Final = 0.005
"""Share of judged exchanges that become items below which learning is suspect; real sessions give fifty times more."""
HOOK_ERRORS_SHOWN: Final = 3
UNLEARNED: Final = "wait to be learned"
"""Words of the alarm about them."""


@dataclass(frozen=True, slots=True)
class FileState:
    """One transcript on disk: exchanges in it, those captured, and for how many seconds it has been waiting."""

    path: str
    expected: int
    captured: int
    waiting: float


@dataclass(frozen=True, slots=True)
class CaptureState:
    """Everything that the alarm looks at. `hook_errors` are the newest lines of the log of hooks."""

    measured_at: datetime
    files: int = 0
    expected: int = 0
    captured: int = 0
    behind: tuple[FileState, ...] = ()
    spool_waiting: int = 0
    spool_age: float = 0.0
    spool_refused: int = 0
    unlearned: int = 0
    unlearned_age: float = 0.0
    judged: int = 0
    items: int = 0
    hook_errors: tuple[str, ...] = ()
    failures: tuple[str, ...] = field(default=())


def alarms(state: CaptureState) -> list[str]:
    """Return what is wrong, each with what to do; empty when capture and learning keep up."""
    found: list[str] = []
    late = [one for one in state.behind if one.waiting > GRACE]
    if late:
        missing = sum(max(0, one.expected - one.captured) for one in late)
        found.append(
            f"{missing} exchanges in {len(late)} transcripts were not captured for more than {GRACE:.0f} s "
            f"(first: {late[0].path}): run `knowledge ingest` on them and read what it says"
        )
    if state.spool_waiting and state.spool_age > GRACE:
        found.append(
            f"{state.spool_waiting} notices of hooks wait, the oldest for {state.spool_age:.0f} s: "
            "start `knowledge serve`, or look at its log"
        )
    if state.spool_refused:
        found.append(f"{state.spool_refused} notices of hooks could not be read: see spool/refused in the home")
    if state.unlearned and state.unlearned_age > GRACE:
        found.append(
            f"{state.unlearned} exchanges {UNLEARNED}, the oldest for {state.unlearned_age:.0f} s: "
            "run `knowledge ingest`, which learns from them too, and read what it says"
        )
    if state.judged >= LEAST_JUDGED and state.items < LEAST_ITEM_SHARE * state.judged:
        found.append(
            f"{state.judged} exchanges were judged and {state.items} items learned: "
            "check learning.minConfidence and `knowledge models verify`"
        )
    found.extend(state.failures)
    return found


def capture_document(state: CaptureState, measured_at: str) -> dict[str, Any]:
    """Return the state as JSON, with its alarms."""
    return {
        "measured_at": measured_at,
        "transcripts": {
            "files": state.files,
            "expected": state.expected,
            "captured": state.captured,
            "behind": [
                {"path": one.path, "expected": one.expected, "captured": one.captured, "waiting": round(one.waiting)}
                for one in state.behind[:20]
            ],
        },
        "spool": {
            "waiting": state.spool_waiting,
            "oldest_seconds": round(state.spool_age),
            "refused": state.spool_refused,
        },
        "learning": {
            "waiting": state.unlearned,
            "oldest_seconds": round(state.unlearned_age),
            "judged": state.judged,
            "items": state.items,
        },
        "hook_errors": list(state.hook_errors),
        "alarms": alarms(state),
    }


def longest_wait(kept: dict[str, Any] | None, now: datetime) -> float:
    """Return for how many seconds what waits to be learned now can have waited at most, as far as anybody has looked.

    The age of a conversation tells nothing of that: an import or a first ingest brings old ones.
    """
    if kept is None:
        return 0.0
    before = kept["learning"]["oldest_seconds"] if kept["learning"]["waiting"] else 0
    return float(before) + (now - datetime.fromisoformat(kept["measured_at"])).total_seconds()


def newest_lines(lines: Sequence[str]) -> tuple[str, ...]:
    """Return the newest lines of a log."""
    return tuple(line.rstrip("\n") for line in lines[-HOOK_ERRORS_SHOWN:])
