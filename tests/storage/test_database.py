"""Opening a database: created, recognised, refused with a reason; quick when there is nothing to do."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import text
from tests.storage.samples import SPACE, HandClock, exchange, save, vector

from knowledge_system.domain.errors import (
    Busy,
    DependencyUnavailable,
    IntegrityFailure,
    KnowledgeError,
    NewerSchema,
    UsageError,
)
from knowledge_system.storage.connections import file_url, parse_url
from knowledge_system.storage.database import Database

if TYPE_CHECKING:
    from tests.storage.postgres_server import Server


async def open_and_close(url: str) -> None:
    await (await Database.open(url, HandClock())).close()


def path_of(url: str) -> Path:
    return Path(url.removeprefix("sqlite:///"))


async def refused(url: str, kind: type[KnowledgeError]) -> KnowledgeError:
    with pytest.raises(kind) as caught:
        await open_and_close(url)
    assert type(caught.value) is kind
    assert caught.value.hint
    return caught.value


async def test_creates_a_database_that_only_its_owner_can_read(tmp_path: Path) -> None:
    database = await Database.open(f"sqlite:///{tmp_path / 'new.db'}", HandClock())
    await save(database.truth(), exchange("a"))
    files = [tmp_path / name for name in ("new.db", "new.db-wal", "new.db-shm")]
    assert {file.stat().st_mode & 0o777 for file in files} == {0o600}
    await database.close()


async def test_keeps_everything_over_a_restart(url: str) -> None:
    first = await Database.open(url, HandClock())
    await save(first.truth(), exchange("a"))
    await first.close()
    second = await Database.open(url, HandClock())
    assert await second.truth().exchanges.get(["xa"]) == {"xa": exchange("a")}
    await second.close()
    await second.close()


async def test_every_database_has_an_identity_that_stays(tmp_path: Path) -> None:
    identities = []
    for name in ("a.db", "b.db", "a.db"):
        database = await Database.open(f"sqlite:///{tmp_path / name}", HandClock())
        identities.append(await database.instance_id())
        await database.close()
    assert identities[0] == identities[2] != identities[1]
    assert len(identities[0]) == 32


async def test_sets_up_every_connection(sqlite: Database) -> None:
    expected = {"journal_mode": "wal", "busy_timeout": 5000, "foreign_keys": 1, "synchronous": 1, "secure_delete": 1}
    for transaction in (sqlite.connections.read, sqlite.connections.write):
        async with transaction() as connection:
            found = {name: await connection.scalar(text(f"PRAGMA {name}")) for name in expected}
            assert found == expected


async def test_readers_cannot_write(sqlite: Database) -> None:
    with pytest.raises(DependencyUnavailable):
        async with sqlite.connections.read() as connection:
            await connection.execute(text("DELETE FROM events"))


def test_opening_what_is_up_to_date_does_not_load_the_migrations(sqlite_url: str) -> None:
    program = (
        "import asyncio, sys\n"
        "from knowledge_system.domain.clock import SystemClock\n"
        "from knowledge_system.storage.database import Database\n"
        f"asyncio.run(Database.open({sqlite_url!r}, SystemClock()))\n"
        "print([name for name in ('alembic', 'mako', 'psycopg', 'numpy') if name in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


async def test_an_empty_file_becomes_a_database(tmp_path: Path) -> None:
    (tmp_path / "empty.db").touch()
    database = await Database.open(f"sqlite:///{tmp_path / 'empty.db'}", HandClock())
    assert await database.truth().ledger.check() == []
    await database.close()


async def test_a_path_may_hold_spaces_and_signs(tmp_path: Path) -> None:
    file = tmp_path / "my data %20 ü?x#y" / "a b.db"
    file.parent.mkdir()
    database = await Database.open(file_url(file), HandClock())
    assert await database.truth().ledger.check() == []
    assert (await database.truth().ledger.totals()).bytes_on_disk > 0
    await database.close()
    assert file.is_file()


async def test_refuses_a_database_of_a_newer_version(url: str) -> None:
    database = await Database.open(url, HandClock())
    async with database.connections.write() as connection:
        await connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    await database.close()
    error = await refused(url, NewerSchema)
    assert "9999" in error.message


async def test_refuses_a_file_that_is_no_database(tmp_path: Path) -> None:
    file = tmp_path / "notes.txt"
    file.write_text("Dear diary, " * 1000)
    await refused(f"sqlite:///{file}", IntegrityFailure)
    assert file.read_text().startswith("Dear diary")


async def test_refuses_and_does_not_touch_the_database_of_another_program(tmp_path: Path) -> None:
    file = tmp_path / "browser.db"
    other = sqlite3.connect(file)
    other.execute("CREATE TABLE bookmarks (url TEXT)")
    other.commit()
    other.close()
    before = file.read_bytes()
    await refused(f"sqlite:///{file}", IntegrityFailure)
    assert file.read_bytes() == before


async def test_damage_is_reported_and_not_served(sqlite_url: str) -> None:
    database = await Database.open(sqlite_url, HandClock())
    await save(database.truth(), *(exchange(f"{number:04}", user="word " * 200) for number in range(500)))
    await database.close()
    content = bytearray(path_of(sqlite_url).read_bytes())
    for place in range(len(content) // 2, len(content) - 4096, 4096):
        content[place : place + 64] = os.urandom(64)
    path_of(sqlite_url).write_bytes(content)
    damaged = await Database.open(sqlite_url, HandClock())
    assert await damaged.truth().ledger.check() != []
    with pytest.raises(IntegrityFailure):
        await damaged.truth().exchanges.get([f"x{number:04}" for number in range(500)])
    await damaged.close()


@pytest.mark.parametrize("place", ["missing/analytics.db", "."])
async def test_refuses_a_place_where_it_cannot_write(tmp_path: Path, place: str) -> None:
    error = await refused(f"sqlite:///{tmp_path / place}", DependencyUnavailable)
    assert "directory" in error.hint


@pytest.mark.parametrize(
    "url", ["", "nonsense", "mysql://host/db", "sqlite://", "sqlite:///:memory:", "sqlite+pysqlite://", "oracle+x://"]
)
async def test_refuses_an_address_it_cannot_use(url: str) -> None:
    await refused(url, UsageError)


def test_an_address_may_leave_the_driver_to_us() -> None:
    assert parse_url("sqlite:////a/b.db").drivername == "sqlite+aiosqlite"
    assert parse_url("postgres://u@h/d").drivername == "postgresql+psycopg"
    assert parse_url("postgresql+psycopg2://u@h/d").drivername == "postgresql+psycopg"


async def test_a_full_disk_is_said_and_leaves_what_was_there(sqlite: Database) -> None:
    truth = sqlite.truth()
    await save(truth, exchange("a"))
    pages = await sqlite.connections.change(lambda writer: writer.scalar(text("PRAGMA page_count")))
    await sqlite.connections.change(lambda writer: writer.execute(text(f"PRAGMA max_page_count = {pages + 5}")))
    with pytest.raises(DependencyUnavailable) as caught:
        await save(truth, *(exchange(str(number), user="word " * 5000) for number in range(20)))
    assert "free disk space" in caught.value.hint
    await sqlite.connections.change(lambda writer: writer.execute(text("PRAGMA max_page_count = 1000000")))
    assert (await truth.ledger.totals()).exchanges == 1
    assert await truth.ledger.check() == []


async def test_a_lock_held_by_another_program_stops_writers_only(sqlite: Database, clock: HandClock) -> None:
    await sqlite.truth().vectors.put(SPACE, {"h": vector()})
    await sqlite.connections.change(lambda writer: writer.execute(text("PRAGMA busy_timeout = 50")))
    async with sqlite.connections.write() as connection:
        await connection.execute(text("PRAGMA busy_timeout = 50"))
    other = sqlite3.connect(sqlite.connections.place, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(Busy):
        await save(sqlite.truth(), exchange("a"))
    clock.advance(days=2)  # a read of the vector would now also note its use
    assert list(await sqlite.truth().vectors.get(SPACE, ["h"])) == ["h"]
    other.rollback()
    other.close()
    assert (await save(sqlite.truth(), exchange("a"))).new == ("xa",)


async def test_several_may_create_one_database_at_once(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'new.db'}"
    opened = await asyncio.gather(*(Database.open(url, HandClock()) for _ in range(4)))
    assert len({await one.instance_id() for one in opened}) == 1
    for one in opened:
        await one.close()


@pytest.mark.postgres
async def test_several_may_create_one_database_at_once_on_a_server(postgres: Server) -> None:
    name = postgres.create()
    opened = await asyncio.gather(*(Database.open(postgres.url(name), HandClock()) for _ in range(4)))
    assert len({await one.instance_id() for one in opened}) == 1
    for one in opened:
        await one.close()
    postgres.drop(name)


@pytest.mark.postgres
async def test_a_server_that_does_not_answer_is_said_without_the_password(postgres: Server) -> None:
    url = postgres.url("no_such_database").replace("postgres@", "postgres:hunter2@")
    error = await refused(url, DependencyUnavailable)
    assert "hunter2" not in error.message + error.hint
    await refused("postgresql://u:hunter2@localhost:1/db", DependencyUnavailable)


async def impatiently(database: Database, statement: str) -> None:
    """Run a statement that waits at most 50 ms for a lock."""
    async with database.connections.read() as connection:
        await connection.execute(text("SET LOCAL lock_timeout = 50"))
        await connection.execute(text(statement))


@pytest.mark.postgres
async def test_a_table_lock_on_a_server_is_said(postgres_url: str) -> None:
    holder, waiter = [await Database.open(postgres_url, HandClock()) for _ in range(2)]
    async with holder.connections.write() as connection:
        await connection.execute(text("LOCK TABLE exchanges"))
        with pytest.raises(Busy):
            await impatiently(waiter, "SELECT count(*) FROM exchanges")
    await holder.close()
    await waiter.close()
