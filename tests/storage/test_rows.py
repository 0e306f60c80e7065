"""What is written where nothing else looks: logs, warnings, the view for those who expect vectors in columns."""

from __future__ import annotations

import json
from array import array
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import text
from tests.storage.samples import SPACE, batch, exchange, item, minute, save, vector

from knowledge_system.domain.clock import from_stored, to_stored
from knowledge_system.domain.embedding import EmbeddingSpace
from knowledge_system.domain.search import SearchLogEntry
from knowledge_system.domain.sessions import ReadWarning
from knowledge_system.domain.truth import Learned, storable
from knowledge_system.storage.columns import dump_json

if TYPE_CHECKING:
    from knowledge_system.storage.database import Database

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(st.characters(codec=None)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


def clean(value: object) -> object:
    if isinstance(value, str):
        return storable(value)
    if isinstance(value, list):
        return [clean(one) for one in value]
    if isinstance(value, dict):
        return {storable(key): clean(one) for key, one in value.items()}
    return value


@given(json_values)
def test_json_loses_only_what_no_database_can_keep(value: object) -> None:
    written = dump_json(value)
    assert json.loads(written) == clean(value)
    assert storable(written) == written
    assert ": " not in json.dumps(value) or len(written) <= len(json.dumps(value, ensure_ascii=False))


@given(st.text(st.characters(codec=None)))
def test_storable_text_is_stable_and_has_the_same_length(value: str) -> None:
    once = storable(value)
    assert storable(once) == once
    assert len(once) == len(value)
    assert "\0" not in once
    once.encode()


@pytest.mark.parametrize(
    "value", ["", "2026-01-01", "2026-01-01T00:00:00.000000+", "2026-01-01 00:00:00.000000Z", "x" * 27]
)
def test_what_is_not_in_the_stored_form_is_refused(value: str) -> None:
    with pytest.raises(ValueError, match=r"stored time|Invalid"):
        from_stored(value)


async def rows(database: Database, query: str) -> list[tuple[object, ...]]:
    async with database.connections.read() as connection:
        return [tuple(row) for row in await connection.execute(text(query))]


async def test_a_search_is_logged_as_it_was(database: Database) -> None:
    entry = SearchLogEntry(minute(1), "wie geht's", "hash", "all", {"project": "api"}, 3, 0.125, 1.5, 2)
    await database.truth().ledger.log_search(entry)
    await database.truth().ledger.log_search(SearchLogEntry(minute(2), None, "hash", "items"))
    columns = "created_at, query, query_hash, scope, filters, results, top_score, took_ms, dropped"
    assert await rows(database, f"SELECT {columns} FROM search_logs ORDER BY id") == [
        (to_stored(minute(1)), "wie geht's", "hash", "all", '{"project":"api"}', 3, 0.125, 1.5, 2),
        (to_stored(minute(2)), None, "hash", "items", "{}", 0, None, 0.0, 0),
    ]


async def test_warnings_and_events_are_kept(database: Database) -> None:
    truth = database.truth()
    await truth.ingest.save(batch(exchange("a"), warnings=(ReadWarning("/logs/s1.jsonl", "line 3", "bad"),)))
    await truth.ledger.record_event("index-rebuilt", {"points": 3})
    assert await rows(database, "SELECT kind, payload FROM events ORDER BY sequence") == [
        ("transcript-warning", '{"path":"/logs/s1.jsonl","place":"line 3","reason":"bad"}'),
        ("index-rebuilt", '{"points":3}'),
    ]


async def test_the_reason_for_learning_nothing_is_kept(database: Database) -> None:
    await save(database.truth(), exchange("a"))
    await database.truth().items.learn(Learned(judged={"xa": "chatter"}))
    assert await rows(database, "SELECT learn_outcome FROM exchanges") == [("chatter",)]


async def test_the_view_shows_vectors_as_columns(database: Database) -> None:
    truth = database.truth()
    await save(truth, exchange("a"))
    await truth.items.learn(Learned(judged={}, created=(item("1"), item("2"))))
    small, large = EmbeddingSpace("m", 384, "1"), EmbeddingSpace("m", 1536, "1")
    await truth.vectors.put(small, {"whole": array("f", [0.5] * 384), "part": array("f", [0.25] * 384)})
    await truth.vectors.put(large, {"whole": array("f", [0.5] * 1536)})
    await truth.vectors.refer({"k1": ["whole", "part"], "k2": ["part"]})
    query = "SELECT id, type, length(embedding_384), length(embedding_1536) FROM knowledge_items_embedded ORDER BY id"
    assert await rows(database, query) == [
        ("k1", "bug_solution", 384 * 4, 1536 * 4),
        ("k2", "bug_solution", 384 * 4, None),
    ]


async def test_a_vector_that_was_damaged_counts_as_missing_and_is_replaced(database: Database) -> None:
    truth = database.truth()
    await truth.vectors.put(SPACE, {"h": vector()})
    async with database.connections.write() as connection:
        await connection.execute(text("UPDATE knowledge_vectors SET embedding = substr(embedding, 1, 5)"))
    assert await truth.vectors.get(SPACE, ["h"]) == {}
    await truth.vectors.put(SPACE, {"h": vector(0, 1, 0, 0)})
    assert await truth.vectors.get(SPACE, ["h"]) == {"h": vector(0, 1, 0, 0)}
