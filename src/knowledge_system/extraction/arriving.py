"""Exchanges that arrive by themselves, without a file: handed over by a hook or over HTTP, stored exactly once.

Whoever sends them may send what is new, a session again with more at its end, or overlapping windows of it: `overlap`
finds what came before. What came is remembered with the source, in the transaction that stores it; of two processes
that take documents of one session at the same time the slower one begins again.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from knowledge_system.domain.clock import from_stored, to_stored
from knowledge_system.domain.errors import Overtaken, UsageError
from knowledge_system.domain.events import ExchangesIngested
from knowledge_system.domain.sessions import SkippedFile, SourceState
from knowledge_system.domain.truth import IngestBatch, SavedExchanges
from knowledge_system.extraction.overlap import Mark, Piece, align, digest_of, goes_on, longer

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from datetime import datetime
    from pathlib import Path

    from knowledge_system.domain.events import Emit
    from knowledge_system.domain.sensitivity import Gatekeeper, PlaceholderMemory
    from knowledge_system.domain.sessions import Exchange, RawExchange, TranscriptReader
    from knowledge_system.domain.truth import Truth

REMEMBERED = 512
"""Deliveries of one session that are remembered: a crash repeats the last ones at most."""
ATTEMPTS = 20
"""Times that a delivery begins again because another process stored something of the same session meanwhile."""
LIKE_NAMED = 256
"""Sessions without an id that begin with the same prompt and are told apart; each costs a look-up."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """One document of exchanges. `name` identifies it: the same name again stores nothing.

    `at` is the time of what has none of its own. `door` is where it came in: the path that its exchanges will show is
    that and the session's id. `session_id` is the session of a document that names none, empty when nobody knows.
    """

    name: str
    at: datetime
    door: str
    session_id: str


@dataclass(frozen=True, slots=True)
class Arrived:
    """What a delivery did; `again` means that its very name was known, so it was not looked into."""

    session_id: str
    saved: SavedExchanges
    again: bool = False


@dataclass(frozen=True, slots=True)
class _Before:
    """What came of a session before: names of deliveries, exchanges in order, and how many writers there were."""

    place: str
    names: tuple[str, ...] = ()
    marks: tuple[Mark, ...] = ()
    count: int = 0
    revision: int = 0

    @classmethod
    def of(cls, place: str, state: SourceState | None) -> _Before:
        if state is None:
            return cls(place)
        kept = state.resume
        marks = tuple(Mark.of(row) for row in kept.get("marks", ()))
        return cls(place, tuple(kept.get("names", ())), marks, state.exchanges, int(kept.get("revision", 0)))

    def after(self, form: str, name: str, marks: Sequence[Mark], fresh: int) -> SourceState:
        names = [*self.names, name][-REMEMBERED:]
        resume = {"names": names, "marks": [mark.row() for mark in marks], "revision": self.revision + 1}
        return SourceState(self.place, form, 0, 0, "", self.count + fresh, resume)


def written(document: Mapping[str, Any]) -> str:
    """Return a document as JSON in which what tells what it is stands before the exchanges, however long those are."""
    return json.dumps({"format": "", "session": {}, **document})


async def arrive(
    delivery: Delivery, document: Path, means: tuple[TranscriptReader, Gatekeeper, Truth], emit: Emit
) -> Arrived:
    """Store what did not come before of a delivery's document, behind what did; what grew is replaced.

    Raises UsageError for a document that holds none, Overtaken when others keep storing exchanges of the same session.
    """
    reader, gatekeeper, truth = means
    raws = await _raws(reader, document)
    for _ in range(ATTEMPTS - 1):
        with contextlib.suppress(Overtaken):
            return await _once(delivery, raws, gatekeeper, truth, emit)
    return await _once(delivery, raws, gatekeeper, truth, emit)


async def _once(
    delivery: Delivery, raws: Sequence[RawExchange], gatekeeper: Gatekeeper, truth: Truth, emit: Emit
) -> Arrived:
    """Make one attempt, in the session of the delivery or in the first that it may go on."""
    *names, last = [delivery.session_id] if delivery.session_id else _names(raws[0], delivery.name)
    for session_id in (*names, last):
        place = f"{delivery.door}{session_id}"
        before = _Before.of(place, await truth.ingest.source(place))
        if delivery.name in before.names:
            return Arrived(session_id, SavedExchanges(), again=True)
        memory = gatekeeper.memory(await truth.ingest.placeholders(session_id))
        session = replace(raws[0].session, id=session_id, path=place)
        arrival = _Arrival(delivery, [replace(raw, session=session) for raw in raws], gatekeeper, memory, truth)
        if session_id == last or not before.marks or await arrival.goes_on(before):
            return await arrival.store(before, emit)
    raise AssertionError


class _Arrival:
    """A delivery in one session: let through the door, compared, numbered, stored."""

    def __init__(
        self,
        delivery: Delivery,
        raws: Sequence[RawExchange],
        gatekeeper: Gatekeeper,
        memory: PlaceholderMemory,
        truth: Truth,
    ) -> None:
        self._delivery = delivery
        self._raws = raws
        self._gatekeeper = gatekeeper
        self._memory = memory
        self._truth = truth
        self._admitted: list[Exchange] = []
        self._pieces: list[Piece] = []

    async def goes_on(self, before: _Before) -> bool:
        """Tell whether the document begins as the session does that came before."""
        first = self._gatekeeper.admit(self._raws[0], self._memory)
        return goes_on(before.marks[0], _piece(first)) and (await self._places(before))[0] == 0

    async def store(self, before: _Before, emit: Emit) -> Arrived:
        """Store what is new or grew. Raises Overtaken when something else of the session was stored since `before`."""
        places = await self._places(before)
        exchanges, marks = await self._numbered(before, places)
        session, fresh = self._raws[0].session, sum(at is None for at in places)
        saved = await self._truth.ingest.save(
            IngestBatch(
                sessions=(self._gatekeeper.admit_session(session, self._memory),),
                exchanges=tuple(exchanges),
                state=before.after(session.format, self._delivery.name, marks, fresh),
                placeholders={session.id: self._memory.state()},
                follows=before.revision,
            )
        )
        changed = {*saved.new, *saved.updated}
        redactions = sum(one.redactions for one in exchanges if one.id in changed)
        emit(ExchangesIngested(before.place, len(saved.new), len(saved.known), len(saved.updated), redactions))
        return Arrived(session.id, saved)

    async def _places(self, before: _Before) -> list[int | None]:
        """Return which of the exchanges before each of the document is, None for what is new."""
        if not self._pieces:
            self._admitted = await asyncio.to_thread(
                lambda: [self._gatekeeper.admit(raw, self._memory) for raw in self._raws]
            )
            self._pieces = [_piece(one) for one in self._admitted]
        stored = await self._truth.exchanges.get(sorted(longer(before.marks, self._pieces)), tools=False)

        def cut_short(mark: Mark, piece: Piece) -> bool:
            # What was forgotten stays forgotten, also when less of it comes again.
            return mark.id not in stored or stored[mark.id].assistant.startswith(piece.answer)

        return align(before.marks, self._pieces, cut_short, certain=bool(self._delivery.session_id))

    async def _numbered(self, before: _Before, places: Sequence[int | None]) -> tuple[list[Exchange], list[Mark]]:
        """Return the exchanges with identity, index and time, and the marks of the session with them."""
        ids = await self._ids(before, [number for number, at in enumerate(places) if at is None])
        exchanges, marks, first = [], list(before.marks), before.count - len(before.marks)
        for number, (at, admitted, piece) in enumerate(zip(places, self._admitted, self._pieces, strict=True)):
            if at is None:
                moment = admitted.timestamp or self._delivery.at
                identity, occurrence = ids[number]
                size, digest = len(piece.answer), digest_of(piece.answer)
                marks.append(Mark(identity, piece.key, occurrence, size, digest, to_stored(moment), bool(piece.at)))
                index = first + len(marks) - 1
            else:
                moment, identity, index = admitted.timestamp or from_stored(marks[at].at), marks[at].id, first + at
                marks[at] = marks[at].grown(piece)
            exchanges.append(replace(admitted, id=identity, index=index, timestamp=moment))
        return exchanges, marks

    async def _ids(self, before: _Before, fresh: Sequence[int]) -> dict[int, tuple[str, int]]:
        """Return id and occurrence of each new exchange: the first that no other exchange of the session has.

        Another door may have stored exchanges of the same session: one that is the same keeps its id.
        """
        following: Counter[str] = Counter()
        for mark in before.marks:
            following[mark.key] = max(following[mark.key], mark.occurrence + 1)
        found: dict[int, tuple[str, int]] = {}
        waiting = list(fresh)
        while waiting:
            for number in waiting:
                key = self._pieces[number].key
                found[number] = (self._id(number, following[key]), following[key])
                following[key] += 1
            stored = await self._truth.exchanges.get([found[number][0] for number in waiting], tools=False)
            waiting = [
                number
                for number in waiting
                if (other := stored.get(found[number][0])) and not _same(other, self._admitted[number])
            ]
        return found

    def _id(self, number: int, occurrence: int) -> str:
        if occurrence == 0:
            return self._admitted[number].id
        prompt = replace(self._raws[number], occurrence=occurrence, assistant="", tools=())
        return self._gatekeeper.admit(prompt, self._memory).id


async def _raws(reader: TranscriptReader, document: Path) -> list[RawExchange]:
    raws: list[RawExchange] = []
    async for batch in reader.read(document):
        if isinstance(batch, SkippedFile):
            raise UsageError(
                f"no exchanges in what was delivered: it {batch.reason}", hint="see knowledge-transcript/1"
            )
        raws.extend(batch.exchanges)
    if not raws:
        raise UsageError("what was delivered holds no exchange", hint="see knowledge-transcript/1")
    session = raws[-1].session
    if any(raw.session.id != session.id for raw in raws):
        raise UsageError("a delivery is of one session", hint="send one document a session")
    return [replace(raw, session=session, occurrence=0) for raw in raws]


def _names(first: RawExchange, delivery: str) -> Iterator[str]:
    """Yield the ids that a session without one may have got: of all that begin like it, at last one of its own.

    The prompt is not enough: many sessions begin with the same few words, and go on differently.
    """
    session, began = first.session, to_stored(first.timestamp) if first.timestamp else ""
    facts = f"{session.id}\0{session.project}\0{session.agent}\0{began}"
    name = f"unnamed-{hashlib.sha256(facts.encode('utf-8', 'surrogatepass')).hexdigest()[:16]}"
    yield name
    yield from (f"{name}-{number}" for number in range(2, LIKE_NAMED))
    yield f"{name}-{hashlib.sha256(delivery.encode('utf-8', 'surrogatepass')).hexdigest()[:16]}"


def _piece(admitted: Exchange) -> Piece:
    at = to_stored(admitted.timestamp) if admitted.timestamp else ""
    return Piece(admitted.id, admitted.assistant, at)


def _same(stored: Exchange, admitted: Exchange) -> bool:
    """Tell whether what has the same prompt is the same exchange, told by another door in its own way."""
    if admitted.timestamp is not None and stored.timestamp == admitted.timestamp:
        return True
    if stored.assistant and not admitted.assistant:
        return False
    return stored.assistant.startswith(admitted.assistant) or admitted.assistant.startswith(stored.assistant)
