"""The vector index on a server, under a service that must not end because the server does.

A server that cannot be reached makes everything that needs it fail at once, with a reason. In a service somebody looks
after it: it is tried again after pauses that grow, and before it is searched again the index is made equal to the
truth, because nobody knows what the server lost. A command tries once, and says what is wrong.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from dataclasses import dataclass, replace
from random import Random
from typing import TYPE_CHECKING, Final, TypeVar

from knowledge_system.domain.errors import (
    INDEX_AWAY,
    DependencyUnavailable,
    IndexUnavailable,
    IntegrityFailure,
    KnowledgeError,
    NotFound,
)
from knowledge_system.domain.index import IndexServerStatus

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence

    from knowledge_system.domain.embedding import EmbeddingSpace
    from knowledge_system.domain.index import (
        IndexHits,
        IndexPoint,
        IndexQuery,
        IndexStatus,
        OptimizeReport,
        VerifyReport,
    )
    from knowledge_system.storage.qdrant_server import QdrantFacts, QdrantIndex

_T = TypeVar("_T")
_LOST: Final = (DependencyUnavailable, IntegrityFailure, NotFound)
"""What a request fails with when the server, or the collection in it, is not what it was."""
_JITTER: Final = 0.25
"""Share by which a pause may be longer: several services do not come back to a server at the same moment."""
_STABLE: Final = 60.0
"""Seconds after which an outage is a new one, whose pauses begin short again."""


@dataclass(frozen=True, slots=True)
class Care:
    """How an index on a server is looked after; times in seconds.

    `recover` makes the index equal to the truth after every connection; None: nobody looks after it. `connecting`: how
    long opening waits for the first answer, `settling`: how long searches wait for an index that is being made equal,
    counted from when that began. While all is well the index is looked at `every` so often. Attempts to reach the
    server begin `pause` after it was lost; pauses double up to `longest`. `distrust` says why the index has to be
    rebuilt although the server holds one; `followed` is called when what the server holds is known to be of this truth.
    `lost` and `back` are told the reason and the seconds of an outage.
    """

    recover: Callable[[ServerIndex], Awaitable[None]] | None = None
    connecting: float = 2.0
    settling: float = 5.0
    every: float = 15.0
    pause: float = 0.25
    longest: float = 15.0
    distrust: str = ""
    followed: Callable[[], None] = lambda: None
    lost: Callable[[str], None] = lambda _: None
    back: Callable[[float], None] = lambda _: None


class _Link:
    """One connection; closed when it was given up and nobody uses it any more."""

    def __init__(self, index: QdrantIndex) -> None:
        self.index = index
        self.users = 0
        self.given_up = False

    async def close_if_idle(self) -> None:
        """Close the connection if it was given up and nobody waits for an answer from it."""
        if self.given_up and not self.users:
            with contextlib.suppress(KnowledgeError):
                await self.index.close()


class ServerIndex:
    """`VectorIndex` and `IndexMaintenance` on a server that comes and goes. Use it from one event loop.

    Everything raises IndexUnavailable while the server is away, at once; so does a search while the index has to be
    rebuilt, for it would find nothing.
    """

    def __init__(
        self, space: EmbeddingSpace, url: str, connect: Callable[[], Awaitable[QdrantIndex]], care: Care
    ) -> None:
        self._space = space
        self._url = url
        self._connect = connect
        self._care = care
        self._distrust = care.distrust
        self._link: _Link | None = None
        self._away = "it is being connected to"
        self._advice = ""
        self._told_at: float | None = None
        self._stable_at = 0.0
        self._unsound_at = 0.0
        self._outages = 0
        self._unsound = ""
        self._trouble = ""
        self._comparing = False
        self._writes = 0
        self._writing = 0
        self._seen = (0, -1)
        self._sound = asyncio.Event()
        self._reached = asyncio.Event()
        self._lost_now = asyncio.Event()
        self._rebuilding = asyncio.Lock()
        self._jitter = Random()  # noqa: S311 -- spreads attempts, keeps nothing secret
        self._worker: asyncio.Task[None] | None = None
        self._closing: set[asyncio.Task[None]] = set()

    @classmethod
    async def open(
        cls, space: EmbeddingSpace, url: str, connect: Callable[[], Awaitable[QdrantIndex]], care: Care
    ) -> ServerIndex:
        """Connect by `connect` to the server at `url`. Never fails: a server that is away is told by what is asked."""
        index = cls(space, url, connect, care)
        if care.recover is None:
            await index._connected()
            index.trust()
            return index
        index._worker = asyncio.get_running_loop().create_task(index._look_after(), name="index server")
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(index._reached.wait(), care.connecting)
        return index

    @property
    def usable(self) -> bool:
        """Whether the server answered the last time it was asked."""
        return self._link is not None

    @property
    def looked_after(self) -> bool:
        """Whether somebody makes it equal to the truth whenever the server was reached."""
        return self._care.recover is not None

    def server(self) -> IndexServerStatus:
        """Return how the connection is: cheap, for status and metrics."""
        recovering = self._unsound or ("it is compared with the truth" if self._comparing else "")
        state = "away" if self._link is None else "recovering" if recovering else "up"
        reason = self._away or self._unsound or self._trouble or recovering
        return IndexServerStatus(self._space.key, self._url, state, self._outages, reason)

    def trust(self) -> None:
        """Let it be searched from now on: what is missing in it is on its way."""
        self._unsound = ""
        self._sound.set()

    async def apply(self, points: Sequence[IndexPoint], drop_owners: Sequence[str] = ()) -> None:
        """Replace every point of `drop_owners` and upsert `points`. Idempotent; durable after the next `flush`."""
        with self._counted():
            await self._ask(lambda index: index.apply(points, drop_owners))

    async def query(self, queries: Sequence[IndexQuery]) -> list[IndexHits]:
        """Answer each query, best first. Points without a vector are found by words only."""
        if self._unsound and self._link is not None:
            await self._settled()
        return await self._ask(lambda index: index.query(queries))

    async def owners(self, after: str = "", limit: int = 1000) -> list[tuple[str, int]]:
        """Return `(owner_id, points)` in ascending order of id, after `after`: for comparing with the truth."""
        return await self._ask(lambda index: index.owners(after, limit))

    async def status(self) -> IndexStatus:
        """Return counts and health, as the server tells them now."""
        status = await self._ask(lambda index: index.status())
        if self._distrust and status.healthy:
            return replace(status, healthy=False, detail=self._distrust)
        return status

    async def flush(self) -> None:
        """Make everything applied so far durable."""
        await self._ask(lambda index: index.flush())

    async def optimize(self) -> OptimizeReport:
        """Build or improve the graph on the server."""
        return await self._ask(lambda index: index.optimize())

    async def remove_other_spaces(self) -> int:
        """Remove what other models of this dimension left on the server; return how many collections there were."""
        return await self._ask(lambda index: index.remove_other_spaces())

    async def verify(self) -> VerifyReport:
        """Check the state of the server and its contents."""
        return await self._ask(lambda index: index.verify())

    async def rebuild(self, points: AsyncIterator[Sequence[IndexPoint]]) -> OptimizeReport:
        """Build a new index beside the old one from `points`, verify it, and switch to it."""
        async with self._rebuilding:
            with self._counted():
                report = await self._ask(lambda index: index.rebuild(points))
        if report.swapped:
            self._accept()
            self.trust()
        return report

    async def telemetry(self) -> QdrantFacts | None:
        """Return what the server tells of itself, None while it is away."""
        link = self._link
        return None if link is None else await link.index.telemetry()

    async def close(self) -> None:
        """Close the connections. Calling it twice is fine."""
        if self._worker is not None:
            self._worker.cancel()
            await asyncio.wait([self._worker])
        self._worker = None
        self._give_up("it is closed", "open it again")
        if self._closing:
            await asyncio.wait(self._closing)

    @contextlib.contextmanager
    def _counted(self) -> Iterator[None]:
        """Note that the index is being written."""
        self._writing += 1
        try:
            yield
        finally:
            self._writing -= 1
            self._writes += 1

    @property
    def _quiet(self) -> int:
        """How often the index was written, or less than nothing while it is."""
        return -1 if self._writing else self._writes

    async def _ask(self, work: Callable[[QdrantIndex], Awaitable[_T]]) -> _T:
        """Have the server do `work`; what fails as a lost server does is the beginning of an outage."""
        link = self._link
        if link is None:
            raise self._unavailable()
        link.users += 1
        try:
            return await work(link.index)
        except _LOST as error:
            if link is self._link:
                self._note(error)
            raise self._unavailable() from error
        finally:
            link.users -= 1
            await link.close_if_idle()

    async def _settled(self) -> None:
        """Wait for an index that is being made equal to the truth, unless that takes long. Raises IndexUnavailable."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(self._unsound_at + self._care.settling):
                await self._sound.wait()
        if self._unsound and self.looked_after:
            raise IndexUnavailable(
                f"the index has to be rebuilt first: {self._unsound}",
                hint="It is rebuilt by itself; `knowledge index status` shows it.",
            )

    def _unavailable(self) -> IndexUnavailable:
        again = "It is tried again by itself." if self.looked_after else ""
        hint = " ".join(part for part in (self._advice or "Nothing is lost.", again) if part)
        return IndexUnavailable(f"{INDEX_AWAY}: {self._away or self._trouble}", hint=hint)

    def _note(self, error: KnowledgeError) -> None:
        """Begin an outage, or go on with one."""
        self._give_up(error.message, error.hint)
        if self._told_at is None:
            self._told_at = asyncio.get_running_loop().time()
            self._outages += 1
            self._care.lost(error.message)

    def _give_up(self, reason: str, advice: str) -> None:
        """Let go of the connection; who still waits for an answer of it gets that."""
        self._away, self._advice = reason, advice
        link, self._link = self._link, None
        self._reached.set()
        self._lost_now.set()
        if link is not None:
            link.given_up = True
            closing = asyncio.get_running_loop().create_task(link.close_if_idle())
            self._closing.add(closing)
            closing.add_done_callback(self._closing.discard)

    async def _connected(self) -> bool:
        """Reach the server once; return whether that went well."""
        try:
            index = await self._connect()
        except KnowledgeError as error:
            self._note(error)
            return False
        try:
            status = await index.status()
        except KnowledgeError as error:
            self._note(error)
            await index.close()
            return False
        self._link, self._away, self._advice = _Link(index), "", ""
        if status.points == 0:
            self._accept()  # there is nothing that could be another's
        self._suspect(status)
        self._reached.set()
        self._lost_now.clear()
        if self._told_at is not None:
            self._care.back(asyncio.get_running_loop().time() - self._told_at)
            self._told_at = None
        return True

    def _accept(self) -> None:
        """Believe from now on that what the server holds is of this truth."""
        if self._distrust:
            self._distrust = ""
            self._care.followed()

    def _suspect(self, status: IndexStatus) -> None:
        """Keep searches from an index that would find nothing, until it was compared with the truth."""
        self._unsound = self._distrust or ("" if status.healthy else status.detail or "it is not sound")
        if status.points == 0:
            self._unsound = self._unsound or "it was empty"
        if self._unsound:
            self._unsound_at = asyncio.get_running_loop().time()
            self._sound.clear()
        else:
            self._sound.set()

    async def _look_after(self) -> None:
        """Reach the server, make the index equal to the truth, and watch it; again whenever it is lost."""
        pauses = self._pauses()
        while True:
            if (self._link is not None or await self._guarded(self._connected)) and await self._guarded(self._equal):
                self._stable_at = asyncio.get_running_loop().time() + _STABLE
                await self._watched()
                if asyncio.get_running_loop().time() > self._stable_at:
                    pauses = self._pauses()
            await asyncio.sleep(next(pauses))

    def _pauses(self) -> Iterator[float]:
        for number in itertools.count():
            pause = min(self._care.longest, self._care.pause * 2 ** min(number, 30))
            yield pause * (1 + _JITTER * self._jitter.random())

    async def _guarded(self, step: Callable[[], Awaitable[bool]]) -> bool:
        """Return what `step` says; whatever goes wrong in it is told and tried again, and ends nothing."""
        try:
            return await step()
        except Exception as error:  # noqa: BLE001 -- the edge of the worker: it must go on trying
            self._trouble = f"{type(error).__name__}: {error}"
            if self._link is None:
                self._note(DependencyUnavailable(self._trouble))
            return False

    async def _equal(self) -> bool:
        """Have the index made equal to the truth; return whether it is now."""
        if self._care.recover is None:
            return True
        self._comparing = True
        try:
            await self._care.recover(self)
            await self._looked()
        except KnowledgeError as error:
            self._trouble = error.message
            return False
        finally:
            self._comparing = False
        self._trouble = ""
        self.trust()
        return self._link is not None

    async def _watched(self) -> None:
        """Look at the index from time to time until the server is lost, or holds less than it was given."""
        while self._link is not None:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._lost_now.wait(), self._care.every)
            before = self._seen
            try:
                status = await self._looked()
            except KnowledgeError:
                continue
            fewer = status.points < before[0] and before[1] >= 0 and before[1] == self._seen[1]
            if fewer or not status.healthy:
                self._suspect(status)
                return

    async def _looked(self) -> IndexStatus:
        """Return how the index is, and note its points, with the number of writes where none was under way."""
        began = self._quiet
        status = await self.status()
        self._seen = (status.points, began if began == self._quiet else -1)
        return status
