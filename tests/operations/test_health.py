"""Checks are bounded, asked for once, and never raise."""

from __future__ import annotations

import asyncio

from knowledge_system.domain.errors import DependencyUnavailable
from knowledge_system.operations import health
from knowledge_system.operations.health import Check, Checked, Entries, Watch


class Subject:
    """Something that is checked: counts how often, and answers when it is let."""

    def __init__(self, *, hangs: bool = False, error: Exception | None = None) -> None:
        self.times = 0
        self.let = asyncio.Event()
        self._error = error
        if not hangs:
            self.let.set()

    async def work(self) -> Entries:
        self.times += 1
        await self.let.wait()
        if self._error is not None:
            raise self._error
        return {"subject": Checked({"status": "up", "times": self.times})}


def missing(why: str) -> Entries:
    return {"subject": Checked({"status": "down", "error": why}, "failed")}


def check(subject: Subject, name: str = "subject", after: tuple[str, ...] = ()) -> Check:
    return Check(name, subject.work, missing, 0.05, after)


class Time:
    now = 0.0

    def __call__(self) -> float:
        return self.now


async def test_many_who_ask_at_once_and_soon_after_cost_one_check() -> None:
    subject, time = Subject(), Time()
    watch = Watch([check(subject)], time)

    reports = await asyncio.gather(*(watch.report() for _ in range(50)))
    time.now += health.KEPT_FOR / 2
    await watch.report()

    assert subject.times == 1
    assert {report.status for report in reports} == {"healthy"}
    time.now += health.KEPT_FOR
    await watch.report()
    assert subject.times == 2


async def test_what_hangs_is_one_task_and_is_asked_again_once_it_has_ended() -> None:
    subject, time = Subject(hangs=True), Time()
    watch = Watch([check(subject)], time)
    for _ in range(3):
        report = await watch.report()
        time.now += 10
    assert report.status == "unhealthy"
    assert report.document()["subject"]["error"] == "no answer within 0.05 s"
    assert subject.times == 1, "each report began another one"

    subject.let.set()
    await asyncio.wait(list(watch._running.values()))
    report = await watch.report()

    assert (report.status, report.document()["subject"]["times"]) == ("healthy", 2), "an old answer was reported"


async def test_errors_become_entries_without_their_message() -> None:
    secret = "cannot open /home/somebody/analytics.db at redis://:hunter2@cache"
    for error in (DependencyUnavailable(secret), OSError(secret), ValueError(secret)):
        report = await Watch([check(Subject(error=error))]).report()
        told = report.document()["subject"]["error"]
        assert told.startswith(f"{type(error).__name__}: ")
        assert "home" not in told
        assert "hunter2" not in told


async def test_a_check_is_not_begun_when_what_it_needs_failed() -> None:
    needed, needing = Subject(error=OSError()), Subject()
    report = await Watch([check(needing, "needing", ("subject",)), check(needed)]).report()
    assert (needed.times, needing.times) == (1, 0)
    assert report.status == "unhealthy"


async def test_a_check_that_is_cancelled_from_within_is_an_answer_too() -> None:
    async def work() -> Entries:
        raise asyncio.CancelledError

    report = await Watch([Check("subject", work, missing, 0.05)]).report()
    assert report.status == "unhealthy"


async def test_closing_ends_what_hangs() -> None:
    subject = Subject(hangs=True)
    watch = Watch([check(subject)])
    await watch.report()
    (task,) = watch._running.values()
    await watch.close()
    assert task.cancelled()


def test_degraded_is_not_unhealthy_and_what_does_not_count_is_only_shown() -> None:
    ok, degraded, failed = (Checked({}, grade) for grade in ("ok", "degraded", "failed"))
    shown = Checked({}, "degraded", counts=False)
    for entries, status in (
        ({"a": ok, "b": shown}, "healthy"),
        ({"a": ok, "b": degraded}, "degraded"),
        ({"a": degraded, "b": failed}, "unhealthy"),
    ):
        assert health.Report(entries).status == status
