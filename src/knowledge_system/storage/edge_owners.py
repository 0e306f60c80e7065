"""Which owners have how many points, for comparing the index with the truth.

The engine can only list all values of a field at once, holding the interpreter lock (0.6 s for 15,000 owners), so the
list is read in pieces and kept until the next write.
"""

from __future__ import annotations

import bisect
from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from qdrant_edge import Record

    from knowledge_system.storage.edge_engine import Shard
    from knowledge_system.storage.edge_live import Live


class Owners:
    """The owners of the live shard in ascending order, read again after writes.

    A walk from page to page sees one state, that of its beginning, however much is written meanwhile.
    """

    def __init__(self, live: Live) -> None:
        self._live = live
        self._version = -1
        self._counts: list[tuple[str, int]] = []
        self._last = ""

    async def page(self, after: str, limit: int) -> list[tuple[str, int]]:
        """Return at most `limit` owners with their number of points, those after `after`."""
        self._live.require_open()
        continued = bool(after) and after == self._last
        if self._version != self._live.version and not continued:
            while not await self._read():
                pass
        start = bisect.bisect_right(self._counts, (after, float("inf")))
        page = self._counts[start : start + limit]
        self._last = page[-1][0] if page else ""
        return page

    async def _read(self) -> bool:
        """Read the owners; False when the shard was exchanged meanwhile. Writes meanwhile may or may not be seen."""
        live = self._live
        shard, version, found = live.shard, live.version, Counter[str]()
        pieces = shard.scroll()
        while (records := await live.on_engine(self._next, shard, pieces)) is not None:
            found.update(str((record.payload or {})["owner_id"]) for record in records)
            if live.shard is not shard:
                return False
        self._version, self._counts = version, sorted(found.items())
        return True

    def _next(self, shard: Shard, pieces: Iterator[list[Record]]) -> list[Record] | None:
        """Run on the engine thread, where a shard that is still the live one is not closed yet."""
        return next(pieces, None) if self._live.shard is shard else []
