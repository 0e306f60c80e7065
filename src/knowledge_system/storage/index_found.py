"""What the engine found of a query: ids and scores, which become hits only where somebody reads them.

A search finds hundreds of points, and the process of a service's index answers hundreds of searches a second: so it
hands the ids on as they are, and they are taken apart all at once, at a tenth of what it costs one by one.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from knowledge_system.domain.index import IndexHit, PointPlace

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

ID_BYTES: Final = 16
POINT_BYTES: Final = ID_BYTES + 8
"""Of a point as it travels: its id and its score."""
OWNER_DIGITS: Final = 24
_OWNER: Final = np.dtype([("high", ">u8"), ("low", ">u4")])
_VIEWS: Final = ("whole", "window")


@dataclass(frozen=True, slots=True)
class FoundPoints:
    """Points, best first: `ids` has 16 bytes each, `scores` one value each.

    `told` has the place of every point whose id does not tell it, by position: see `domain.index.point_id`.
    """

    ids: bytes
    scores: array[float]
    told: Sequence[tuple[int, PointPlace]] = ()

    def hits(self) -> list[IndexHit]:
        """Return the hits, best first; equal scores in the order of owner and ordinal."""
        if not self.scores:
            return []
        hits = list(map(IndexHit, *_places(self.ids), self.scores))
        for position, place in self.told:
            hits[position] = IndexHit(*place, self.scores[position])
        return self._in_order(hits)

    def _in_order(self, hits: list[IndexHit]) -> list[IndexHit]:
        """Sort the runs of equal scores; a hit begins with its owner and its ordinal."""
        scores = np.frombuffer(self.scores)
        start = end = 0
        for tie in np.flatnonzero(scores[1:] == scores[:-1]).tolist():
            if tie >= end:
                hits[start:end] = sorted(hits[start:end])
                start = tie
            end = tie + 2
        hits[start:end] = sorted(hits[start:end])
        return hits

    def packed(self) -> bytes:
        """Return ids and scores as they travel, 24 bytes a point."""
        return self.ids + self.scores.tobytes()

    @classmethod
    def unpacked(cls, packed: bytes, told: Sequence[Sequence[int | str]]) -> FoundPoints:
        """Invert `packed`; each of `told` is a position, an owner, an ordinal and a view."""
        size = len(packed) // POINT_BYTES
        scores = array("d", packed[size * ID_BYTES :])
        places = [
            (int(position), PointPlace(str(owner), int(ordinal), str(view))) for position, owner, ordinal, view in told
        ]
        return cls(packed[: size * ID_BYTES], scores, places)


NOTHING: Final = FoundPoints(b"", array("d"))


def _places(ids: bytes) -> tuple[list[str], list[int], list[str]]:
    """Return owners, ordinals and views that ids tell: `domain.index.place_of` for many, nonsense where it has None."""
    high, low = np.frombuffer(ids, ">u8").astype(np.uint64).reshape(-1, 2).T
    owners = np.empty(len(high), _OWNER)
    # Behind version and variant the id has 122 bits: 96 of the owner begin at the ninth, one of its kind, the ordinal.
    owners["high"] = (high >> 16) << 25 | (high & 0xFFF) << 13 | (low & (2**62 - 1)) >> 49
    owners["low"] = low >> 17 & 0xFFFFFFFF
    digits = owners.tobytes().hex()
    kinds = _kinds(low)
    ordinals = (low & 0xFFFF).tolist()
    names = [
        kind + digits[start : start + OWNER_DIGITS]
        for kind, start in zip(kinds, range(0, len(digits), OWNER_DIGITS), strict=True)
    ]
    return names, ordinals, [_VIEWS[ordinal > 0] for ordinal in ordinals]


def _kinds(low: NDArray[np.uint64]) -> list[str]:
    return ["xk"[bit] for bit in (low >> 16 & 1).tolist()]
