"""What the engine found of a query: ids and scores, which become hits only where somebody reads them.

A search finds hundreds of points, and the process of a service's index answers hundreds of searches a second: so it
hands the ids on as they are. The beginning of an id tells the owner, its end the ordinal, and most are read no further.
"""

from __future__ import annotations

import struct
from array import array
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from knowledge_system.domain.index import KEY_BYTES, IndexHits, PointPlace, key_of, view_of

if TYPE_CHECKING:
    from collections.abc import Sequence

ID_BYTES: Final = 16
POINT_BYTES: Final = ID_BYTES + 8
"""Of a point as it travels: its id and its score."""
_PASSAGE: Final = struct.Struct(f">{KEY_BYTES}sH")


@dataclass(frozen=True, slots=True)
class FoundPoints:
    """Points, best first: `ids` has 16 bytes each, `scores` one value each.

    `told` has the place of every point whose id does not tell it, by position: see `domain.index.point_id`.
    """

    ids: bytes
    scores: array[float]
    told: Sequence[tuple[int, PointPlace]] = ()

    def hits(self) -> IndexHits:
        """Return the hits, best first."""
        passages = list(_PASSAGE.iter_unpack(self.ids))
        keys, ordinals = [key for key, _ in passages], [ordinal for _, ordinal in passages]
        views = {}
        for position, (owner, ordinal, view) in self.told:
            keys[position], ordinals[position] = key_of(owner), ordinal
            if view != view_of(ordinal):
                views[position] = view
        return IndexHits(keys, ordinals, self.scores, views)

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
