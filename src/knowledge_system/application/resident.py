"""The resident service: it drains the spool, follows transcript folders, and learns while sessions go on.

One loop captures, one learns, one watches; each survives its own failures and says so. Nothing waits in memory: what
has not been stored is in the spool or in the transcripts themselves, what has not been learned is in the truth, so a
service that is killed goes on where it was.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from watchfiles import awatch

from knowledge_system.domain.capture import FLUSHING
from knowledge_system.domain.errors import KnowledgeError
from knowledge_system.domain.events import CaptureFailed, CaptureRefused, NoticesCaptured
from knowledge_system.extraction.learning import LearningTally
from knowledge_system.transcripts.discovery import SUFFIXES

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence

    from knowledge_system.application.system import KnowledgeSystem
    from knowledge_system.domain.capture import Notice, Spool
    from knowledge_system.domain.events import Emit

NOTICES = 256
"""Notices dealt with at once."""
GROUPED_FOR_MS = 250
"""Changes of files that come faster than this are one; what was written can be searched well within three seconds."""
LONGEST_WAIT = 10.0
"""Seconds after which is learned even when sessions never pause."""
LONGEST_PAUSE = 60.0
"""Seconds between attempts after repeated failures."""


@dataclass(frozen=True, slots=True)
class ResidentOptions:
    """`spool` is the directory that hooks write to; `folders` returns those to follow, existing or not.

    `roots` are the directories below which a hook may name a transcript. Times in seconds.
    """

    spool: Path
    folders: Callable[[], Sequence[Path]]
    roots: Sequence[Path]
    debounce: float = 2.0
    rescan: float = 300.0


class Resident:
    """What a running service does by itself. `run` ends only by cancellation."""

    def __init__(self, system: KnowledgeSystem, spool: Spool, options: ResidentOptions, emit: Emit) -> None:
        self._system = system
        self._spool = spool
        self._options = options
        self._emit = emit
        self._dirty: set[Path] = set()
        self._noticed = asyncio.Event()
        self._fresh = asyncio.Event()
        self._flush = asyncio.Event()
        self._stored_at = 0.0

    async def run(self) -> None:
        """Capture and learn until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._forever("capture", self._capture))
            group.create_task(self._forever("learn", self._learn))
            group.create_task(self._forever("watch", self._watch))
            group.create_task(self._forever("rescan", self._rescan))

    def wake(self) -> None:
        """Look into the spool now."""
        self._noticed.set()

    async def _forever(self, name: str, step: Callable[[], Awaitable[None]]) -> None:
        """Repeat `step`; after a failure wait longer each time, and go on."""
        pause = 0.0
        while True:
            try:
                await step()
                pause = 0.0
            except KnowledgeError as error:
                self._emit(CaptureFailed(name, error.message))
            except OSError as error:
                self._emit(CaptureFailed(name, str(error)))
            except Exception as error:  # noqa: BLE001 -- the edge of the worker: one bad transcript must not end it
                self._emit(CaptureFailed(name, f"{type(error).__name__}: {error}"))
            else:
                continue
            pause = min(LONGEST_PAUSE, 2 * pause or 1.0)
            await asyncio.sleep(pause)

    async def _capture(self) -> None:
        """Store what the spool and the watched folders announce, then forget the announcement."""
        notices = await self._spool.take(NOTICES)
        if not notices and not self._dirty:
            await self._noticed.wait()
            self._noticed.clear()
            return
        dirty, self._dirty = self._dirty, set()
        try:
            with self._system.parts.tracer.trace("capture", interactive=False, attributes={"notices": len(notices)}):
                stored = await self._store({*dirty, *self._transcripts(notices)}, notices)
        except BaseException:
            self._dirty |= dirty
            raise
        await self._spool.done(notices)
        if notices:
            self._emit(NoticesCaptured(len(notices)))
        self._announce(stored, flush=any(notice.event in FLUSHING for notice in notices))

    async def _store(self, paths: Iterable[Path], notices: Sequence[Notice]) -> bool:
        """Return whether anything new was stored."""
        tally = await self._system.capture(sorted(paths))
        stored = bool(tally.new or tally.updated)
        for notice in notices:
            if notice.body is not None:
                stored |= await self._system.capture_body(notice)
        return stored

    def _transcripts(self, notices: Iterable[Notice]) -> set[Path]:
        """Return the transcripts that the notices name and that a hook may name."""
        found: set[Path] = set()
        for notice in notices:
            if notice.transcript is None:
                continue
            path, problem = _admitted(notice.transcript, self._options.roots)
            if problem:
                self._emit(CaptureRefused(str(notice.transcript), problem))
            elif path.exists():
                found.add(path)
        return found

    def _announce(self, stored: bool, *, flush: bool) -> None:  # noqa: FBT001 -- private
        if stored:
            self._stored_at = time.monotonic()
            self._fresh.set()
        if flush and self._fresh.is_set():
            self._flush.set()

    async def _learn(self) -> None:
        """Learn once sessions pause, at the latest after a while, at once when a session ends."""
        await self._fresh.wait()
        latest = time.monotonic() + LONGEST_WAIT
        while (left := min(self._stored_at + self._options.debounce, latest) - time.monotonic()) > 0:
            try:
                async with asyncio.timeout(left):
                    await self._flush.wait()
                break
            except TimeoutError:
                continue
        self._fresh.clear()
        self._flush.clear()
        try:
            with self._system.parts.tracer.trace("learn", interactive=False):
                await self._system.learn(LearningTally())
        except BaseException:
            self._fresh.set()
            raise

    async def _watch(self) -> None:
        """Follow the spool and the folders until the set of folders that exist changes."""
        standing = self._standing()
        changed = asyncio.Event()
        looking = asyncio.create_task(self._standing_otherwise(standing, changed))
        try:
            async for changes in awatch(
                self._options.spool / "new", *standing,
                stop_event=changed, debounce=GROUPED_FOR_MS, step=50, watch_filter=None, recursive=True,
            ):  # fmt: skip
                self._seen(Path(path) for _, path in changes)
        finally:
            looking.cancel()
            await asyncio.wait([looking])

    def _standing(self) -> dict[Path, tuple[int, int]]:
        """Return the folders that exist, with what tells one from another that takes its place."""
        found = {}
        for folder in self._options.folders():
            with contextlib.suppress(OSError):
                if folder.is_dir():
                    stat = folder.stat()
                    found[folder] = (stat.st_dev, stat.st_ino)
        return found

    async def _standing_otherwise(self, standing: Mapping[Path, tuple[int, int]], changed: asyncio.Event) -> None:
        """Look now and then: a folder that does not exist yet announces nothing.

        It is begun when watching has: `awatch` watches before it waits for the first time. What was written between the
        watch before and this one was announced to nobody.
        """
        self._look_everywhere()
        while standing == self._standing():  # noqa: ASYNC110 -- as above
            await asyncio.sleep(self._options.debounce)
        changed.set()

    def _seen(self, paths: Iterable[Path]) -> None:
        """Remember changed transcripts; anything in the spool is found by looking there.

        A new directory is announced before it is watched, and may hold transcripts by then.
        """
        spool = self._options.spool
        outside = (path for path in paths if spool not in path.parents)
        self._dirty |= {path for path in outside if path.suffix.lower() in SUFFIXES or path.is_dir()}
        self._noticed.set()

    def _look_everywhere(self) -> None:
        """Look into the spool and read the folders as a whole."""
        self._dirty |= self._standing().keys()
        self._noticed.set()

    async def _rescan(self) -> None:
        """Look everywhere: at the start, and from time to time for what no watch announced."""
        self._look_everywhere()
        self._fresh.set()
        await asyncio.sleep(self._options.rescan)


def _admitted(path: Path, roots: Sequence[Path]) -> tuple[Path, str]:
    """Return the real path and why it is refused, empty when it may be read."""
    try:
        real = path.expanduser().resolve()
    except (OSError, RuntimeError) as error:
        return path, str(error)
    if real.suffix.lower() not in SUFFIXES:
        return real, "is not named like a transcript"
    if not any(real.is_relative_to(root) for root in roots):
        return real, "lies outside the directories that transcripts may come from (capture.folders)"
    return real, ""
