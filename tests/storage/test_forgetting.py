"""What is forgotten is gone from the files, not only from the answers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.storage.samples import SPACE, batch, exchange, item, save, session, vector

from knowledge_system.domain.sessions import ExchangeFacts, ToolCall
from knowledge_system.domain.truth import Learned

if TYPE_CHECKING:
    from knowledge_system.storage.database import Database

SECRET = "Zwetschgenkuchen"
ROUNDS = [1, 40]
"""Occurrences of the word in each text: a row in one page, and rows that overflow into pages of their own."""


def on_disk(database: Database) -> bytes:
    place = Path(database.connections.place)
    files = [place, *(place.with_name(place.name + end) for end in ("-wal", "-shm"))]
    return b"".join(file.read_bytes() for file in files if file.exists())


async def fill(database: Database, times: int) -> None:
    """Store the word everywhere a user's words can get to, among harmless neighbours."""
    word = f"{SECRET} " * times
    truth = database.truth()
    await save(truth, *(exchange(f"n{number}", user="harmless " * 50) for number in range(50)))
    told = exchange(
        "told",
        session_id="s2",
        user=word,
        assistant=word,
        tools=(ToolCall("Bash", word, word),),
        facts=ExchangeFacts(files=(word,), notes=(word,)),
    )
    await truth.ingest.save(batch(told, sessions=(session("s2", title=SECRET),)))
    learned = item("told", "told", title=SECRET, content=word, metadata={"quote": word}, session_id="s2")
    await truth.items.learn(Learned(judged={"xtold": "item"}, created=(learned,)))


@pytest.mark.parametrize("times", ROUNDS)
async def test_a_forgotten_exchange_leaves_no_byte(sqlite: Database, times: int) -> None:
    await fill(sqlite, times)
    assert SECRET.encode() in on_disk(sqlite)
    assert await sqlite.truth().exchanges.forget(["xtold"]) == 1
    assert SECRET.encode() not in on_disk(sqlite)
    assert await sqlite.truth().ledger.check() == []


@pytest.mark.parametrize("times", ROUNDS)
async def test_a_forgotten_item_leaves_no_byte(sqlite: Database, times: int) -> None:
    truth = sqlite.truth()
    await save(truth, exchange("a"))
    told = item("told", "a", title=SECRET, content=f"{SECRET} " * times)
    await truth.items.learn(Learned(judged={}, created=(told,)))
    await truth.items.forget(["ktold"])
    assert SECRET.encode() not in on_disk(sqlite)


async def test_a_withdrawn_item_leaves_no_byte(sqlite: Database) -> None:
    truth = sqlite.truth()
    await save(truth, exchange("a"))
    await truth.items.learn(Learned(judged={}, created=(item("told", "a", content=SECRET),)))
    await truth.items.learn(Learned(judged={"xa": "nothing"}, withdrawn=("ktold",)))
    assert SECRET.encode() not in on_disk(sqlite)


async def test_a_forgotten_vector_leaves_no_byte(sqlite: Database) -> None:
    truth = sqlite.truth()
    await save(truth, exchange("a"))
    rare = vector(0.1234567, -0.7654321, 0.1111111, 0.2222222)
    await truth.vectors.put(SPACE, {"hash": rare})
    await truth.vectors.refer({"xa": ["hash"]})
    assert rare.tobytes() in on_disk(sqlite)
    await truth.exchanges.forget(["xa"])
    assert rare.tobytes() not in on_disk(sqlite)


async def test_forgetting_thousands_at_once(database: Database) -> None:
    truth = database.truth()
    names = [f"{number:05}" for number in range(3000)]
    await save(truth, *(exchange(name) for name in names))
    await truth.items.learn(Learned(judged={}, created=tuple(item(name, name) for name in names)))
    assert await truth.exchanges.forget([f"x{name}" for name in names[:2500]]) == 2500
    totals = await truth.ledger.totals()
    assert (totals.exchanges, totals.items, totals.evidence) == (500, {"active": 500}, 500)
    assert await truth.ledger.check() == []
