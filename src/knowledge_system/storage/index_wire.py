"""What a service and the process that holds its index say to each other.

The tails of messages are raw numbers: vectors as float32, ids of points, scores as float64.
"""

from __future__ import annotations

from array import array
from enum import IntEnum
from typing import TYPE_CHECKING, Any, Final

from knowledge_system.domain.index import IndexFilter, IndexPoint, IndexQuery
from knowledge_system.processes.wire import Control, Message
from knowledge_system.storage.index_found import POINT_BYTES, FoundPoints

if TYPE_CHECKING:
    from collections.abc import Sequence

_VECTOR: Final = 4
_EVERYTHING: Final = IndexFilter()


class Kind(IntEnum):
    """What a message asks for."""

    OPEN = 1
    APPLY = 2
    QUERY = 3
    OWNERS = 4
    STATUS = 5
    FLUSH = 6
    CLOSE = 7
    OPTIMIZE = 8
    VERIFY = 9
    REBUILD = 10
    PIECE = 11
    """More points for a rebuild that is under way; answered when they are taken."""
    END = 12
    """The points of a rebuild are complete; has the id of the rebuild, no answer of its own."""


def queries_message(request: int, queries: Sequence[IndexQuery]) -> Message:
    """Return a request to search."""
    head = [(one.limit, one.words, -1 if one.vector is None else len(one.vector), _where(one.where)) for one in queries]
    return Message(request, Kind.QUERY, head, b"".join(one.vector for one in queries if one.vector is not None))


def queries_of(message: Message) -> list[IndexQuery]:
    """Invert `queries_message`."""
    vectors = _Vectors(message.tail)
    return [
        IndexQuery(limit, vectors.take(size), words, IndexFilter() if where is None else _filter(where))
        for limit, words, size, where in message.head
    ]


def found_message(request: int, answers: Sequence[FoundPoints]) -> Message:
    """Return the answer to a search."""
    head = [(len(one.scores), [(position, *place) for position, place in one.told]) for one in answers]
    return Message(request, Control.ANSWER, head, b"".join(one.packed() for one in answers))


def found_of(message: Message) -> list[FoundPoints]:
    """Invert `found_message`."""
    answers, start = [], 0
    for size, told in message.head:
        end = start + size * POINT_BYTES
        answers.append(FoundPoints.unpacked(message.tail[start:end], told))
        start = end
    return answers


def points_message(request: int, kind: Kind, points: Sequence[IndexPoint], more: object) -> Message:
    """Return a message with points; `more` are the owners to drop, or the rebuild that they are for."""
    rows = [
        (
            one.owner_id,
            one.ordinal,
            one.view,
            -1 if one.vector is None else len(one.vector),
            one.words,
            dict(one.payload),
        )
        for one in points
    ]
    return Message(request, kind, (more, rows), b"".join(one.vector for one in points if one.vector is not None))


def points_of(message: Message) -> tuple[Any, list[IndexPoint]]:
    """Invert `points_message`: what `more` was, and the points."""
    more, rows = message.head
    vectors = _Vectors(message.tail)
    return more, [
        IndexPoint(owner, ordinal, view, vectors.take(size), words, payload)
        for owner, ordinal, view, size, words, payload in rows
    ]


class _Vectors:
    """Vectors one after the other in one block of bytes."""

    def __init__(self, content: bytes) -> None:
        self._content = memoryview(content)
        self._place = 0

    def take(self, size: int) -> array[float] | None:
        """Return the next `size` values, None for a size below 0."""
        if size < 0:
            return None
        start, self._place = self._place, self._place + size * _VECTOR
        return array("f", self._content[start : self._place].tobytes())


def _where(where: IndexFilter) -> tuple[object, ...] | None:
    if where == _EVERYTHING:
        return None
    lists = (where.kinds, where.types, where.projects, where.views, where.statuses, where.intents)
    return (*lists, where.created_from, where.created_to)


def _filter(stored: Sequence[Any]) -> IndexFilter:
    *lists, created_from, created_to = stored
    kinds, types, projects, views, statuses, intents = map(tuple, lists)
    return IndexFilter(kinds, types, projects, views, statuses, intents, created_from, created_to)
