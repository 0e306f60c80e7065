"""Which exchanges of a document came before, for whatever sessions there are."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from knowledge_system.extraction.overlap import Mark, Piece, align, digest_of

SHORT = st.tuples(st.sampled_from("abc"), st.sampled_from(["", "ok", "ok, done", "no"]))
SESSIONS = st.lists(SHORT, min_size=1, max_size=12)


class Session:
    """What is remembered of a session, and what was stored of it."""

    def __init__(self, *, certain: bool = True) -> None:
        self.marks: list[Mark] = []
        self.texts: list[str] = []
        self.certain = certain

    def send(self, said: list[tuple[str, str]], times: list[str] | None = None) -> list[int | None]:
        pieces = [Piece(key, answer, at) for (key, answer), at in zip(said, times or [""] * len(said), strict=True)]
        found = align(self.marks, pieces, self._cut_short, certain=self.certain)
        for piece, at in zip(pieces, found, strict=True):
            if at is None:
                number = str(len(self.marks))
                digest = digest_of(piece.answer)
                self.marks.append(Mark(number, piece.key, 0, len(piece.answer), digest, piece.at, bool(piece.at)))
                self.texts.append(piece.answer)
            else:
                self.marks[at] = self.marks[at].grown(piece)
                self.texts[at] = max(self.texts[at], piece.answer, key=len)
        return found

    def _cut_short(self, mark: Mark, piece: Piece) -> bool:
        return self.texts[int(mark.id)].startswith(piece.answer)

    @property
    def said(self) -> list[tuple[str, str]]:
        return [(mark.key, text) for mark, text in zip(self.marks, self.texts, strict=True)]


@given(SESSIONS, st.lists(st.integers(1, 12), max_size=6), st.booleans())
def test_a_growing_session_is_what_was_said_however_often_its_exchanges_repeat(
    said: list[tuple[str, str]],
    sizes: list[int],
    certain: bool,  # noqa: FBT001 -- drawn
) -> None:
    session = Session(certain=certain)
    for size in [*sorted(sizes), len(said)]:
        session.send(said[:size])
    assert session.said == said


@given(st.lists(SHORT, min_size=1, max_size=12), st.data())
def test_timed_exchanges_are_told_apart_in_whatever_pieces_they_come(
    said: list[tuple[str, str]], data: st.DataObject
) -> None:
    times = [f"2026-01-01T00:00:{number:02}.000000Z" for number in range(len(said))]
    session = Session()
    for _ in range(6):
        first = data.draw(st.integers(0, len(said) - 1))
        last = data.draw(st.integers(first + 1, len(said)))
        session.send(said[first:last], times[first:last])
    session.send(said, times)
    texts = dict(zip([mark.at for mark in session.marks], session.said, strict=True))
    assert texts == dict(zip(times, said, strict=True))
    assert len(session.marks) == len(said)


@given(SESSIONS, SESSIONS)
def test_nothing_that_was_said_is_lost(before: list[tuple[str, str]], said: list[tuple[str, str]]) -> None:
    """Each exchange is there afterwards, or one that begins with it, and none stands for two."""
    session = Session()
    session.send(before)
    found = session.send(said)
    known = [at for at in found if at is not None]
    assert len(known) == len(set(known))
    for (key, answer), at in zip(said, found, strict=True):
        if at is not None:
            assert session.said[at][0] == key
            assert session.said[at][1].startswith(answer)
    for key, answer in before:
        assert any(one == key and text.startswith(answer) for one, text in session.said)


def test_marks_are_kept_as_json() -> None:
    mark = Mark("x1", "x0", 2, 3, digest_of("abc"), "2026-01-01T00:00:00.000000Z", given=True)
    assert Mark.of(mark.row()) == mark
