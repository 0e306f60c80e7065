"""A writer that is killed at any moment leaves a sound database in which every call happened wholly or not at all."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest
from sqlalchemy import text
from tests.storage.samples import HandClock

from knowledge_system.domain.errors import IntegrityFailure
from knowledge_system.storage.connections import file_url
from knowledge_system.storage.database import Database

ROOT = Path(__file__).resolve().parents[2]
KILLS = 12


def kill_somewhere(url: str, run: int, chance: random.Random) -> int:
    """Start a writer, let it finish a few rounds, kill it at a random moment of the next; return the rounds."""
    program = [sys.executable, str(ROOT / "tests" / "storage" / "crashing_writer.py"), url, str(run)]
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'src'}"}
    with subprocess.Popen(program, stdout=subprocess.PIPE, env=environment, text=True) as writer:
        assert writer.stdout is not None
        rounds = 0
        for _ in range(chance.randint(1, 4)):
            assert writer.stdout.readline(), "the writer ended by itself"
            rounds += 1
        deadline = time.monotonic() + chance.uniform(0, 0.05)
        while time.monotonic() < deadline:
            pass  # a busy wait: the moment must fall anywhere in a round
        writer.send_signal(signal.SIGKILL)
    return rounds


async def test_kill_9_at_any_moment(sqlite_url: str) -> None:
    chance = random.Random(20260101)
    rounds = [kill_somewhere(sqlite_url, run, chance) for run in range(KILLS)]
    database = await Database.open(sqlite_url, HandClock())
    truth = database.truth()
    assert await truth.ledger.check() == []
    totals = await truth.ledger.totals()
    assert totals.exchanges >= 19 * sum(rounds)
    async with database.connections.read() as connection:
        saved = set((await connection.scalars(text("SELECT id FROM exchanges"))).all())
        buried = set((await connection.scalars(text("SELECT id FROM tombstones WHERE kind = 'exchange'"))).all())
        entered = set((await connection.scalars(text("SELECT owner_id FROM outbox"))).all())
        half_learned = await connection.scalar(
            text(
                "SELECT count(*) FROM exchanges x WHERE learned_at IS NOT NULL AND substr(id, -2) = '-0'"
                " AND NOT EXISTS (SELECT 1 FROM evidence e WHERE e.exchange_id = x.id)"
            )
        )
    batches = {name.rsplit("-", 1)[0] for name in saved | buried}
    assert len(saved | buried) == 20 * len(batches), "a batch was saved in part"
    assert half_learned == 0
    assert entered <= saved | buried | {f"k{name[1:]}" for name in saved | buried}
    await database.close()


async def test_a_kill_while_the_database_is_created_is_undone(tmp_path: Path) -> None:
    living, killed = tmp_path / "living.db", tmp_path / "killed.db"
    creating = sqlite3.connect(living, isolation_level=None)
    creating.execute("PRAGMA cache_size = 1")  # changed pages go to the file, and their old content to the journal
    creating.execute("CREATE TABLE first (value)")
    creating.execute("BEGIN IMMEDIATE")
    creating.execute("DROP TABLE first")
    for number in range(200):
        creating.execute(f"CREATE TABLE t{number} (value)")
    for suffix in ("", "-journal"):
        shutil.copy(f"{living}{suffix}", f"{killed}{suffix}")
    creating.close()
    with pytest.raises(IntegrityFailure, match="another program"):  # as it was before: with its one table
        await Database.open(file_url(killed), HandClock())
    with contextlib.closing(sqlite3.connect(killed)) as undone:
        assert undone.execute("SELECT name FROM sqlite_master").fetchall() == [("first",)]
