"""Asking a database from outside: real locks, held by real processes."""

from __future__ import annotations

import asyncio
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import text

from knowledge_system.domain.clock import SystemClock
from knowledge_system.storage import probing
from knowledge_system.storage.connections import file_url
from knowledge_system.storage.database import Database

HOLDER = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute(sys.argv[2])
connection.execute("SELECT * FROM t").fetchall()
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def place(tmp_path: Path) -> Iterator[str]:
    path = str(tmp_path / "a b%.db")
    keeper = sqlite3.connect(path, isolation_level=None)
    keeper.execute("PRAGMA journal_mode = WAL")
    keeper.execute("CREATE TABLE t (a)")
    keeper.execute("INSERT INTO t VALUES (1)")
    yield path
    keeper.close()


@contextmanager
def holding(place: str, statement: str) -> Iterator[int]:
    """Have another process run a statement and read, and keep its transaction open; yields its id."""
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", HOLDER, place, statement], stdin=pipe, stdout=pipe) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        assert process.stdout.readline() == b"held\n"
        yield process.pid
        process.stdin.close()


def test_a_free_database_is_read_and_its_lock_given_back(place: str) -> None:
    for _ in range(2):
        probed = probing.probe(place, 5, 5)
        assert probed.write_lock is not None


def test_who_writes_is_named_and_does_not_hold_up_reading(place: str) -> None:
    with holding(place, "BEGIN IMMEDIATE") as pid:
        assert probing.probe(place, 5, 0.05).write_lock is None
        holders = probing.lock_holders(place)
        if holders is not None:  # Linux tells
            assert (pid, "writes") in {(one.pid, one.role) for one in holders}
            assert all(one.command for one in holders)
        assert probing.checkpoint(place, 0.05).busy
    assert probing.probe(place, 5, 5).write_lock is not None


def test_a_reader_of_an_older_state_keeps_the_log_from_being_emptied(place: str) -> None:
    with holding(place, "BEGIN") as pid:
        with sqlite3.connect(place, isolation_level=None) as writer:
            writer.execute("INSERT INTO t VALUES (2)")
        writer.close()
        done = probing.checkpoint(place, 0.05)
        assert done.busy
        assert done.moved_pages < done.log_pages
        assert probing.log_bytes(place) > 0
        holders = probing.lock_holders(place)
        assert holders is None or (pid, "reads") in {(one.pid, one.role) for one in holders}
    done = probing.checkpoint(place, 5)
    assert not done.busy
    assert probing.log_bytes(place) == 0


def test_a_database_that_is_locked_as_a_whole_ends_in_an_error_not_in_waiting(tmp_path: Path) -> None:
    path = str(tmp_path / "whole.db")
    owner = sqlite3.connect(path, isolation_level=None)
    owner.execute("PRAGMA locking_mode = EXCLUSIVE")
    owner.execute("PRAGMA journal_mode = WAL")
    owner.execute("CREATE TABLE t (a)")
    with pytest.raises(sqlite3.OperationalError, match="locked"):
        probing.answers(path, 0.05)
    owner.close()


async def test_open_and_waiting_transactions_have_age_and_name(tmp_path: Path) -> None:
    database = await Database.open(file_url(tmp_path / "a.db"), SystemClock())
    connections = database.connections
    entered, leave = asyncio.Event(), asyncio.Event()

    async def first() -> None:
        async with connections.write() as connection:
            await connection.execute(text("SELECT 1"))
            entered.set()
            await leave.wait()

    async def second() -> None:
        async with connections.write():
            pass

    tasks = [asyncio.create_task(first())]
    await entered.wait()
    tasks.append(asyncio.create_task(second()))
    while len(connections.transactions.now()) < 2:  # noqa: ASYNC110 -- nobody announces it
        await asyncio.sleep(0)

    opened, waiting = connections.transactions.now()
    assert (opened["kind"], opened["state"], waiting["state"]) == ("write", "open", "waiting")
    assert opened["purpose"] == waiting["purpose"] == "test_open_and_waiting_transactions_have_age_and_name"
    assert connections.transactions.longest() >= float(opened["seconds"]) > 0

    leave.set()
    await asyncio.gather(*tasks)
    assert connections.transactions.now() == []
    assert connections.transactions.longest() == 0
    await database.truth().ledger.totals()
    assert connections.transactions.now() == []
    await database.close()
