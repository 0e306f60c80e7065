"""Exchanges that arrive by themselves, without a file: handed over by a hook or over HTTP, stored exactly once."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from knowledge_system.domain.errors import UsageError
from knowledge_system.domain.events import ExchangesIngested
from knowledge_system.domain.sessions import SkippedFile, SourceState, normalised
from knowledge_system.domain.truth import IngestBatch, SavedExchanges

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

    from knowledge_system.domain.events import Emit
    from knowledge_system.domain.sensitivity import Gatekeeper
    from knowledge_system.domain.sessions import RawExchange, TranscriptReader
    from knowledge_system.domain.truth import Truth

REMEMBERED = 512
"""Deliveries of one session that are remembered: a crash repeats the last ones at most."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """One document of exchanges. `name` identifies it: the same name again stores nothing.

    `at` is the time of what has none of its own. `place` is the path that the exchanges will show, one a session;
    `session_id` is the session of a document that names none.
    """

    name: str
    at: datetime
    place: str
    session_id: str
    document: Path


async def arrive(
    delivery: Delivery, reader: TranscriptReader, gatekeeper: Gatekeeper, truth: Truth, emit: Emit
) -> SavedExchanges:
    """Store the exchanges of a delivery behind those that came before in its session.

    Raises UsageError for a document that holds none.
    """
    state = await truth.ingest.source(delivery.place)
    resume = state.resume if state else {"names": [], "prompts": {}}
    if delivery.name in resume["names"]:
        return SavedExchanges()
    count, prompts = (state.exchanges if state else 0), dict(resume["prompts"])
    raws = _numbered(await _raws(reader, delivery), count, prompts)
    memory = gatekeeper.memory(await truth.ingest.placeholders(raws[0].session.id))
    admitted = tuple(gatekeeper.admit(raw, memory) for raw in raws)
    names = [*resume["names"], delivery.name][-REMEMBERED:]
    after = SourceState(
        delivery.place, raws[0].session.format, 0, 0, "", count + len(raws), {"names": names, "prompts": prompts}
    )
    saved = await truth.ingest.save(
        IngestBatch(
            sessions=(gatekeeper.admit_session(raws[-1].session, memory),),
            exchanges=admitted,
            state=after,
            placeholders={raws[0].session.id: memory.state()},
        )
    )
    redactions = sum(one.redactions for one in admitted)
    emit(ExchangesIngested(delivery.place, len(saved.new), len(saved.known), len(saved.updated), redactions))
    return saved


async def _raws(reader: TranscriptReader, delivery: Delivery) -> list[RawExchange]:
    raws: list[RawExchange] = []
    async for batch in reader.read(delivery.document):
        if isinstance(batch, SkippedFile):
            raise UsageError(
                f"no exchanges in what was delivered: it {batch.reason}", hint="see knowledge-transcript/1"
            )
        raws.extend(batch.exchanges)
    if not raws:
        raise UsageError("what was delivered holds no exchange", hint="see knowledge-transcript/1")
    session = raws[0].session
    if any(raw.session.id != session.id for raw in raws):
        raise UsageError("a delivery is of one session", hint="send one document a session")
    own = replace(session, id=delivery.session_id or session.id, path=delivery.place)
    return [replace(raw, session=own, timestamp=raw.timestamp or delivery.at) for raw in raws]


def _numbered(raws: list[RawExchange], first: int, prompts: dict[str, int]) -> list[RawExchange]:
    """Return the exchanges numbered behind those that came before; `prompts` counts equal prompts and is updated."""
    numbered = []
    for index, raw in enumerate(raws, start=first):
        key = hashlib.sha256(normalised(raw.user).encode("utf-8", "surrogatepass")).hexdigest()[:16]
        numbered.append(replace(raw, index=index, occurrence=prompts.get(key, 0)))
        prompts[key] = prompts.get(key, 0) + 1
    return numbered
