"""The vector index in a process of its own under a resident service: what kills the engine does not kill the service.

A process that ends or hangs is replaced, and what it held is brought up to the truth again before it is searched. When
that happens too often the index stays down, and says why, until a rebuild is asked for.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections import deque
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Final

from knowledge_system.domain.errors import DependencyUnavailable, KnowledgeError
from knowledge_system.domain.index import IndexStatus, OptimizeReport, VerifyReport
from knowledge_system.domain.processes import ProcessStatus
from knowledge_system.processes.channel import ChildProcess, Ending, Program, forget, memory_of
from knowledge_system.processes.wire import Message
from knowledge_system.storage import index_wire
from knowledge_system.storage.edge_live import EdgeOptions
from knowledge_system.storage.index_wire import Kind

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
    from pathlib import Path

    from knowledge_system.domain.embedding import EmbeddingSpace
    from knowledge_system.domain.index import IndexHits, IndexPoint, IndexQuery

_PROGRAM: Final = Program("knowledge_system.storage.index_service", "index")
_LONGEST_PAUSE: Final = 30.0
_RECOVERY_PAUSES: Final = (0.0, 1.0, 5.0, 15.0)
_PIECE_CHARACTERS: Final = 4_000_000
"""Characters of words in one message of a rebuild, so that neither process holds many at a time."""
_GROUNDS: Final = 2
"""Crashes of the engine within the window after which the files are not loaded again, although they passed checks."""


async def _nothing(_: SupervisedIndex) -> None:
    pass


@dataclass(frozen=True, slots=True)
class Supervision:
    """Deadlines in seconds, how often a process is replaced, and who is told.

    `answer`: a search fails after this; a process that says nothing for so long while an answer is due is killed.
    `opening`: the same while it opens the files. `write` and `work` (optimise, verify, rebuild): a request fails after
    them. `restarting`: how long a request waits for a process that is being started. `most` deaths within `window`
    are made good, after pauses that begin with `pause` and double; the next one leaves the index down. `restarted` and
    `given_up` are told the reason; `recover` makes the index equal to the truth after a restart.
    """

    answer: float = 15.0
    opening: float = 120.0
    write: float = 600.0
    work: float = 7200.0
    restarting: float = 5.0
    most: int = 5
    window: float = 300.0
    pause: float = 0.1
    restarted: Callable[[str], None] = lambda _: None
    given_up: Callable[[str], None] = lambda _: None
    recover: Callable[[SupervisedIndex], Awaitable[None]] = _nothing


class SupervisedIndex:
    """`VectorIndex` and `IndexMaintenance` on an `EdgeIndex` in another process. Use it from one event loop.

    What `apply` acknowledged survives the end of either process. A request under way when the index's process ends
    fails with DependencyUnavailable; so does a search while the index has to be rebuilt, for it would find nothing.
    """

    def __init__(self, directory: Path, space: EmbeddingSpace, options: EdgeOptions, supervision: Supervision) -> None:
        self._directory = directory
        self._space = space
        self._options = replace(options, inline=True)
        self._supervision = supervision
        self._process: ChildProcess | None = None
        self._settled = asyncio.Event()  # up, down or closed: nothing to wait for
        self._revived = asyncio.Event()
        self._rebuilding = asyncio.Lock()
        self._deaths: deque[tuple[float, Ending]] = deque()
        self._distrust = ""
        self._unsound = ""
        self._down = ""
        self._trouble = ""
        self._restarts = 0
        self._closed = False
        self._supervisor: asyncio.Task[None] | None = None
        self._recovery: asyncio.Task[None] | None = None

    @classmethod
    async def open(
        cls,
        directory: Path,
        space: EmbeddingSpace,
        options: EdgeOptions | None = None,
        supervision: Supervision | None = None,
    ) -> SupervisedIndex:
        """Start a process and open the index of `space` below `directory` in it. Errors are those of `EdgeIndex.open`.

        Files that make the process die at this are left alone: the index comes up empty and not healthy.
        """
        index = cls(directory, space, options or EdgeOptions(), supervision or Supervision())
        while isinstance(launched := await index._launch(), Ending):
            index._note(launched, opening=True)
            if len(index._deaths) > index._supervision.most:
                raise index._unavailable(launched.reason)
        index._supervisor = asyncio.get_running_loop().create_task(index._supervise(launched))
        return index

    async def apply(self, points: Sequence[IndexPoint], drop_owners: Sequence[str] = ()) -> None:
        """Replace every point of `drop_owners` and upsert `points`. Idempotent; durable after the next `flush`."""
        process = await self._ready()
        message = index_wire.points_message(process.number(), Kind.APPLY, points, list(drop_owners))
        await process.ask(message, self._supervision.write)

    async def query(self, queries: Sequence[IndexQuery]) -> list[IndexHits]:
        """Answer each query, best first. Points without a vector are found by words only."""
        process = self._process
        if process is None or self._closed:
            process = await self._ready()
        if self._unsound:
            raise DependencyUnavailable(
                f"the index has to be rebuilt first: {self._unsound}",
                hint="It is rebuilt by itself; `knowledge index status` shows it.",
            )
        message = index_wire.queries_message(process.number(), queries)
        found = index_wire.found_of(await process.ask(message, self._supervision.answer))
        return [one.hits() for one in found]

    async def owners(self, after: str = "", limit: int = 1000) -> list[tuple[str, int]]:
        """Return `(owner_id, points)` in ascending order of id, after `after`: for comparing with the truth."""
        answer = await self._plain(Kind.OWNERS, (after, limit))
        return [(owner, count) for owner, count in answer.head]

    async def status(self) -> IndexStatus:
        """Return counts and health; an index that stays down is not healthy, and says why."""
        if self._down and not self._closed:
            return IndexStatus("edge", self._space, 0, 0, 0, 0, healthy=False, detail=self._down)
        return replace(IndexStatus(**(await self._plain(Kind.STATUS)).head), space=self._space)

    async def flush(self) -> None:
        """Make everything applied so far durable against power loss and refresh the checksums."""
        await self._plain(Kind.FLUSH)

    async def optimize(self) -> OptimizeReport:
        """Build or improve the HNSW graph by size; swap only when recall against exact search holds."""
        return OptimizeReport(**(await self._work(Kind.OPTIMIZE)).head)

    async def verify(self) -> VerifyReport:
        """Check checksums and load a copy in a child process; a crash there is a report, not a crash here."""
        head = (await self._work(Kind.VERIFY)).head
        return VerifyReport(head["ok"], head["points"], tuple(head["problems"]))

    async def rebuild(self, points: AsyncIterator[Sequence[IndexPoint]]) -> OptimizeReport:
        """Build a new index beside the old one from `points`, verify it, and swap it in. Brings back one that is down.

        What is applied meanwhile is kept and wins over the stream. The index is healthy afterwards.
        """
        async with self._rebuilding:
            if self._down:
                await self._revive()
            return await self._rebuild(points)

    async def _revive(self) -> None:
        self._revived.set()
        self._settled.clear()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._settled.wait(), self._supervision.opening)

    async def _rebuild(self, points: AsyncIterator[Sequence[IndexPoint]]) -> OptimizeReport:
        process = await self._ready()
        request = process.number()
        answer = process.ask(Message(request, Kind.REBUILD), self._supervision.work)
        try:
            await self._feed(process, request, answer, points)
            report = OptimizeReport(**(await asyncio.shield(answer)).head)
        except BaseException:
            await process.give_up(request, answer)
            raise
        if report.swapped and process is self._process:
            self._unsound = ""
        return report

    async def _feed(
        self,
        process: ChildProcess,
        rebuild: int,
        answer: asyncio.Future[Message],
        points: AsyncIterator[Sequence[IndexPoint]],
    ) -> None:
        """Send the points, a piece at a time, as fast as they are taken."""
        async for some in points:
            for piece in _pieces(some):
                message = index_wire.points_message(process.number(), Kind.PIECE, piece, rebuild)
                taken = process.ask(message, self._supervision.work)
                try:
                    await asyncio.wait([taken, answer], return_when=asyncio.FIRST_COMPLETED)
                finally:
                    forget(taken)
                if answer.done():
                    return
        process.send(Message(rebuild, Kind.END))

    async def close(self) -> None:
        """Flush and release the files; the process ends. Calling it twice is fine."""
        if self._closed:
            return
        self._closed = True
        self._settled.set()
        await _ended(self._recovery)
        await _ended(self._supervisor)
        if (process := self._process) is None:
            return
        try:
            await process.ask(Message(process.number(), Kind.CLOSE), self._supervision.write)
        except KnowledgeError:
            if not process.ended.done():  # what a dead process had acknowledged is in its files
                raise
        finally:
            await process.end()

    def process(self) -> ProcessStatus:
        """Return how the process is: cheap, for metrics."""
        process = self._process
        state = "down" if self._down else "restarting" if process is None else "rebuilding" if self._unsound else "up"
        return ProcessStatus(
            space=self._space.key,
            state=state,
            pid=None if process is None else process.pid,
            restarts=self._restarts,
            rss_bytes=None if process is None else memory_of(process.pid),
            reason=self._down or self._unsound or self._last(),
        )

    async def _plain(self, kind: Kind, head: object = None) -> Message:
        process = await self._ready()
        return await process.ask(Message(process.number(), kind, head), self._supervision.write)

    async def _work(self, kind: Kind) -> Message:
        """Ask for something long; who gives it up waits until its copy is removed."""
        process = await self._ready()
        request = process.number()
        answer = process.ask(Message(request, kind), self._supervision.work)
        try:
            return await asyncio.shield(answer)
        except asyncio.CancelledError:
            await process.give_up(request, answer)
            raise

    async def _ready(self) -> ChildProcess:
        """Return the process, waiting a little for one that is being started."""
        if self._process is None and not self._down:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._settled.wait(), self._supervision.restarting)
        if self._closed:
            raise DependencyUnavailable("the index is closed", hint="Open it again; nothing is lost.")
        if self._process is None:
            raise self._unavailable(self._down)
        return self._process

    def _unavailable(self, down: str) -> DependencyUnavailable:
        if down:
            return DependencyUnavailable(
                f"the index is down: {down}", hint="Run `knowledge index rebuild`: nothing is lost, it is derived."
            )
        text = f"the index is being started again: {self._last()}"
        return DependencyUnavailable(text, hint="Try again in a moment.")

    def _last(self) -> str:
        """Return what is in the way of a start, or why the last process ended."""
        return self._trouble or (self._deaths[-1][1].reason if self._deaths else "")

    async def _launch(self) -> ChildProcess | Ending:
        """Start a process and open the index in it; return it, or how it ended."""
        process = await ChildProcess.start(_PROGRAM, self._supervision.opening)
        try:
            head = {
                "directory": str(self._directory),
                "space": asdict(self._space),
                "options": asdict(replace(self._options, distrust=self._distrust)),
            }
            opened = Message(process.number(), Kind.OPEN, head)
            status = (await process.ask(opened, self._options.open_deadline + self._supervision.opening)).head
        except BaseException as error:
            died = isinstance(error, DependencyUnavailable) and process.ended.done()
            await process.end()
            if not died:
                raise
            return process.ended.result()
        process.bear(self._supervision.answer)
        process.ended.add_done_callback(self._gone)
        self._process, self._distrust = process, ""
        self._unsound = "" if status["healthy"] else status["detail"]
        return process

    def _gone(self, _: object) -> None:
        """Let whoever asks from now on wait for the next process."""
        self._process = None
        if not self._closed:
            self._settled.clear()

    async def _supervise(self, process: ChildProcess) -> None:
        """Replace the process whenever it ends, for as long as that helps."""
        while True:
            ending = await asyncio.shield(process.ended)
            await _ended(self._recovery)
            self._note(ending, opening=False)
            process = await self._replace()
            self._settled.set()
            self._recovery = asyncio.get_running_loop().create_task(self._recover())

    async def _replace(self) -> ChildProcess:
        """Start processes until one is up; return that."""
        pauses = self._pauses()
        while True:
            if len(self._deaths) > self._supervision.most:
                await self._stay_down()
                pauses = self._pauses()
            await asyncio.sleep(next(pauses))
            reason = self._last() or self._distrust
            try:
                launched = await self._launch()
            except KnowledgeError as error:
                self._trouble = error.message  # a full disk, say: that passes, and costs no attempt
                continue
            self._trouble = ""
            if isinstance(launched, ChildProcess):
                self._restarts += 1
                self._supervision.restarted(reason)
                return launched
            self._note(launched, opening=True)

    def _pauses(self) -> Iterator[float]:
        first = self._supervision.pause * 2 ** max(0, len(self._deaths) - 1)
        return (min(_LONGEST_PAUSE, first * 2**number) for number in itertools.count())

    async def _stay_down(self) -> None:
        """Wait for a rebuild to be asked for; the files are not loaded again."""
        reason = f"its process ended {len(self._deaths)} times, last because {self._deaths[-1][1].reason}"
        self._down, self._distrust = reason, reason
        self._supervision.given_up(reason)
        self._settled.set()
        await self._revived.wait()
        self._revived.clear()
        self._down = ""
        self._deaths.clear()

    def _note(self, ending: Ending, *, opening: bool) -> None:
        """Remember a death, and decide whether the files are to blame."""
        now = asyncio.get_running_loop().time()
        self._deaths.append((now, ending))
        while now - self._deaths[0][0] > self._supervision.window:
            self._deaths.popleft()
        crashes = sum(one.crashed for _, one in self._deaths)
        if ending.crashed and (opening or crashes >= _GROUNDS):
            self._distrust = f"the index's process crashed: {ending.reason}"

    async def _recover(self) -> None:
        """Have the index made equal to the truth, after a rebuild that somebody asked for; again when that fails."""
        for pause in itertools.chain(_RECOVERY_PAUSES, itertools.repeat(_LONGEST_PAUSE)):
            await asyncio.sleep(pause)
            async with self._rebuilding:
                pass
            try:
                await self._supervision.recover(self)
            except KnowledgeError as error:
                self._trouble = error.message
            except Exception as error:  # noqa: BLE001 -- the edge of the worker: it must go on trying
                self._trouble = f"{type(error).__name__}: {error}"
            else:
                self._trouble = ""
                return


async def _ended(task: asyncio.Task[None] | None) -> None:
    if task is not None:
        task.cancel()
        await asyncio.wait([task])


def _pieces(points: Sequence[IndexPoint]) -> Iterator[list[IndexPoint]]:
    piece: list[IndexPoint] = []
    size = 0
    for point in points:
        piece.append(point)
        size += len(point.words)
        if size >= _PIECE_CHARACTERS:
            yield piece
            piece, size = [], 0
    if piece:
        yield piece
