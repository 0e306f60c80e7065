"""Reading in a child process: the same is stored, whatever happens to the child or its parent."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Any, cast

import pytest

from knowledge_system.application import read_ahead
from knowledge_system.application.read_ahead import ReadAhead
from knowledge_system.domain.clock import SystemClock
from knowledge_system.domain.events import Event, ExchangesIngested, TranscriptWarning
from knowledge_system.domain.sensitivity import Gatekeeper
from knowledge_system.domain.truth import IngestBatch, IngestLog, Page, Truth
from knowledge_system.extraction.admission import Outcome
from knowledge_system.extraction.ingestion import Ingestion, IngestOptions, IngestTally, find
from knowledge_system.sensitivity.gatekeeper import DoorGatekeeper
from knowledge_system.sensitivity.topics import BUILT_IN
from knowledge_system.storage.connections import file_url
from knowledge_system.storage.database import Database
from knowledge_system.testing.truth import memory_truth
from knowledge_system.transcripts.files import FileTranscriptReader

FILES = 12
SECRETS = ["ghp_x7Kq2Lm9Rt4Vw8Yz1Bc3Df5Gh6Jk0Np2QsZ4", "glpat-Zx9Kq2Lm7Rt4Vw8Yb1Nc", "hunter2-Kx81!"]
LINUX = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks into /proc")


def write(path: Path, session: str, number: int, count: int = 2) -> None:
    """Write a transcript of `count` exchanges; every one repeats secrets that other files of its session know too."""
    exchanges = [
        {
            "user": f"Why does job {number}.{one} fail? password = {SECRETS[2]}{one % 3}",
            "assistant": f"It logs in with {SECRETS[(number + one) % 2]}. " + f"See step {one}. " * 40,
            "tools": [{"name": "Bash", "input": {"command": f"login {SECRETS[0]}"}, "output": "ok"}],
        }
        for one in range(count)
    ]
    document = {
        "format": "knowledge-transcript/1",
        "session": {"id": session, "project": "shop", "agent": "any", "started_at": "2026-01-01T00:00:00Z"},
        "exchanges": exchanges,
    }
    path.write_text(json.dumps(document), encoding="utf-8")


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """Return a folder of transcripts in which every session goes on in two other files, and a file that is none."""
    folder = tmp_path / "in"
    folder.mkdir()
    for number in range(FILES):
        write(folder / f"t{number:02}.json", f"s{number % 4}", number)
    (folder / "t05.md").write_text("nothing of ours", encoding="utf-8")
    return folder


class World:
    """A home, and ingests into it."""

    def __init__(self, database: Database) -> None:
        self.truth = database.truth()
        self.reader = FileTranscriptReader(batch_exchanges=2)
        self.gatekeeper: Gatekeeper = DoorGatekeeper(BUILT_IN, b"k" * 32)
        self.events: list[Event] = []
        self.ahead = ReadAhead(self.reader, self.gatekeeper, least=1)

    async def ingest(self, folder: Path, *, ahead: bool = True, emit: Any = None) -> IngestTally:
        use = self.ahead if ahead else None
        ingestion = Ingestion(self.reader, self.gatekeeper, self.truth, emit or self.events.append, use)
        return await ingestion.run([folder], IngestOptions())

    async def stored(self) -> list[dict[str, Any]]:
        exchanges, _ = await self.truth.exchanges.page(Page(limit=500))
        sessions = sorted({one.session_id for one in exchanges})
        numbers = [{one: await self.truth.ingest.placeholders(one) for one in sessions}]
        plain = [dataclasses.asdict(one) for one in exchanges]
        return [*sorted(plain, key=lambda one: str(one["id"])), *numbers]


@pytest.fixture
async def worlds(tmp_path: Path) -> AsyncGenerator[list[World]]:
    databases = [await Database.open(file_url(tmp_path / f"{name}.db"), SystemClock()) for name in ("a", "b")]
    yield [World(one) for one in databases]
    for one in databases:
        await one.close()


def children(pid: int) -> list[int]:
    """Return the processes that `pid` started, whichever thread did."""
    lists = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for one in lists for child in one.read_text().split()]


def listed(folder: Path) -> list[Path]:
    return sorted(folder.iterdir())


def counted(tally: IngestTally) -> dict[str, Any]:
    counts = dataclasses.asdict(tally)
    return {name: sorted(map(str, value)) if isinstance(value, set) else value for name, value in counts.items()}


async def test_the_same_is_stored_and_counted_as_without_a_child(worlds: list[World], corpus: Path) -> None:
    plain, ahead = worlds
    told = counted(await plain.ingest(corpus, ahead=False)), counted(await ahead.ingest(corpus))
    assert told[0] == told[1]
    assert told[1]["new"] == 2 * FILES
    assert told[1]["redactions"] > 0
    assert [one.path for one in (await ahead.ingest(corpus)).skipped] == [str(corpus / "t05.md")]
    assert await plain.stored() == await ahead.stored()


async def test_what_is_known_is_not_read_again_and_what_grew_goes_on(worlds: list[World], corpus: Path) -> None:
    _, world = worlds
    await world.ingest(corpus)
    again = await world.ingest(corpus)
    assert (again.new, again.known, again.unchanged_files) == (0, 0, FILES)
    write(corpus / "t03.json", "s3", 3, count=5)
    grown = await world.ingest(corpus)
    assert (grown.new, grown.known, grown.unchanged_files) == (3, 2, FILES - 1)


async def test_placeholders_go_on_where_an_earlier_run_stopped(worlds: list[World], tmp_path: Path) -> None:
    plain, ahead = worlds
    for world, along in ((plain, False), (ahead, True)):
        for turn in range(2):
            folder = tmp_path / f"{along}{turn}"
            folder.mkdir()
            write(folder / "one.json", "s", turn)
            await world.ingest(folder, ahead=along)
    (*_, numbers), (*_, expected) = await ahead.stored(), await plain.stored()
    assert numbers == expected
    assert len(numbers["s"]["github-token"]) == 1


@LINUX
async def test_a_child_that_dies_costs_time_only(worlds: list[World], tmp_path: Path) -> None:
    plain, ahead = worlds
    folder = tmp_path / "long"
    folder.mkdir()
    for number in range(FILES):
        write(folder / f"t{number:02}.json", f"s{number % 4}", number, count=60)
    killed: list[int] = []

    def emit(event: Event) -> None:
        ahead.events.append(event)
        if isinstance(event, ExchangesIngested) and not killed:
            killed.extend(children(os.getpid()))
            for pid in killed:
                os.kill(pid, signal.SIGKILL)

    tally = await ahead.ingest(folder, emit=emit)
    await plain.ingest(folder, ahead=False)
    assert killed
    assert tally.new == 60 * FILES
    assert tally.files == FILES
    assert [one for one in ahead.events if isinstance(one, TranscriptWarning) and "reads ahead" in one.reason]
    assert await plain.stored() == await ahead.stored()


@LINUX
async def test_a_child_that_cannot_start_costs_time_only(worlds: list[World], corpus: Path) -> None:
    world = worlds[0]
    world.ahead = ReadAhead(world.reader, _Poison(), least=1)
    tally = await world.ingest(corpus)
    assert tally.new == 2 * FILES


class _Poison(DoorGatekeeper):
    """A gatekeeper that exists in this test alone, so that the child cannot load it."""

    def __init__(self) -> None:
        super().__init__(BUILT_IN, b"k" * 32)


@LINUX
async def test_leaving_early_ends_the_child(worlds: list[World], corpus: Path) -> None:
    world = worlds[0]
    files = listed(corpus)
    async with aclosing(world.ahead.outcomes(files, IngestOptions(), world.truth.ingest)) as outcomes:
        await anext(outcomes)
        assert children(os.getpid())
    assert not children(os.getpid())


@LINUX
async def test_cancelling_ends_the_child(worlds: list[World], corpus: Path) -> None:
    world, begun = worlds[0], asyncio.Event()
    running = asyncio.create_task(world.ingest(corpus, emit=lambda _: begun.set()))
    await begun.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert not children(os.getpid())


async def test_a_child_that_said_more_than_anybody_read_is_ended() -> None:
    pipe = asyncio.subprocess.PIPE
    words = "import sys; sys.stdout.write('x' * 2**22); sys.stdin.read()"
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", words, stdin=pipe, stdout=pipe)
    child, output = read_ahead._Child(process), cast("Any", process.stdout)
    while not output._paused:  # noqa: ASYNC110 -- asyncio tells nobody that the room for what is unread is full
        await asyncio.sleep(0)
    async with asyncio.timeout(60):
        await child.end()
    assert process.returncode == -signal.SIGKILL


@LINUX
async def test_what_was_prepared_is_used_once(worlds: list[World], corpus: Path) -> None:
    plain, world = worlds
    found = await find(world.reader, [corpus])
    await world.ahead.prepare(found, IngestOptions(), unread=True)
    prepared = children(os.getpid())
    pids: set[int] = set()
    ingestion = Ingestion(
        world.reader, world.gatekeeper, world.truth, lambda _: pids.update(children(os.getpid())), world.ahead
    )
    tally = await ingestion.run(found, IngestOptions())
    assert pids == set(prepared)
    assert len(prepared) == 1
    assert not children(os.getpid())
    assert counted(tally) == counted(await plain.ingest(corpus, ahead=False))
    assert await plain.stored() == await world.stored()


@LINUX
@pytest.mark.parametrize("unread", [True, False], ids=["unread", "known"])
async def test_what_was_prepared_for_something_else_is_not_used(
    worlds: list[World], corpus: Path, *, unread: bool
) -> None:
    world = worlds[0]
    found = await find(world.reader, [corpus])
    await world.ahead.prepare(found, IngestOptions(), unread=unread)
    (prepared,) = children(os.getpid())
    options = IngestOptions(project="other")
    async with aclosing(world.ahead.outcomes(list(found.sizes), options, world.truth.ingest)) as outcomes:
        _, outcome = await anext(outcomes)
        assert prepared not in children(os.getpid())
    assert isinstance(outcome, IngestBatch)
    assert {one.project for one in outcome.exchanges} == {"other"}


@LINUX
@pytest.mark.parametrize("unread", [True, False], ids=["unread", "known"])
async def test_a_child_that_nobody_needed_is_ended(worlds: list[World], corpus: Path, *, unread: bool) -> None:
    world = worlds[0]
    await world.ahead.prepare(await find(world.reader, [corpus]), IngestOptions(), unread=unread)
    assert children(os.getpid())
    await world.ahead.close()
    await world.ahead.close()
    assert not children(os.getpid())


@LINUX
async def test_little_to_read_prepares_no_child(worlds: list[World], corpus: Path) -> None:
    world = worlds[0]
    found = await find(world.reader, [corpus])
    ahead = ReadAhead(world.reader, world.gatekeeper, least=found.total + 1)
    await ahead.prepare(found, IngestOptions(), unread=True)
    assert not children(os.getpid())


class Talker:
    """The parent's end of a child that says large things without end."""

    def __init__(self) -> None:
        self.said = 0

    async def send(self, message: object) -> None:
        del message

    async def receive(self) -> tuple[int, Any]:
        self.said += 1
        return read_ahead.BYTES_AHEAD, (Path(f"{self.said}"), None)

    def hang_up(self) -> None:
        pass

    async def end(self) -> None:
        pass


async def test_a_child_whose_outcomes_nobody_takes_has_to_wait() -> None:
    talker = Talker()
    run = read_ahead._Run(cast("Any", talker), read_ahead._NothingRead(), [], frozenset())
    for wanted in (2, 3, 4):  # one that fills the room, and one that waits outside
        for _ in range(50):
            await asyncio.sleep(0)
        assert talker.said == wanted
        assert await run.next() == (Path(f"{wanted - 1}"), None)
    await run.end()


async def test_a_failing_database_is_not_taken_for_the_end(worlds: list[World], corpus: Path) -> None:
    class Failing:
        async def numbered(self, limit: int) -> None:
            del limit

        async def source(self, path: str) -> None:
            raise RuntimeError(path)

    world = worlds[0]
    with pytest.raises(RuntimeError, match="t00"):
        async for _ in world.ahead.outcomes(listed(corpus), IngestOptions(), cast("IngestLog", Failing())):
            pass


async def test_the_child_is_told_of_a_few_files_ahead(worlds: list[World], tmp_path: Path) -> None:
    folder = tmp_path / "long"
    folder.mkdir()
    for number in range(3 * read_ahead.FILES_AHEAD):
        write(folder / f"t{number:03}.json", f"s{number}", number)
    asked: list[str] = []

    class Watched:
        async def source(self, path: str) -> None:
            asked.append(path)

        async def numbered(self, limit: int) -> None:
            del limit

        async def placeholders(self, session: str) -> dict[str, dict[str, int]]:
            del session
            return {}

    world = worlds[0]
    files = listed(folder)
    async with aclosing(world.ahead.outcomes(files, IngestOptions(), cast("IngestLog", Watched()))) as outcomes:
        finished = 0
        async for path, outcome in outcomes:
            finished += outcome is None
            assert len(asked) <= finished + read_ahead.FILES_AHEAD
            assert path == files[finished - (outcome is None)]
    assert len(asked) == finished == len(files)


PARENT = """
import asyncio, sys
from pathlib import Path
from tests.application.test_read_ahead import World
from knowledge_system.domain.clock import SystemClock
from knowledge_system.storage.connections import file_url
from knowledge_system.storage.database import Database

async def main():
    world = World(await Database.open(file_url(Path(sys.argv[1])), SystemClock()))
    await world.ingest(Path(sys.argv[2]), emit=lambda event: (print(type(event).__name__, flush=True), input()))

asyncio.run(main())
"""


@LINUX
def test_kill_9_of_the_parent_leaves_no_child(tmp_path: Path, corpus: Path) -> None:
    root = Path(__file__).resolve().parents[2]
    arguments = [sys.executable, "-c", PARENT, tmp_path / "a.db", corpus]
    pipe = subprocess.PIPE
    with subprocess.Popen(arguments, cwd=root, stdin=pipe, stdout=pipe, text=True) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == "ExchangesIngested\n"
        (child,) = children(parent.pid)
        watched = os.pidfd_open(child)
        parent.kill()
        parent.wait()
        waiting = select.poll()
        waiting.register(watched, select.POLLIN)
        assert waiting.poll(20_000), "the child outlived its parent"
        os.close(watched)


class Recorded:
    """An `Ahead` that does nothing but note that it was asked."""

    def __init__(self, least: int) -> None:
        self.least = least
        self.asked: list[Sequence[Path]] = []

    async def outcomes(
        self, files: Sequence[Path], options: IngestOptions, log: IngestLog
    ) -> AsyncGenerator[tuple[Path, Outcome | None]]:
        del options, log
        self.asked.append(files)
        for nothing in ():
            yield nothing


def ingestion(truth: Truth, ahead: Recorded) -> Ingestion:
    return Ingestion(FileTranscriptReader(), DoorGatekeeper(BUILT_IN, b"k" * 32), truth, lambda _: None, ahead)


@pytest.mark.parametrize(("share", "asked"), [(0.5, 1), (1.0, 1), (2.0, 0)], ids=["half", "all", "double"])
async def test_a_child_is_started_when_there_is_enough_to_read(corpus: Path, share: float, asked: int) -> None:
    size = sum(file.stat().st_size for file in listed(corpus))
    truth, ahead = memory_truth(SystemClock()), Recorded(int(size * share))
    tally = await ingestion(truth, ahead).run([corpus], IngestOptions())
    assert len(ahead.asked) == asked
    assert tally.new == 2 * FILES


async def test_a_child_is_started_at_the_first_file_that_changed(corpus: Path) -> None:
    truth, ahead = memory_truth(SystemClock()), Recorded(1)
    (corpus / "t05.md").unlink()
    await ingestion(truth, Recorded(sys.maxsize)).run([corpus], IngestOptions())
    await ingestion(truth, ahead).run([corpus], IngestOptions())
    assert ahead.asked == []
    write(corpus / "t07.json", "s3", 7, count=3)
    tally = await ingestion(truth, ahead).run([corpus], IngestOptions())
    assert [files[0].name for files in ahead.asked] == ["t07.json"]
    assert (tally.new, tally.files) == (1, FILES)


async def test_a_dry_run_stays_in_this_process(corpus: Path) -> None:
    truth, ahead = memory_truth(SystemClock()), Recorded(1)
    tally = await ingestion(truth, ahead).run([corpus], IngestOptions(dry_run=True))
    assert tally.new == 2 * FILES
    assert ahead.asked == []
