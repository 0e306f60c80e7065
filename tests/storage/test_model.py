"""The fake and the database give the same answers to any sequence of calls."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.storage.samples import SPACE, HandClock, batch, evidence, exchange, item, minute, session, vector

from knowledge_system.domain.errors import NotFound, UsageError
from knowledge_system.domain.sensitivity import Sensitivity
from knowledge_system.domain.truth import Learned, Page, Truth
from knowledge_system.storage.connections import file_url
from knowledge_system.storage.database import Database
from knowledge_system.testing.truth import memory_truth

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

names = st.sampled_from("abcde")
name_lists = st.lists(names, max_size=3, unique=True)
texts = st.sampled_from(["", "answer", "a longer answer", "quite a long answer indeed"])

exchanges = st.builds(
    lambda name, text, when, place, who, level: exchange(
        name, assistant=text, timestamp=when, index=place, session_id=who, project=f"p{who}", sensitivity=level
    ),
    names,
    texts,
    st.none() | st.integers(0, 3).map(minute),
    st.integers(0, 3),
    st.sampled_from(["s1", "s2"]),
    st.sampled_from(Sensitivity),
)
items = st.builds(
    lambda name, sources, when: item(name, *sources, created_at=minute(when), valid_from=minute(when)),
    names,
    st.lists(names, min_size=1, max_size=3, unique=True),
    st.integers(0, 3),
)
pairs = st.tuples(names, names).map(lambda pair: (f"k{pair[0]}", f"k{pair[1]}"))
learnings = st.builds(
    lambda judged, created, more, superseded, withdrawn, levels: Learned(
        judged={f"x{name}": "item" for name in judged},
        created=tuple({one.id: one for one in created}.values()),
        reinforced=tuple((f"k{one}", (evidence(source),), 0.9) for one, source in more),
        superseded=tuple(superseded),
        withdrawn=tuple(f"k{name}" for name in withdrawn),
        levels={f"x{name}": level for name, level in levels.items()},
    ),
    name_lists,
    st.lists(items, max_size=2),
    st.lists(st.tuples(names, names), max_size=2, unique_by=lambda pair: pair[0]),
    st.lists(pairs, max_size=2),
    name_lists,
    st.dictionaries(names, st.sampled_from(Sensitivity), max_size=3),
)
calls = st.one_of(
    st.tuples(st.just("save"), st.lists(exchanges, max_size=3)),
    st.tuples(st.just("learn"), learnings),
    st.tuples(st.just("forget exchanges"), name_lists),
    st.tuples(st.just("forget items"), name_lists),
    st.tuples(st.just("supersede"), pairs),
    st.tuples(st.just("load"), st.lists(st.one_of(exchanges, items, st.just(session("s2", title="t"))), max_size=3)),
    st.tuples(st.just("refer"), st.dictionaries(names, name_lists, max_size=2)),
    st.tuples(st.just("advance"), st.sampled_from(["words", "vectors"])),
    st.tuples(st.just("fill"), st.sampled_from(["words", "vectors"])),
)


async def refer(truth: Truth, hashes: dict[str, list[str]]) -> None:
    await truth.vectors.put(SPACE, {key: vector() for keys in hashes.values() for key in keys})
    await truth.vectors.refer({f"x{name}": keys for name, keys in hashes.items()})


async def advance(truth: Truth, stage: str) -> int:
    entries = sorted(await truth.outbox.pending(stage, 99), key=lambda entry: entry.owner_id)[:3]
    await truth.outbox.advance(entries, "vectors" if stage == "words" else None)
    return len(entries)


PERFORM: dict[str, Callable[[Truth, Any], Awaitable[Any]]] = {
    "save": lambda truth, some: truth.ingest.save(batch(*some, sessions=(session("s1", title="a title"),))),
    "learn": lambda truth, learned: truth.items.learn(learned),
    "forget exchanges": lambda truth, some: truth.exchanges.forget([f"x{name}" for name in some]),
    "forget items": lambda truth, some: truth.items.forget([f"k{name}" for name in some]),
    "supersede": lambda truth, pair: truth.items.supersede(*pair, minute(9)),
    "load": lambda truth, records: truth.items.load(records),
    "refer": refer,
    "advance": advance,
    "fill": lambda truth, stage: truth.outbox.fill(stage),
}


async def perform(truth: Truth, call: tuple[str, Any]) -> Any:
    """Make one call and return what it answers, an error by its class."""
    try:
        return await PERFORM[call[0]](truth, call[1])
    except (NotFound, UsageError) as error:
        return type(error)


async def everything(truth: Truth) -> dict[str, Any]:
    """Return all that can be asked."""
    ids = [f"x{name}" for name in "abcde"]
    totals = await truth.ledger.totals()
    return {
        "exchanges": (await truth.exchanges.page(Page()))[0],
        "items": (await truth.items.page(Page(include_inactive=True)))[0],
        "sessions": (await truth.exchanges.sessions(Page()))[0],
        "unlearned": await truth.exchanges.unlearned(99),
        "around": [await truth.exchanges.around(key, 2, 2) for key in ids],
        "from": await truth.items.from_exchanges(ids),
        "vectors": sorted(await truth.vectors.get(SPACE, list("abcde"))),
        "references": await truth.vectors.references(ids),
        "waiting": {
            stage: {one.owner_id for one in await truth.outbox.pending(stage, 99)} for stage in ("words", "vectors")
        },
        "owners": await truth.ledger.owners(),
        "counts": (totals.sessions, totals.exchanges, totals.items, totals.unlearned, totals.evidence),
        "problems": await truth.ledger.check(),
    }


async def compare(template: Path, sequence: list[tuple[str, Any]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "analytics.db"
        shutil.copy(template, file)
        clock = HandClock()
        database = await Database.open(file_url(file), clock)
        stored, remembered = database.truth(), memory_truth(clock)
        try:
            for call in sequence:
                clock.advance(seconds=1)
                assert await perform(stored, call) == await perform(remembered, call), call
                expected = await everything(remembered)
                assert expected["problems"] == []
                assert await everything(stored) == expected, call
        finally:
            await database.close()


@pytest.mark.slow
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(sequence=st.lists(calls, min_size=1, max_size=12))
def test_the_fake_answers_as_the_database(migrated_sqlite: Path, sequence: list[tuple[str, Any]]) -> None:
    asyncio.run(compare(migrated_sqlite, sequence))
