"""What a service warns of, how often, and in which order it ends."""

from __future__ import annotations

import asyncio
from pathlib import Path

from knowledge_system import settings
from knowledge_system.application.compose import Parts
from knowledge_system.application.logs import MOST_TOLD, TOLD_AGAIN, Alarms, is_alarming
from knowledge_system.domain.events import BreakerOpened, CaptureFailed, CaptureRefused, IndexServerLost, UpkeepRan


class Time:
    """A clock that moves by hand."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_the_same_refusal_is_told_once_an_hour() -> None:
    time = Time()
    alarms = Alarms(time)
    event = CaptureRefused("/elsewhere/a.jsonl", "lies outside")
    assert alarms.is_new(event)
    assert not alarms.is_new(event)
    assert alarms.is_new(CaptureRefused("/elsewhere/b.jsonl", "lies outside"))
    assert alarms.is_new(CaptureFailed("/elsewhere/a.jsonl", "lies outside")), "another kind of event"
    lost = IndexServerLost("m:384:1", "no connection")
    assert [alarms.is_new(lost), alarms.is_new(lost), is_alarming(lost)] == [True, False, True], "a server that flaps"
    time.now = TOLD_AGAIN - 1
    assert not alarms.is_new(event), "asking again does not put it off"
    time.now = TOLD_AGAIN
    assert alarms.is_new(event)


def test_a_job_that_fails_again_is_told_again_for_another_reason_only() -> None:
    alarms = Alarms(Time())
    assert alarms.is_new(UpkeepRan("sweep", "unavailable", 0.1, "no database"))
    assert not alarms.is_new(UpkeepRan("sweep", "unavailable", 0.7, "no database"))
    assert alarms.is_new(UpkeepRan("sweep", "unavailable", 0.1, "disk full"))


def test_what_changes_something_is_always_told() -> None:
    alarms = Alarms(Time())
    event = BreakerOpened("groq", "open", "five failures")
    assert alarms.is_new(event)
    assert alarms.is_new(event)


def test_what_was_told_does_not_grow_without_end() -> None:
    alarms = Alarms(Time())
    for number in range(3 * MOST_TOLD):
        alarms.is_new(CaptureRefused(str(number), "lies outside"))
    assert len(alarms._told) == MOST_TOLD


async def test_work_in_the_background_ends_before_what_it_uses(tmp_path: Path) -> None:
    ended: list[str] = []

    def step(name: str) -> None:
        async def end() -> None:
            await asyncio.sleep(0)
            ended.append(name)

        (parts.before_close if name.startswith("worker") else parts.at_close)(end)

    async with Parts(settings.load(tmp_path / "home", environ={}), "test") as parts:
        for name in ("worker 1", "store 1", "worker 2", "store 2"):
            step(name)
    assert ended == ["worker 2", "worker 1", "store 2", "store 1"]
