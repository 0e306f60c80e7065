"""Which exchanges of a document came before: the same session sent again, longer, in windows, with its end grown.

A client sends what is new, or all of a session again, or its last so many exchanges; nothing in the document says
which. What tells is the text: an exchange came before when its prompt is that of an earlier one, the answer is the
same or goes on where that one ended, their own times do not contradict each other, and its neighbours agree. In doubt
an exchange is new: one stored twice can be put up with, one that is lost cannot.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

_DIGITS = 16
_LEAST = 2
"""Exchanges that have to agree where one alone may be chance: `continue`, answered by `done`, is said twice a day."""


@dataclass(frozen=True, slots=True)
class Mark:
    """What is remembered of an exchange that arrived.

    `key` is its prompt: the id of the prompt's first occurrence in the session. `length` and `digest` are those of the
    answer as stored. `at` is its time as stored, `given` whether the client said so.
    """

    id: str
    key: str
    occurrence: int
    length: int
    digest: str
    at: str
    given: bool

    def row(self) -> list[str | int]:
        """Return it as JSON keeps it."""
        return [self.id, self.key, self.occurrence, self.length, self.digest, self.at, int(self.given)]

    @classmethod
    def of(cls, row: Sequence[str | int]) -> Mark:
        """Invert `row`."""
        identity, key, occurrence, length, digest, at, given = row
        return cls(str(identity), str(key), int(occurrence), int(length), str(digest), str(at), bool(given))

    def grown(self, piece: Piece) -> Mark:
        """Return the mark of this exchange after it came again as `piece`."""
        at, given = (piece.at, True) if piece.at else (self.at, self.given)
        if len(piece.answer) <= self.length:
            return replace(self, at=at, given=given)
        return replace(self, length=len(piece.answer), digest=digest_of(piece.answer), at=at, given=given)


@dataclass(frozen=True, slots=True)
class Piece:
    """An exchange of a document, redacted: its prompt as in `Mark.key`, and its own time as stored, empty for none."""

    key: str
    answer: str
    at: str


def digest_of(text: str) -> str:
    """Return what answers are compared by."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:_DIGITS]


def align(
    marks: Sequence[Mark], pieces: Sequence[Piece], cut_short: Callable[[Mark, Piece], bool], *, certain: bool
) -> list[int | None]:
    """Return for each piece the position of its mark, None for one that is new; no mark is given twice.

    `cut_short` tells whether the stored answer of a mark begins with that of a piece, which is shorter. `certain` says
    that the document is of the session of the marks; without it one that is like it in part may be of another.
    """
    alignment = _Alignment(marks, pieces, cut_short)
    fixed = alignment.timed()
    found = alignment.continued(fixed) or (alignment.told_again(fixed) if certain else None) or fixed
    return [one if at is None else at for one, at in zip(found, fixed, strict=True)]


def longer(marks: Iterable[Mark], pieces: Iterable[Piece]) -> set[str]:
    """Return the ids of the marks that `cut_short` may be asked about."""
    shortest: dict[str, int] = {}
    for piece in pieces:
        shortest[piece.key] = min(len(piece.answer), shortest.get(piece.key, len(piece.answer)))
    return {mark.id for mark in marks if mark.length > shortest.get(mark.key, mark.length)}


def goes_on(mark: Mark, piece: Piece) -> bool:
    """Tell at a glance whether a piece may be the mark: for looking through many sessions."""
    if mark.key != piece.key or mark.length > len(piece.answer):
        return mark.key == piece.key
    return digest_of(piece.answer[: mark.length]) == mark.digest


class _Alignment:
    def __init__(
        self, marks: Sequence[Mark], pieces: Sequence[Piece], cut_short: Callable[[Mark, Piece], bool]
    ) -> None:
        self._marks = marks
        self._pieces = pieces
        self._cut_short = cut_short
        self._whole = [digest_of(piece.answer) for piece in pieces]
        self._beginnings: dict[tuple[int, int], str] = {}

    def timed(self) -> list[int | None]:
        """Return the pieces with a time of their own that an exchange of the same prompt had: wherever they stand."""
        places: dict[tuple[str, str], list[int]] = {}
        for at, mark in enumerate(self._marks):
            if mark.given:
                places.setdefault((mark.key, mark.at), []).append(at)
        found: list[int | None] = []
        for number, piece in enumerate(self._pieces):
            waiting = places.get((piece.key, piece.at), []) if piece.at else []
            found.append(self._taken(number, waiting))
        return found

    def _taken(self, number: int, waiting: list[int]) -> int | None:
        """Take the place of the piece out of those `waiting`: one with its very answer before one that it goes on."""
        for agrees in (self._equal, self._agree):
            for at in waiting:
                if agrees(at, number):
                    waiting.remove(at)
                    return at
        return None

    def continued(self, fixed: Sequence[int | None]) -> list[int | None] | None:
        """Return the longest run in which the document and what came before agree without a gap.

        It begins where the document does, and ends where either ends.
        """
        keys, wanted = [mark.key for mark in self._marks], [piece.key for piece in self._pieces]
        taken = {at for at in fixed if at is not None}
        for start in range(len(keys)):
            if keys[start] != wanted[0]:
                continue
            count = min(len(wanted), len(keys) - start)
            if keys[start : start + count] == wanted[:count] and self._run(start, count, fixed, taken):
                return [*range(start, start + count), *[None] * (len(wanted) - count)]
        return None

    def _run(self, start: int, count: int, fixed: Sequence[int | None], taken: set[int]) -> bool:
        for number in range(count):
            at = start + number
            if fixed[number] != at and (fixed[number] is not None or at in taken or not self._follows(at, number)):
                return False
        if count >= _LEAST or fixed[0] is not None:
            return True
        inside = 0 < start < len(self._marks) - 1  # the first alone is the session as it began, sent late
        return not inside and bool(self._pieces[0].answer or not self._marks[start].length)

    def _follows(self, at: int, number: int) -> bool:
        """Tell whether a piece in a run is the mark; the open end of a session may have got a later time as it grew."""
        if self._agree(at, number):
            return True
        last = at == len(self._marks) - 1 and (number > 0 or at == 0)
        mark = self._marks[at]
        return last and bool(mark.length) and len(self._pieces[number].answer) > mark.length and self._same(at, number)

    def told_again(self, fixed: Sequence[int | None]) -> list[int | None] | None:
        """Return what came before of a whole session told again, with a piece changed or left out on the way.

        That is a document that begins as the session does, and half of which is known.
        """
        places: dict[str, list[int]] = {}
        taken = {at for at in fixed if at is not None}
        for at, mark in enumerate(self._marks):
            if at not in taken:
                places.setdefault(mark.key, []).append(at)
        found = [
            self._taken(number, places.get(piece.key, [])) if fixed[number] is None else fixed[number]
            for number, piece in enumerate(self._pieces)
        ]
        known = sum(at is not None for at in found)
        enough = max(_LEAST, (min(len(self._marks), len(self._pieces)) + 1) // 2)
        return found if found[0] == 0 and known >= enough else None

    def _agree(self, at: int, number: int) -> bool:
        mark, piece = self._marks[at], self._pieces[number]
        contradict = mark.given and piece.at and mark.at != piece.at
        return mark.key == piece.key and not contradict and self._same(at, number)

    def _equal(self, at: int, number: int) -> bool:
        mark = self._marks[at]
        return self._agree(at, number) and mark.digest == self._whole[number]

    def _same(self, at: int, number: int) -> bool:
        """Tell whether one answer is the other, or its beginning."""
        mark, piece = self._marks[at], self._pieces[number]
        if mark.length == len(piece.answer):
            return mark.digest == self._whole[number]
        if mark.length > len(piece.answer):
            return self._cut_short(mark, piece)
        place = (number, mark.length)
        if place not in self._beginnings:
            self._beginnings[place] = digest_of(piece.answer[: mark.length])
        return self._beginnings[place] == mark.digest
