"""kill -9 at any point, broken files, second openers: the process survives and nothing wrong is served."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import random
import sys
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.index.samples import SPACE, axis, generations_in, make_points, stream

from knowledge_system.domain.embedding import EmbeddingSpace
from knowledge_system.domain.errors import Busy, DependencyUnavailable
from knowledge_system.domain.index import IndexPoint, IndexQuery
from knowledge_system.storage import index_manifest
from knowledge_system.storage.edge import EdgeIndex
from knowledge_system.storage.edge_live import EdgeOptions
from knowledge_system.storage.edge_process import run_child
from knowledge_system.storage.index_files import blocks, files_below

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

WRITER = Path(__file__).with_name("crash_writer.py")


@dataclass
class Writer:
    """A running `crash_writer` and the last number it said under each word."""

    process: asyncio.subprocess.Process
    said: dict[str, int] = field(default_factory=dict)

    async def hear(self, enough: Callable[[dict[str, int]], bool]) -> None:
        assert self.process.stdout is not None
        while not enough(self.said) and (line := await self.process.stdout.readline()):
            word, _, number = line.decode().partition(" ")
            self.said[word.strip()] = int(number or 0)

    async def kill(self) -> None:
        """Kill it, then read what it still said: that much was acknowledged."""
        self.process.kill()
        await self.hear(lambda _: False)
        await self.process.wait()


@contextlib.asynccontextmanager
async def writer(mode: str, directory: Path, start: int = 0) -> AsyncIterator[Writer]:
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(WRITER), mode, str(directory), str(start), stdout=pipe
    )
    running = Writer(process)
    try:
        yield running
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


def root_of(directory: Path) -> Path:
    return next(path for path in directory.iterdir() if path.is_dir())


def generation_of(directory: Path) -> Path:
    root = root_of(directory)
    return root / json.loads((root / "current").read_bytes())["generation"]


async def points_of(index: EdgeIndex) -> set[tuple[str, int]]:
    return set(await index.owners(limit=10**6))


def owners_of(points: list[IndexPoint]) -> set[tuple[str, int]]:
    counts: defaultdict[str, int] = defaultdict(int)
    for point in points:
        counts[point.owner_id] += 1
    return set(counts.items())


async def test_nothing_acknowledged_is_lost_by_kill_9_during_apply(tmp_path: Path) -> None:
    """Each round begins by opening what the last one left and counting it."""
    chance, acknowledged = random.Random(20261123), 0
    for _ in range(10):
        async with writer("apply", tmp_path, acknowledged) as running:
            enough = acknowledged + 20 * chance.randint(1, 25)
            await running.hear(lambda said, enough=enough: said.get("applied", 0) >= enough)
            await running.kill()
        assert running.said["unhealthy"] == 0
        assert running.said["lost"] == 0
        acknowledged = running.said["applied"]
    index = await EdgeIndex.open(tmp_path, SPACE)
    assert (await index.status()).healthy
    assert owners_of(make_points(acknowledged)) <= await points_of(index)
    assert (await index.verify()).ok
    await index.close()


async def test_kill_9_during_a_rebuild_leaves_the_old_or_the_new_index(tmp_path: Path) -> None:
    chance, start = random.Random(7), 0
    for _ in range(3):
        async with writer("rebuild", tmp_path, start) as running:
            wanted = chance.randint(1, 2)
            await running.hear(lambda said, first=start, wanted=wanted: said.get("building", -1) >= first + wanted)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(running.hear(lambda _: False), chance.random())
            await running.kill()
        index = await EdgeIndex.open(tmp_path, SPACE)
        assert (await index.status()).healthy
        (hits,) = await index.query([IndexQuery(200, vector=axis(0))])
        versions = {hit.view for hit in hits}
        assert len(hits) == 100
        assert versions <= {f"version-{running.said['built'] + later}" for later in (0, 1)}
        assert len(versions) == 1
        start = running.said["building"] + 1
        await index.close()
        assert len(generations_in(tmp_path)) == 1


async def test_children_die_with_the_process_that_started_them(tmp_path: Path) -> None:
    async with writer("optimize", tmp_path) as running:
        await running.hear(lambda said: "optimizing" in said)
        children = await _until(lambda: _children(running.process.pid))
        await running.kill()
        assert await _until(lambda: not any(_alive(child) for child in children))
    index = await EdgeIndex.open(tmp_path, SPACE)
    assert (await index.status()).points == 4000
    await index.close()


async def _until(condition: Callable[[], object]) -> object:
    async with asyncio.timeout(30):
        while not (result := condition()):  # noqa: ASYNC110 - other processes set no event of ours
            await asyncio.sleep(0.01)
    return result


def _children(parent: int) -> list[int]:
    return [int(pid) for pid in Path(f"/proc/{parent}/task/{parent}/children").read_text().split()]


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


async def test_another_process_is_told_that_the_index_is_busy(tmp_path: Path) -> None:
    async with writer("hold", tmp_path) as running:
        await running.hear(lambda said: "open" in said)
        with pytest.raises(Busy) as caught:
            await EdgeIndex.open(tmp_path, SPACE)
        assert caught.value.hint
        await running.kill()
    index = await EdgeIndex.open(tmp_path, SPACE)
    with pytest.raises(Busy):
        await EdgeIndex.open(tmp_path, SPACE)
    await index.close()


@pytest.fixture
async def filled(directory: Path) -> Path:
    """The directory of a closed index of 400 points, some of them dropped again."""
    index = await EdgeIndex.open(directory, SPACE)
    await index.apply(make_points(400))
    await index.apply([], drop_owners=["owner-000003"])
    await index.close()
    return directory


async def test_closing_and_opening_keeps_everything(filled: Path) -> None:
    assert index_manifest.is_clean(generation_of(filled))
    index = await EdgeIndex.open(filled, SPACE)
    assert owners_of(make_points(400)) - {("owner-000003", 2)} == await points_of(index)
    assert (await index.query([IndexQuery(1, words="number77")]))[0][0].owner_id == "owner-000038"
    assert (await index.status()).healthy
    await index.close()


def flip(path: Path, chance: random.Random) -> None:
    """Flip a bit of a byte that means something, where the file has one."""
    with path.open("r+b") as file:
        written = list(blocks(file.fileno()))
        offset = chance.randrange(path.stat().st_size)
        if written:
            start, block = chance.choice(written)
            offset = start + chance.choice([place for place, byte in enumerate(block) if byte])
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([byte ^ 0x40]))


def kinds_of_files(shard: Path) -> Iterator[Path]:
    """Return one file of each name that has content."""
    kinds: dict[str, Path] = {}
    for path in files_below(shard):
        if path.stat().st_size:
            kinds.setdefault(f"{path.parent.name.rpartition('-')[2]}/{path.name}", path)
    return iter(kinds.values())


async def test_verify_reports_a_flipped_bit_in_every_kind_of_file(filled: Path) -> None:
    chance = random.Random(3)
    generation = generation_of(filled)
    kinds = list(kinds_of_files(generation / index_manifest.SHARD))
    assert len(kinds) > 20
    for path in kinds:
        content, facts = path.read_bytes(), path.stat()
        flip(path, chance)
        os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns))  # rot does not touch the time
        (problem,) = index_manifest.differences(generation)
        assert problem.startswith(str(path.relative_to(generation / index_manifest.SHARD)))
        path.write_bytes(content)


@pytest.mark.parametrize("name", ["mutable_id_tracker.mappings", "segment.json", "chunk_0.mmap", "page_0.dat"])
async def test_opening_flipped_files_gives_an_empty_index_that_asks_for_a_rebuild(filled: Path, name: str) -> None:
    broken = next(path for path in files_below(generation_of(filled)) if path.name == name and any(_data(path)))
    flip(broken, random.Random(5))
    index = await EdgeIndex.open(filled, SPACE)
    status = await index.status()
    assert (status.healthy, status.points) == (False, 0)
    assert name in status.detail
    await index.apply(make_points(2))
    await index.close()

    index = await EdgeIndex.open(filled, SPACE)
    assert not (await index.status()).healthy
    report = await index.rebuild(stream(make_points(400)))
    assert report.swapped
    status = await index.status()
    assert (status.healthy, status.detail, status.points) == (True, "", 400)
    await index.close()
    assert len(generations_in(filled)) == 1


def _data(path: Path) -> list[tuple[int, bytes]]:
    with path.open("rb") as file:
        return list(blocks(file.fileno()))


async def test_verify_of_an_open_index_reports_rot_and_the_index_goes_on(filled: Path) -> None:
    index = await EdgeIndex.open(filled, SPACE)
    await index.flush()
    assert (await index.verify()).ok
    payloads = generation_of(filled) / index_manifest.SHARD
    path = next(path for path in files_below(payloads) if path.name == "page_0.dat" and "payload_storage" in str(path))
    flip(path, random.Random(1))
    report = await index.verify()
    assert not report.ok
    assert any("page_0.dat" in problem for problem in report.problems)
    assert (await index.query([IndexQuery(1, words="number77")]))[0]
    await index.close()


@pytest.fixture
def poisoned(filled: Path) -> Path:
    """A directory whose id mappings make the engine abort the process that loads them."""
    mappings = next(path for path in files_below(generation_of(filled)) if path.name == "mutable_id_tracker.mappings")
    mappings.write_bytes(mappings.read_bytes()[:-100] + b"\xff" * 100)
    return filled


@pytest.mark.parametrize("command", ["check", "verify", "optimize"])
async def test_an_abort_in_the_child_is_a_report(poisoned: Path, command: str) -> None:
    answer = await run_child(command, generation_of(poisoned), SPACE.dimension, 60)
    assert "SIGABRT" in answer.problems[-1]


@pytest.mark.parametrize("crashed", [False, True])
async def test_opening_what_would_abort_the_process_does_not(poisoned: Path, *, crashed: bool) -> None:
    if crashed:
        index_manifest.mark_dirty(generation_of(poisoned))
    index = await EdgeIndex.open(poisoned, SPACE)
    status = await index.status()
    assert (status.healthy, status.points) == (False, 0)
    assert ("SIGABRT" if crashed else "mutable_id_tracker.mappings: content changed") in status.detail
    await index.close()


async def test_a_child_past_its_deadline_is_killed_and_reported(filled: Path) -> None:
    answer = await run_child("verify", generation_of(filled), SPACE.dimension, 0.001)
    assert answer.problems == ("verify did not end within 0 s",)
    assert not _children(os.getpid())


async def test_cancelling_maintenance_ends_its_child_and_removes_its_copy(filled: Path) -> None:
    index = await EdgeIndex.open(filled, SPACE)
    task = asyncio.create_task(index.verify())
    await _until(lambda: _children(os.getpid()))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not _children(os.getpid())
    assert len(generations_in(filled)) == 1
    assert (await index.verify()).ok
    await index.close()


async def test_closing_ends_maintenance(filled: Path) -> None:
    index = await EdgeIndex.open(filled, SPACE)
    task = asyncio.create_task(index.optimize())
    await _until(lambda: _children(os.getpid()))
    await index.close()
    with pytest.raises(DependencyUnavailable):
        await task
    assert not _children(os.getpid())
    assert index_manifest.is_clean(generation_of(filled))


def lose_pointer(generation: Path) -> None:
    (generation.parent / "current").write_text("{")


def lose_generation(generation: Path) -> None:
    generation.rename(generation.with_name("g000099"))


def lose_manifest(generation: Path) -> None:
    (generation / "manifest.json").write_text("{}")
    (generation / "clean").write_text(hashlib.sha256(b"{}").hexdigest())


@pytest.mark.parametrize("lose", [lose_pointer, lose_generation, lose_manifest])
async def test_lost_bookkeeping_asks_for_a_rebuild(filled: Path, lose: Callable[[Path], None]) -> None:
    lose(generation_of(filled))
    index = await EdgeIndex.open(filled, SPACE)
    assert not (await index.status()).healthy
    await index.close()
    assert len(generations_in(filled)) == 1


async def test_leftovers_of_a_crash_are_removed_at_opening(filled: Path) -> None:
    root = root_of(filled)
    (root / "g000777" / "shard").mkdir(parents=True)
    (root / "g000777" / "shard" / "big").write_bytes(bytes(10**6))
    (root / "current.new").touch()
    index = await EdgeIndex.open(filled, SPACE)
    assert (await index.status()).points == 398
    await index.close()
    assert not (root / "g000777").exists()
    assert not (root / "current.new").exists()


async def test_spaces_never_share_files(filled: Path) -> None:
    for other in (EmbeddingSpace("sample-model", 16, "r2"), EmbeddingSpace("sample-model", 8, "r1")):
        index = await EdgeIndex.open(filled, other)
        assert await index.owners() == []
        await index.close()
    index = await EdgeIndex.open(filled, SPACE)
    assert (await index.status()).points == 398
    await index.close()


async def test_writes_are_flushed_soon_without_being_asked(directory: Path) -> None:
    index = await EdgeIndex.open(directory, SPACE, EdgeOptions(flush_after=0.05))
    await index.apply(make_points(10))
    assert not index_manifest.is_clean(generation_of(directory))
    await _until(lambda: index_manifest.is_clean(generation_of(directory)))
    assert index_manifest.differences(generation_of(directory)) == []
    await index.close()


async def test_a_full_disk_refuses_writes_and_goes_on_searching(directory: Path) -> None:
    index = await EdgeIndex.open(directory, SPACE)
    await index.apply(make_points(10))
    await index.close()
    index = await EdgeIndex.open(directory, SPACE, EdgeOptions(minimum_free=2**62))
    with pytest.raises(DependencyUnavailable) as caught:
        await index.apply(make_points(1, start=50))
    assert "disk" in caught.value.hint
    with pytest.raises(DependencyUnavailable):
        await index.verify()
    assert len((await index.query([IndexQuery(20, vector=axis(0))]))[0]) == 10
    await index.close()


def a_file(directory: Path) -> Path:
    (directory / "file").touch()
    return directory / "file"


def read_only(directory: Path) -> Path:
    if os.geteuid() == 0:
        pytest.skip("permissions do not bind the superuser")
    (directory / "read-only").mkdir(mode=0o500)
    return directory / "read-only"


@pytest.mark.parametrize("make", [a_file, read_only])
async def test_an_unusable_directory_is_unavailable(directory: Path, make: Callable[[Path], Path]) -> None:
    with pytest.raises(DependencyUnavailable, match="cannot be used") as caught:
        await EdgeIndex.open(make(directory), SPACE)
    assert caught.value.hint


async def test_the_manifest_is_right_after_every_flush(tmp_path: Path, directory: Path) -> None:
    """On the disk changed files are known by their times; in memory times do not tell, and every file is read."""
    chance = random.Random(0)
    for place in (tmp_path, directory):
        index = await EdgeIndex.open(place, SPACE)
        for _ in range(15):
            for _ in range(chance.randint(1, 3)):
                dropped = [f"owner-{chance.randrange(100):06d}"]
                await index.apply(make_points(chance.choice([1, 20]), start=2 * chance.randrange(100)), dropped)
            await index.flush()
            assert index_manifest.differences(generation_of(place)) == []
        await index.close()
