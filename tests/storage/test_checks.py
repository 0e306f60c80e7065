"""Every kind of damage that our own rules can see is reported, by name and with examples."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import text
from tests.storage.samples import SPACE, exchange, item, minute, save, vector

from knowledge_system.domain.truth import Learned

if TYPE_CHECKING:
    from knowledge_system.storage.database import Database

MOMENT = "2026-01-01T00:00:00.000000Z"
DAMAGE = {
    "evidence points to an exchange": "UPDATE evidence SET exchange_id = 'xgone' WHERE item_id = 'k1'",
    "item has no evidence": "DELETE FROM evidence WHERE item_id = 'k1'",
    "contradict each other": "UPDATE knowledge_items SET status = 'superseded' WHERE id = 'k1'",
    "in a circle": "UPDATE knowledge_items SET status = 'superseded',"
    " superseded_by = CASE id WHEN 'k1' THEN 'k2' WHEN 'k2' THEN 'k3' ELSE 'k1' END",
    "wrong length": "UPDATE knowledge_vectors SET dimension = 5",
    "exchanges.timestamp is not in the stored form": "UPDATE exchanges SET timestamp = '2026-01-01 00:00:00'",
    "sessions.created_at is not in the stored form": "UPDATE sessions SET created_at = '2026-01-01T00:00:00+00:00'",
    "forgotten exchange is still there": f"INSERT INTO tombstones VALUES ('xa', 'exchange', '{MOMENT}')",
    "forgotten item is still there": f"INSERT INTO tombstones VALUES ('k1', 'item', '{MOMENT}')",
}
UNREFERENCED = {
    "evidence belongs to no item": "UPDATE evidence SET item_id = 'kgone' WHERE item_id = 'k1'",
    "exchange belongs to no session": "UPDATE exchanges SET session_id = 'sgone'",
}


async def fill(database: Database) -> None:
    truth = database.truth()
    await save(truth, exchange("a"), exchange("b", timestamp=minute(1)))
    await truth.items.learn(Learned(judged={}, created=(item("1"), item("2", "b"), item("3"))))
    await truth.vectors.put(SPACE, {"h": vector()})


@pytest.mark.parametrize("problem", DAMAGE)
async def test_reports_damage(database: Database, problem: str) -> None:
    await fill(database)
    assert await database.truth().ledger.check() == []
    async with database.connections.write() as connection:
        await connection.execute(text(DAMAGE[problem]))
    found = await database.truth().ledger.check()
    assert any(problem in line for line in found), found


@pytest.mark.parametrize("problem", UNREFERENCED)
async def test_reports_rows_that_point_nowhere(sqlite: Database, problem: str) -> None:
    await fill(sqlite)
    other = sqlite3.connect(sqlite.connections.place)  # another program, which does not enforce what we enforce
    other.execute(UNREFERENCED[problem])
    other.commit()
    other.close()
    found = await sqlite.truth().ledger.check()
    assert any(problem in line for line in found), found
    assert any("row points nowhere" in line for line in found), found
