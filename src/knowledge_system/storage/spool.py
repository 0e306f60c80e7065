"""The spool on disk: hooks write, the owner of the data directory takes.

::

    spool/new/NAME.json      complete notices: written beside as NAME.part, then renamed
    spool/taken/NAME.json    taken by the owner, removed when what they announce is in the truth
    spool/refused/NAME.json  unreadable ones, kept for a look, the oldest removed

A notice that only says that a transcript has grown is named after the transcript, so that a thousand of them are one
file: the spool stays small however long nobody drains it. `interfaces/hooks` writes the same layout with nothing but
the standard library.
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import json
import os
import time
from collections import deque
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from knowledge_system.domain.capture import Notice, SpoolDepth
from knowledge_system.domain.clock import from_stored

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

VERSION = 1
MAX_NOTICE = 16 * 1024 * 1024
"""Bytes of one notice; hooks write less, whatever is larger did not come from one."""
REFUSED_KEPT = 100
LISTED = 16_384
"""Notices whose names are kept from one look at the directory, 2 to 4 MB: looking at all of 200,000 for each batch took
2.7 s of every batch (2.2 s here for one look), now it is every sixty-fourth that looks."""
ABANDONED = 60.0
"""Seconds after which an unfinished file is nobody's."""


class DirectorySpool:
    """The spool in one directory, created when it is missing."""

    def __init__(self, root: Path) -> None:
        self._new, self._taken, self._refused = root / "new", root / "taken", root / "refused"
        for folder in (root, self._new, self._taken, self._refused):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._listed: deque[str] = deque()
        for left in (*root.glob("*.json"), *self._new.glob("*.part")):  # of a process that was killed
            if time.time() - left.stat().st_mtime > ABANDONED:
                left.unlink(missing_ok=True)

    async def take(self, limit: int) -> list[Notice]:
        """Return the oldest notices; those taken before and not finished come first."""
        return await asyncio.to_thread(self._take, limit)

    async def done(self, notices: Sequence[Notice]) -> None:
        """Remove notices that have been dealt with."""
        await asyncio.to_thread(self._remove, [notice.name for notice in notices])

    async def depth(self) -> SpoolDepth:
        """Return how much waits."""
        return await depth_of(self._new.parent)

    def _take(self, limit: int) -> list[Notice]:
        begun = [self._taken / name for name in _oldest(self._taken, limit)]
        taken = (self._read(path) for path in (*begun, *self._begin(limit - len(begun))))
        return [notice for notice in taken if notice is not None]

    def _begin(self, limit: int) -> Iterator[Path]:
        """Move up to `limit` of the oldest notices to those taken, yielding each.

        What comes after a look at the directory is younger than all that it found, so it waits for the next one.
        """
        while limit > 0 and (self._listed or self._look()):
            name = self._listed.popleft()
            with contextlib.suppress(FileNotFoundError):  # somebody else removed it
                (self._new / name).replace(self._taken / name)
                limit -= 1
                yield self._taken / name

    def _look(self) -> bool:
        self._listed.extend(_oldest(self._new, LISTED))
        return bool(self._listed)

    def _read(self, path: Path) -> Notice | None:
        """Return the notice in `path`, None after putting an unreadable one aside."""
        try:
            with path.open("rb") as file:
                return _notice(path.name, json.loads(file.read(MAX_NOTICE)))  # cut off, it is no JSON any more
        except (ValueError, KeyError, TypeError, RecursionError):
            path.replace(self._refused / path.name)
            for old in _oldest(self._refused)[:-REFUSED_KEPT]:
                (self._refused / old).unlink(missing_ok=True)
            return None

    def _remove(self, names: Iterable[str]) -> None:
        for name in names:
            (self._taken / name).unlink(missing_ok=True)


async def depth_of(root: Path) -> SpoolDepth:
    """Return how much waits in the spool below `root`, which need not exist; looks at every notice, changes nothing."""
    return await asyncio.to_thread(_depth, root)


def _depth(root: Path) -> SpoolDepth:
    found = [fact for name in ("new", "taken") for _, *fact in _notices(root / name)]
    oldest = datetime.fromtimestamp(min(found)[0] / 1e9, UTC) if found else None
    refused = sum(1 for _ in _notices(root / "refused"))
    return SpoolDepth(len(found), sum(size for _, size in found), oldest, refused)


def _notices(folder: Path) -> Iterator[tuple[str, int, int]]:
    """Yield name, time in nanoseconds and size of every notice of a folder; none where there is no folder."""
    with contextlib.suppress(FileNotFoundError), os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.endswith(".json"):
                with contextlib.suppress(FileNotFoundError):
                    stat = entry.stat()
                    yield entry.name, stat.st_mtime_ns, stat.st_size


def _oldest(folder: Path, limit: int | None = None) -> list[str]:
    """Return the names of the `limit` oldest notices of a folder, all without a limit, oldest first."""
    found = ((moment, name) for name, moment, _ in _notices(folder))
    return [name for _, name in (sorted(found) if limit is None else heapq.nsmallest(limit, found))]


def _notice(name: str, raw: dict[str, Any]) -> Notice:
    if raw["v"] != VERSION:
        raise ValueError(f"version {raw['v']} of the spool")
    transcript, body = raw.get("transcript"), raw.get("body")
    if not isinstance(body, dict | None) or not isinstance(transcript, str | None):
        raise TypeError("a notice of another shape")
    return Notice(
        name=name,
        at=from_stored(raw["at"]),
        agent=str(raw["agent"]),
        event=str(raw["event"]),
        session_id=str(raw["session_id"]),
        cwd=str(raw.get("cwd", "")),
        transcript=Path(transcript) if transcript else None,
        body=body,
    )
