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
import json
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from knowledge_system.domain.capture import Notice, SpoolDepth
from knowledge_system.domain.clock import from_stored

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

VERSION = 1
MAX_NOTICE = 16 * 1024 * 1024
"""Bytes of one notice; hooks write less, whatever is larger did not come from one."""
REFUSED_KEPT = 100
ABANDONED = 60.0
"""Seconds after which an unfinished file is nobody's."""


class DirectorySpool:
    """The spool in one directory, created when it is missing."""

    def __init__(self, root: Path) -> None:
        self._new, self._taken, self._refused = root / "new", root / "taken", root / "refused"
        for folder in (root, self._new, self._taken, self._refused):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
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
        return await asyncio.to_thread(self._depth)

    def _take(self, limit: int) -> list[Notice]:
        for path in _oldest(self._new)[: max(0, limit - len(_oldest(self._taken)))]:
            with contextlib.suppress(FileNotFoundError):  # the hook has just replaced it by a newer one
                path.replace(self._taken / path.name)
        taken = (self._read(path) for path in _oldest(self._taken)[:limit])
        return [notice for notice in taken if notice is not None]

    def _read(self, path: Path) -> Notice | None:
        """Return the notice in `path`, None after putting an unreadable one aside."""
        try:
            with path.open("rb") as file:
                return _notice(path.name, json.loads(file.read(MAX_NOTICE)))  # cut off, it is no JSON any more
        except (ValueError, KeyError, TypeError, RecursionError):
            path.replace(self._refused / path.name)
            for old in _oldest(self._refused)[:-REFUSED_KEPT]:
                old.unlink(missing_ok=True)
            return None

    def _remove(self, names: Iterable[str]) -> None:
        for name in names:
            (self._taken / name).unlink(missing_ok=True)

    def _depth(self) -> SpoolDepth:
        sizes: list[tuple[float, int]] = []
        for path in (*self._new.glob("*.json"), *self._taken.glob("*.json")):
            with contextlib.suppress(FileNotFoundError):
                found = path.stat()
                sizes.append((found.st_mtime, found.st_size))
        oldest = datetime.fromtimestamp(min(sizes)[0], UTC) if sizes else None
        return SpoolDepth(len(sizes), sum(size for _, size in sizes), oldest, len(_oldest(self._refused)))


def _oldest(folder: Path) -> list[Path]:
    """Return the notices of a folder, oldest first."""
    found: list[tuple[int, str, Path]] = []
    for path in folder.glob("*.json"):
        with contextlib.suppress(FileNotFoundError):
            found.append((path.stat().st_mtime_ns, path.name, path))
    return [path for *_, path in sorted(found)]


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
