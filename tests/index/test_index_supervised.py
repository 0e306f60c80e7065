"""The index in a process of its own: that process may end in any way, and nothing acknowledged is lost."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from tests.index.samples import SPACE, axis, generations_in, make_points, stream
from tests.index.test_index_crashes import _alive, _children, _until, generation_of, owners_of, writer

from knowledge_system.domain.errors import DependencyUnavailable
from knowledge_system.domain.index import IndexPoint, IndexQuery
from knowledge_system.storage import index_manifest
from knowledge_system.storage.edge import EdgeIndex
from knowledge_system.storage.edge_live import EdgeOptions
from knowledge_system.storage.index_files import files_below
from knowledge_system.storage.index_supervised import SupervisedIndex, Supervision

NEAR = IndexQuery(10, vector=axis(0))
PATIENT = Supervision(restarting=60, pause=0)
"""Calls wait for a restart, however long that takes on a busy machine."""


@dataclass
class Told:
    """What the index told, and the truth from which it recovers: the points it must have."""

    restarted: list[str] = field(default_factory=list)
    given_up: list[str] = field(default_factory=list)
    truth: list[IndexPoint] = field(default_factory=list)
    failures: int = 0
    recovered: asyncio.Event = field(default_factory=asyncio.Event)

    async def recover(self, index: SupervisedIndex) -> None:
        if self.failures:
            self.failures -= 1
            raise DependencyUnavailable("the database is locked", hint="Wait.")
        if not (await index.status()).healthy:
            await index.rebuild(stream(self.truth))
        self.recovered.set()

    def supervision(self, supervision: Supervision = PATIENT) -> Supervision:
        return replace(
            supervision, restarted=self.restarted.append, given_up=self.given_up.append, recover=self.recover
        )


@asynccontextmanager
async def supervised(directory: Path, supervision: Supervision = PATIENT) -> AsyncIterator[SupervisedIndex]:
    index = await SupervisedIndex.open(directory, SPACE, supervision=supervision)
    try:
        yield index
    finally:
        await index.close()


def pid_of(index: SupervisedIndex) -> int:
    pid = index.process().pid
    assert pid is not None
    return pid


def end(index: SupervisedIndex, how: signal.Signals = signal.SIGKILL) -> None:
    os.kill(pid_of(index), how)


async def restarts(index: SupervisedIndex, count: int) -> None:
    await _until(lambda: index.process().restarts >= count and index.process().pid is not None)


def poison(directory: Path) -> None:
    """Make the engine abort the process that loads the id mappings."""
    mappings = next(
        path for path in files_below(generation_of(directory)) if path.name == "mutable_id_tracker.mappings"
    )
    mappings.write_bytes(mappings.read_bytes()[:-100] + b"\xff" * 100)


async def test_kill_9_under_load_loses_nothing_acknowledged(tmp_path: Path) -> None:
    told, written = Told(), 0
    async with supervised(tmp_path, told.supervision(replace(PATIENT, most=20))) as index:
        for round_ in range(3):
            goal = written + 60

            async def write(goal: int = goal) -> None:
                nonlocal written
                while True:
                    await index.apply(make_points(20, start=written))
                    written += 20
                    if written == goal:
                        end(index)

            searching = asyncio.gather(*(index.query([NEAR]) for _ in range(8)), return_exceptions=True)
            with pytest.raises(DependencyUnavailable) as caught:
                await write()
            assert caught.value.hint
            assert all(isinstance(one, list | DependencyUnavailable) for one in await searching)
            assert len((await index.query([NEAR]))[0]) == 10
            assert owners_of(make_points(written)) <= set(await index.owners(limit=10**6))
            await index.apply(make_points(20, start=written))  # what failed is written again, as the outbox has it
            written += 20
            assert index.process().restarts == round_ + 1
        assert (await index.status()).healthy
        assert (await index.verify()).ok
    assert all("SIGKILL" in reason for reason in told.restarted)
    index_again = await EdgeIndex.open(tmp_path, SPACE)
    assert owners_of(make_points(written)) == set(await index_again.owners(limit=10**6))
    await index_again.close()


async def test_a_process_that_hangs_is_a_bounded_error_and_is_replaced(directory: Path) -> None:
    told = Told()
    hasty = told.supervision(replace(PATIENT, answer=1.0))
    async with supervised(directory, hasty) as index:
        await index.apply(make_points(40))
        stopped = pid_of(index)
        end(index, signal.SIGSTOP)
        async with asyncio.timeout(30):
            with pytest.raises(DependencyUnavailable):
                await index.query([NEAR])
        await restarts(index, 1)
        assert len((await index.query([NEAR]))[0]) == 10
        assert not _alive(stopped)
    assert "said nothing" in told.restarted[0]


async def test_a_long_piece_of_work_in_a_process_that_hangs_ends_too(directory: Path) -> None:
    async with supervised(directory, replace(PATIENT, answer=1.0)) as index:
        end(index, signal.SIGSTOP)
        async with asyncio.timeout(30):
            with pytest.raises(DependencyUnavailable):
                await index.verify()


async def test_files_that_abort_the_engine_are_replaced_from_the_truth(directory: Path) -> None:
    told = Told(truth=make_points(400), failures=1)
    async with supervised(directory, told.supervision()) as index:
        await index.apply(told.truth)
        await index.flush()
        poison(directory)
        end(index, signal.SIGABRT)
        async with asyncio.timeout(60):
            await told.recovered.wait()
        assert owners_of(told.truth) == set(await index.owners(limit=10**6))
        assert (await index.status()).healthy
        assert (await index.query([IndexQuery(1, words="number321")]))[0][0].owner_id == "owner-000160"
    assert ["SIGABRT" in reason for reason in told.restarted] == [True]
    assert len(generations_in(directory)) == 1


async def test_files_that_abort_the_process_although_their_checks_pass_are_left_alone(directory: Path) -> None:
    index = await EdgeIndex.open(directory, SPACE)
    await index.apply(make_points(400))
    await index.close()
    poison(directory)
    index_manifest.refresh(generation_of(directory))
    async with supervised(directory) as again:
        status = await again.status()
        assert (status.healthy, status.points) == (False, 0)
        assert "SIGABRT" in status.detail
        with pytest.raises(DependencyUnavailable, match="rebuilt"):
            await again.query([NEAR])
        assert (await again.rebuild(stream(make_points(400)))).swapped
        assert len((await again.query([NEAR]))[0]) == 10


async def test_files_in_which_the_engine_crashes_twice_are_not_loaded_a_third_time(directory: Path) -> None:
    told = Told(truth=make_points(40))
    async with supervised(directory, told.supervision()) as index:
        await index.apply(told.truth)
        generations = []
        for count in (1, 2):
            generations.append(generation_of(directory))
            end(index, signal.SIGABRT)
            await restarts(index, count)
            await told.recovered.wait()
            told.recovered.clear()
        assert generations[0] == generations[1] != generation_of(directory)
        assert owners_of(told.truth) == set(await index.owners(limit=10**6))
    assert len(told.restarted) == 2


async def test_an_index_whose_process_keeps_ending_stays_down_until_it_is_rebuilt(directory: Path) -> None:
    told = Told(truth=make_points(40))
    async with supervised(directory, told.supervision(replace(PATIENT, most=2))) as index:
        await index.apply(told.truth)
        for count in (1, 2):
            end(index)
            await restarts(index, count)
        end(index)
        await _until(lambda: index.process().state == "down")
        status = await index.status()
        assert (status.healthy, status.points) == (False, 0)
        assert "3 times" in status.detail
        assert told.given_up == [status.detail]
        for call in (index.query([NEAR]), index.apply(told.truth), index.flush()):
            with pytest.raises(DependencyUnavailable) as caught:
                await call
            assert "knowledge index rebuild" in caught.value.hint
        assert (await index.rebuild(stream(told.truth))).swapped
        assert (await index.status()).healthy
        assert len((await index.query([NEAR]))[0]) == 10
        assert index.process().state == "up"


async def test_the_process_ends_with_its_parent_and_gives_the_files_back(tmp_path: Path) -> None:
    async with writer("supervise", tmp_path) as running:
        await running.hear(lambda said: "process" in said)
        child = running.said["process"]
        assert _alive(child)
        await running.kill()
    index = await EdgeIndex.open(tmp_path, SPACE, EdgeOptions(lock_within=30))
    assert len(await index.owners()) == 20
    await index.close()
    await _until(lambda: not _alive(child))


async def test_signals_to_the_whole_group_are_left_to_the_parent(directory: Path) -> None:
    async with supervised(directory) as index:
        await index.apply(make_points(40))
        pid = pid_of(index)
        for one in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            os.kill(pid, one)
        assert len((await index.query([NEAR]))[0]) == 10
        assert (pid_of(index), index.process().restarts) == (pid, 0)
    assert not _alive(pid)
    assert index_manifest.is_clean(generation_of(directory))


async def test_twenty_restarts_leave_no_process_and_no_descriptor(directory: Path) -> None:
    def held() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    async with supervised(directory, replace(PATIENT, most=100)) as index:
        before = held()
        for count in range(1, 21):
            await index.flush()
            end(index)
            await restarts(index, count)
            assert _children(os.getpid()) == [pid_of(index)]
        await index.query([NEAR])
        assert held() <= before
    assert _children(os.getpid()) == []


async def test_searches_go_on_while_a_copy_is_optimised(directory: Path) -> None:
    async with supervised(directory) as index:
        await index.apply(make_points(600))
        once = await index.query([NEAR])
        work = asyncio.create_task(index.optimize())
        answered = 0
        while not work.done():
            answers = await asyncio.gather(*(index.query([NEAR]) for _ in range(4)))
            assert all(answer == once for answer in answers)
            answered += len(answers)
        assert (await work).points == 600
        assert answered > 4


async def test_a_rebuild_that_is_given_up_leaves_nothing_behind(directory: Path) -> None:
    begun = asyncio.Event()

    async def endless() -> AsyncIterator[Sequence[IndexPoint]]:
        for number in range(10**6):
            yield make_points(20, start=20 * number)
            if number == 3:
                begun.set()

    async with supervised(directory) as index:
        await index.apply(make_points(4))
        work = asyncio.create_task(index.rebuild(endless()))
        await begun.wait()
        work.cancel()
        with pytest.raises(asyncio.CancelledError):
            await work
        assert len(generations_in(directory)) == 1
        assert await index.owners() == [("owner-000000", 2), ("owner-000001", 2)]


async def test_closing_while_the_process_is_being_started_again_ends_everything(directory: Path) -> None:
    async with supervised(directory) as index:
        await index.apply(make_points(4))
        end(index)
        with contextlib.suppress(DependencyUnavailable):
            await index.query([NEAR])
    assert _children(os.getpid()) == []
    again = await EdgeIndex.open(directory, SPACE)
    assert len(await again.owners()) == 2
    await again.close()
