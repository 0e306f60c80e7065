"""When silence is a failure, and when it is not."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from knowledge_system.operations.capture import GRACE, CaptureState, FileState, alarms, capture_document, longest_wait

QUIET = CaptureState(datetime(2026, 6, 1, tzinfo=UTC))
LATE = GRACE + 1
RAISED: dict[str, tuple[dict[str, Any], str]] = {
    "a transcript behind": ({"behind": (FileState("a.jsonl", 9, 4, LATE),)}, "5 exchanges in 1 transcripts"),
    "a spool nobody empties": ({"spool_waiting": 3, "spool_age": LATE}, "3 notices of hooks wait"),
    "unreadable notices": ({"spool_refused": 2}, "2 notices of hooks could not be read"),
    "a backlog that stands": ({"unlearned": 7, "unlearned_age": LATE}, "7 exchanges wait to be learned"),
    "nothing learned from much": ({"judged": 1000, "items": 1}, "1000 exchanges were judged and 1 items learned"),
}
SILENT: dict[str, dict[str, Any]] = {
    "idle": {},
    "just written": {"behind": (FileState("a.jsonl", 9, 4, GRACE - 1),)},
    "just announced": {"spool_waiting": 3, "spool_age": 1.0},
    "being learned": {"unlearned": 7, "unlearned_age": 1.0},
    "little judged": {"judged": 50, "items": 0},
    "items as usual": {"judged": 1000, "items": 200},
}


@pytest.mark.parametrize("name", list(RAISED))
def test_an_alarm_says_what_is_wrong_and_what_to_do(name: str) -> None:
    values, expected = RAISED[name]
    (alarm,) = alarms(replace(QUIET, **values))
    assert expected in alarm
    assert ": " in alarm


@pytest.mark.parametrize("name", list(SILENT))
def test_no_alarm_without_a_reason(name: str) -> None:
    assert alarms(replace(QUIET, **SILENT[name])) == []


def test_old_conversations_that_were_just_brought_raise_no_alarm() -> None:
    now = datetime(2026, 6, 1, tzinfo=UTC)
    idle = capture_document(QUIET, "2026-05-31T23:59:00Z")
    waited = capture_document(replace(QUIET, unlearned=7, unlearned_age=600.0), "2026-05-31T23:59:00Z")
    assert [longest_wait(one, now) for one in (None, idle, waited)] == [0.0, 60.0, 660.0]


def test_the_document_counts_and_lists_what_is_behind() -> None:
    state = replace(QUIET, files=2, expected=9, captured=4, behind=(FileState("a.jsonl", 9, 4, LATE),))
    document = capture_document(state, "2026-06-01T00:00:00Z")
    assert document["transcripts"]["expected"] - document["transcripts"]["captured"] == 5
    assert document["transcripts"]["behind"][0]["path"] == "a.jsonl"
    assert len(document["alarms"]) == 1
