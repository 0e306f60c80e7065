"""The derived index: points in, ranked points out. It can be rebuilt from the truth at any time."""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, Protocol, overload

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Iterator

    from knowledge_system.domain.embedding import EmbeddingSpace, Vector

_NAMESPACE = uuid.UUID("6f2d8a52-5b0e-5f59-9a51-0d7f4a6b1c11")
_OWNER = re.compile(r"[kx][0-9a-f]{24}")
_KINDS = "xk"
_ORDINALS = 1 << 16
_LOW = (1 << 62) - 1
_TELLING = 8
"""Version of the ids that tell their place."""
KEY_BYTES = 14
_FOREIGN = bytes(KEY_BYTES + 1)
_AS_TOLD: Mapping[int, str] = {}


class PointPlace(NamedTuple):
    """Which passage of which owner a point is."""

    owner_id: str
    ordinal: int
    view: str


def point_id(place: PointPlace) -> uuid.UUID:
    """Return the id of a point; the same passage always has the same id.

    It tells the place itself (a UUID of version 8, RFC 9562) for owners and views as this system makes them: ids of `x`
    or `k` and 24 hexadecimal digits, ordinal 0 the whole text and the others its windows. So a query that finds
    hundreds of points reads no payload. Any other place is hashed (version 5).
    """
    owner, ordinal = place.owner_id, place.ordinal
    if ordinal >= _ORDINALS or place.view != view_of(ordinal) or not _OWNER.fullmatch(owner):
        return uuid.uuid5(_NAMESPACE, f"{owner}/{ordinal}")
    told = (int(owner[1:], 16) << 17) | (_KINDS.index(owner[0]) << 16) | ordinal
    return uuid.UUID(int=(told >> 74) << 80 | _TELLING << 76 | ((told >> 62) & 0xFFF) << 64 | 2 << 62 | (told & _LOW))


def place_of(identity: uuid.UUID) -> PointPlace | None:
    """Invert `point_id`; None for the id of a place that is hashed."""
    number = identity.int
    if number >> 76 & 0xF != _TELLING:
        return None
    told = (number >> 80) << 74 | (number >> 64 & 0xFFF) << 62 | (number & _LOW)
    ordinal = told & (_ORDINALS - 1)
    return PointPlace(f"{_KINDS[told >> 16 & 1]}{told >> 17:024x}", ordinal, "window" if ordinal else "whole")


def key_of(owner: str) -> bytes:
    """Return what tells this owner from others and sorts as its id does among ids of one kind.

    Of owners as this system makes them it is the beginning, of `KEY_BYTES`, of the ids of their points; others have
    longer ones.
    """
    if _OWNER.fullmatch(owner):
        return point_id(PointPlace(owner, 0, view_of(0))).bytes[:KEY_BYTES]
    return _FOREIGN + owner.encode("utf-8", "surrogatepass")


def owner_of(key: bytes) -> str:
    """Invert `key_of`."""
    if len(key) != KEY_BYTES:
        return key[len(_FOREIGN) :].decode("utf-8", "surrogatepass")
    number = int.from_bytes(key) << 16
    told = (number >> 80) << 74 | (number >> 64 & 0xFFF) << 62 | (number & _LOW)
    return f"{_KINDS[told >> 16 & 1]}{told >> 17:024x}"


def untold(ids: bytes) -> list[int]:
    """Return the positions of those of the ids, one after the other, that do not tell their place."""
    return [position for position, byte in enumerate(ids[6::16]) if byte >> 4 != _TELLING]


def view_of(ordinal: int) -> str:
    """Return the view of a passage as this system makes them: 0 is the whole text, the others are its windows."""
    return "window" if ordinal else "whole"


@dataclass(frozen=True, slots=True)
class IndexPoint:
    """One passage of an owner (item or exchange).

    `vector` is None while the passage waits for its embedding; `words` is the text for BM25, empty for passages that
    take no part in it. `payload` holds the filterable facts of the owner (see `FILTER_FIELDS`).
    """

    owner_id: str
    ordinal: int
    view: str
    vector: Vector | None
    words: str = ""
    payload: Mapping[str, str | float | bool] = field(default_factory=dict)

    @property
    def id(self) -> str:
        """Deterministic point id (UUID): writing the same passage twice is writing it once."""
        return str(point_id(PointPlace(self.owner_id, self.ordinal, self.view)))


FILTER_FIELDS: Mapping[str, str] = {
    "owner_id": "keyword",
    "kind": "keyword",
    "type": "keyword",
    "project": "keyword",
    "view": "keyword",
    "status": "keyword",
    "intent": "keyword",
    "created": "float",
}
"""Payload fields with an index: `created` is epoch seconds of the time of the exchange or item."""


@dataclass(frozen=True, slots=True)
class IndexFilter:
    """All conditions must hold; an empty tuple does not restrict. Times are epoch seconds, both ends inclusive."""

    kinds: tuple[str, ...] = ()
    types: tuple[str, ...] = ()
    projects: tuple[str, ...] = ()
    views: tuple[str, ...] = ()
    statuses: tuple[str, ...] = ()
    intents: tuple[str, ...] = ()
    created_from: float | None = None
    created_to: float | None = None


@dataclass(frozen=True, slots=True)
class IndexQuery:
    """One arm of a search: dense when `vector` is given, BM25 over `words` otherwise."""

    limit: int
    vector: Vector | None = None
    words: str = ""
    where: IndexFilter = field(default_factory=IndexFilter)


class IndexHit(NamedTuple):
    """A point found: cosine similarity for a dense query, BM25 score for words."""

    owner_id: str
    ordinal: int
    view: str
    score: float


class IndexHits(Sequence[IndexHit]):
    """What an index found of a query, best first; equal scores in the order of owner and ordinal.

    A search finds hundreds and shows ten. So there are columns to calculate with, one value a hit, where equal scores
    may come in any order: `keys` tells owners apart (`owner_of`), `views` has the view of those, by place, whose
    ordinal does not tell it. Hits are made, and put in order, where somebody reads them.
    """

    __slots__ = ("_hits", "keys", "ordinals", "scores", "views")

    def __init__(
        self,
        keys: Sequence[bytes],
        ordinals: Sequence[int],
        scores: Sequence[float],
        views: Mapping[int, str] = _AS_TOLD,
    ) -> None:
        """Take the columns, best scores first."""
        self.keys = keys
        self.ordinals = ordinals
        self.scores = scores
        self.views = views
        self._hits: list[IndexHit] | None = None

    @classmethod
    def of(cls, hits: Iterable[IndexHit] = ()) -> IndexHits:
        """Return hits as columns."""
        rows = sorted(hits, key=_in_order)
        ordinals, scores = [one.ordinal for one in rows], [one.score for one in rows]
        views = {place: one.view for place, one in enumerate(rows) if one.view != view_of(one.ordinal)}
        return cls([key_of(one.owner_id) for one in rows], ordinals, scores, views)

    def __len__(self) -> int:
        return len(self.keys)

    @overload
    def __getitem__(self, place: int) -> IndexHit: ...
    @overload
    def __getitem__(self, place: slice) -> list[IndexHit]: ...
    def __getitem__(self, place: int | slice) -> IndexHit | list[IndexHit]:
        """Return a hit, or those of a slice."""
        return self._made()[place]

    def __iter__(self) -> Iterator[IndexHit]:
        return iter(self._made())

    def _made(self) -> list[IndexHit]:
        if self._hits is None:
            views = [self.views.get(place, view_of(ordinal)) for place, ordinal in enumerate(self.ordinals)]
            self._hits = sorted(
                map(IndexHit, map(owner_of, self.keys), self.ordinals, views, self.scores), key=_in_order
            )
        return self._hits

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and self._made() == list(other)

    def __hash__(self) -> int:
        """Raise TypeError: hits are compared, never looked up."""
        raise TypeError("hits have no hash")

    def __repr__(self) -> str:
        return f"IndexHits.of({self._made()!r})"


def _in_order(hit: IndexHit) -> tuple[float, str, int]:
    return -hit.score, hit.owner_id, hit.ordinal


@dataclass(frozen=True, slots=True)
class IndexStatus:
    """What the index holds. `healthy` is False when it had to be, or has to be, rebuilt from the truth."""

    backend: str
    space: EmbeddingSpace
    points: int
    vectors: int
    indexed_vectors: int
    bytes_on_disk: int
    healthy: bool = True
    detail: str = ""


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """Result of checking the stored files and contents in a child process."""

    ok: bool
    points: int
    problems: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class OptimizeReport:
    """Result of optimising: whether the new copy passed its recall canary and was swapped in."""

    swapped: bool
    points: int
    recall: float
    seconds: float
    detail: str = ""


@dataclass(frozen=True, slots=True)
class IndexServerStatus:
    """How the connection to the server of an index is.

    `state`: `up`, `recovering` while the index is made equal to the truth, or `away`. `outages` counts how often the
    server was lost; `reason` says why it is away, or what the last trouble was.
    """

    space: str
    url: str
    state: str
    outages: int
    reason: str


class VectorIndex(Protocol):
    """Dense and BM25 search over points of one embedding space."""

    async def apply(self, points: Sequence[IndexPoint], drop_owners: Sequence[str] = ()) -> None:
        """Replace every point of `drop_owners` and upsert `points`. Idempotent; durable after the next `flush`.

        An owner of both is found all the while.
        """
        ...

    async def query(self, queries: Sequence[IndexQuery]) -> list[IndexHits]:
        """Answer each query, best first. Points without a vector are found by words only."""
        ...

    async def owners(self, after: str = "", limit: int = 1000) -> list[tuple[str, int]]:
        """Return `(owner_id, points)` in ascending order of id, after `after`: for comparing with the truth."""
        ...

    async def status(self) -> IndexStatus:
        """Return counts and health."""
        ...

    async def flush(self) -> None:
        """Make everything applied so far durable against power loss and refresh the checksums."""
        ...

    async def close(self) -> None:
        """Flush and release the files. Calling it twice is fine."""
        ...


class IndexMaintenance(Protocol):
    """Slow work on the index that never blocks searching: done on a copy in a child process, then swapped in."""

    async def optimize(self) -> OptimizeReport:
        """Build or improve the HNSW graph by size; swap only when recall against exact search holds."""
        ...

    async def verify(self) -> VerifyReport:
        """Check checksums and load a copy in a child process; a crash there is a report, not a crash here."""
        ...

    async def rebuild(self, points: AsyncIterator[Sequence[IndexPoint]]) -> OptimizeReport:
        """Build a new index beside the old one from `points`, verify it, and swap it in."""
        ...


class OwnedIndex(VectorIndex, IndexMaintenance, Protocol):
    """An index as its owner has it: searched, written and maintained."""
