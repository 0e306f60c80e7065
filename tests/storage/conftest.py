"""The truth on every engine, and a PostgreSQL server of our own."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

import pytest
from tests.storage.postgres_server import Server, binaries, running
from tests.storage.samples import HandClock

from knowledge_system.storage.connections import parse_url
from knowledge_system.storage.database import Database
from knowledge_system.storage.upgrade import bring_to_head
from knowledge_system.testing.truth import memory_truth

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from knowledge_system.domain.truth import Truth

POSTGRES = pytest.param("postgres", marks=pytest.mark.postgres)


def _migrate(url: str) -> None:
    bring_to_head(parse_url(url), url)


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture(scope="session")
def postgres() -> Iterator[Server]:
    """A server; where PostgreSQL is not installed its tests are skipped, but never on CI."""
    commands = binaries()
    if commands is None:
        message = "needs a PostgreSQL server: apt-get install postgresql"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)
    with running(commands) as server:
        yield server


@pytest.fixture(scope="session")
def migrated_postgres(postgres: Server) -> str:
    """A migrated database to copy from."""
    name = postgres.create()
    _migrate(postgres.url(name))
    return name


@pytest.fixture(scope="session")
def migrated_sqlite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated database to copy from."""
    path = tmp_path_factory.mktemp("template") / "analytics.db"
    _migrate(f"sqlite:///{path}")
    return path


@pytest.fixture
def sqlite_url(tmp_path: Path, migrated_sqlite: Path) -> str:
    """A fresh SQLite database at the newest schema."""
    shutil.copy(migrated_sqlite, tmp_path / "analytics.db")
    return f"sqlite:///{tmp_path / 'analytics.db'}"


@pytest.fixture
def postgres_url(postgres: Server, migrated_postgres: str) -> Iterator[str]:
    """A fresh PostgreSQL database at the newest schema."""
    name = postgres.create(migrated_postgres)
    yield postgres.url(name)
    postgres.drop(name)


@pytest.fixture(params=["sqlite", POSTGRES])
def url(request: pytest.FixtureRequest) -> str:
    """A fresh database on either engine."""
    address: str = request.getfixturevalue(f"{request.param}_url")
    return address


@pytest.fixture
async def database(url: str, clock: HandClock) -> AsyncIterator[Database]:
    """An open database on either engine."""
    opened = await Database.open(url, clock)
    yield opened
    await opened.close()


@pytest.fixture
async def sqlite(sqlite_url: str, clock: HandClock) -> AsyncIterator[Database]:
    """An open SQLite database."""
    opened = await Database.open(sqlite_url, clock)
    yield opened
    await opened.close()


@pytest.fixture(params=["memory", "sqlite", POSTGRES])
async def truth(request: pytest.FixtureRequest, clock: HandClock) -> AsyncIterator[Truth]:
    """The truth, empty: in memory, on SQLite, on PostgreSQL."""
    if request.param == "memory":
        yield memory_truth(clock)
        return
    opened = await Database.open(request.getfixturevalue(f"{request.param}_url"), clock)
    yield opened.truth()
    await opened.close()
