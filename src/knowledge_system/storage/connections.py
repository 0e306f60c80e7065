"""Connections to the database: one writer at a time, a few readers, each call one transaction."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, TypeVar, cast
from urllib.parse import quote

from sqlalchemy import create_engine, event, make_url, text
from sqlalchemy.exc import ArgumentError, SQLAlchemyError
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import AsyncAdaptedQueuePool, QueuePool

from knowledge_system.domain.errors import UsageError
from knowledge_system.storage.activity import Activity
from knowledge_system.storage.failures import translated
from knowledge_system.storage.scripts import PostgresScripts, SqliteScripts, take_turn
from knowledge_system.storage.transactions import Transactions, current_purpose, purpose_of
from knowledge_system.storage.turns import Turns

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from sqlalchemy import URL, Connection, Engine
    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

    from knowledge_system.storage.scripts import Rows, Runner, Script

Result = TypeVar("Result")

BUSY_MS = 5000
"""How long a writer waits for another process (operations guide, SQLite settings)."""
READERS = 4
_LOOKING = 2
"""Threads of the short reads of SQLite. A search reads for .4 ms, most of it under the interpreter lock, and further
threads only wait for that in turns: 32 clients on two cores got 5 % more answers with two or one than with four."""
WRITE_LOCK = 0x6B6E6F776C65  # "knowle": the advisory lock of all writers on a PostgreSQL server
ENGINE_LOCK = WRITE_LOCK + 1
"""As `WRITE_LOCK`, for the shared state of model calls: a long write of knowledge does not hold up a call."""
_TAKE_TURN = text(f"SELECT pg_advisory_xact_lock({WRITE_LOCK})")
_TAKE_ENGINE_TURN = text(f"SELECT pg_advisory_xact_lock({ENGINE_LOCK})")

_DRIVERS = {"sqlite": "sqlite+aiosqlite", "postgresql": "postgresql+psycopg", "postgres": "postgresql+psycopg"}
_SERVER: dict[str, Any] = {
    "pool_pre_ping": True,
    "connect_args": {"options": f"-c lock_timeout={BUSY_MS} -c timezone=UTC", "connect_timeout": 10},
}
_PRAGMAS = (
    "PRAGMA journal_mode = WAL",
    "PRAGMA synchronous = NORMAL",
    "PRAGMA foreign_keys = ON",
    "PRAGMA secure_delete = ON",  # what is forgotten is overwritten, not only unlinked
    "PRAGMA temp_store = MEMORY",
    "PRAGMA cache_size = -32000",
    "PRAGMA journal_size_limit = 67108864",
)
_READING = ("PRAGMA query_only = ON", "PRAGMA cache_size = -4000")  # kilobytes of each; the system caches files too
_NO_WAIT = "PRAGMA busy_timeout = 0"
"""For connections that wait for their turn themselves: `scripts.take_turn`."""


def file_url(path: Path) -> str:
    """Return the address of the SQLite database in a file, whatever signs its path has."""
    return f"sqlite:///{quote(str(path.absolute()))}"


def parse_url(url: str) -> URL:
    """Return `url` with our driver. Raises UsageError for an engine or an address that we cannot use."""
    hint = "use sqlite:////absolute/path/analytics.db or postgresql://user@host/database"
    try:
        parsed = make_url(url)
    except ArgumentError as error:
        raise UsageError("database.url is not a database address.", hint=hint) from error
    driver = _DRIVERS.get(parsed.get_backend_name())
    if driver is None:
        raise UsageError(f"Databases of kind {parsed.get_backend_name()!r} are not supported.", hint=hint)
    if driver.startswith("sqlite") and parsed.database in {None, "", ":memory:"}:
        raise UsageError("The database needs a file.", hint=hint)
    return parsed.set(drivername=driver)


def prepare_sqlite(connection: Any, *, write: bool, wait_ms: int = BUSY_MS) -> None:
    """Set up a new SQLite connection; `isolation_level` None leaves BEGIN to us instead of the driver's guesses."""
    connection.isolation_level = None
    cursor = connection.cursor()
    cursor.execute(f"PRAGMA busy_timeout = {wait_ms}")
    for pragma in _PRAGMAS if write else (*_PRAGMAS, *_READING):
        cursor.execute(pragma)
    cursor.close()


class Connections:
    """A pool of readers and one writer.

    On SQLite the writer begins with `BEGIN IMMEDIATE`: it waits for its turn before it reads, so a decision never rests
    on what another process has changed since. On PostgreSQL all writers take one advisory lock for the same reason.
    """

    def __init__(self, url: URL) -> None:
        self.url = url
        self.place = url.database or "" if self.sqlite else url.render_as_string(hide_password=True)
        self._turn = asyncio.Lock()
        self.activity = Activity()
        self._writer = self._engine(write=True)
        self._readers = self._engine(write=False) if self.sqlite else self._writer
        self._glances = self._thread_engine(write=False, size=READERS)
        self._changes = self._thread_engine(write=True)
        self._looking = ThreadPoolExecutor(_LOOKING if self.sqlite else READERS, thread_name_prefix="read")
        self._changing = ThreadPoolExecutor(1, thread_name_prefix="write")
        self._turns = Turns(self._runner(), self.place)
        self._decisions = self._thread_engine(write=True)
        self.transactions = Transactions()
        self.written = False
        self.running: set[asyncio.Future[Any]] = set()

    @property
    def sqlite(self) -> bool:
        """Tell whether the engine is SQLite."""
        return self.url.get_backend_name() == "sqlite"

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncConnection]:
        """Open a transaction that sees one state of the database."""
        with translated(self.place), self.transactions.entered("read", current_purpose()) as entry:
            async with self._readers.connect() as connection:
                entry.begin()
                yield connection

    async def look(self, work: Callable[[Connection], Result]) -> Result:
        """Run a short read in one go: one change of thread a call, where `read` costs one a step of the driver.

        For what a search reads on its critical path; sees one state of the database like `read`.
        """

        def run() -> Result:
            entered = self.transactions.entered("read", purpose_of(work))
            with translated(self.place), entered as entry, self._glances.connect() as connection:
                entry.begin()
                return work(connection)

        return await asyncio.get_running_loop().run_in_executor(self._looking, run)

    @asynccontextmanager
    async def write(self) -> AsyncIterator[AsyncConnection]:
        """Open a transaction that writes; committed when the block ends, rolled back when it raises."""
        with self.transactions.entered("write", current_purpose()) as entry:
            async with self._turn:
                with translated(self.place):
                    async with self._writer.begin() as connection:
                        if not self.sqlite:
                            await connection.execute(_TAKE_TURN)
                        entry.begin()
                        yield connection
                self.written = True

    async def change(self, work: Callable[[Connection], Result]) -> Result:
        """Run a short write in one go, as `look` does a read; a writer like `write`, in the same queue.

        For what every model call writes. Like `write` it must not be cancelled half way: see `port.uninterrupted`.
        """

        def run() -> Result:
            with translated(self.place), self._changes.begin() as connection:
                if not self.sqlite:
                    connection.execute(_TAKE_TURN)
                entry.begin()
                return work(connection)

        with self.transactions.entered("write", purpose_of(work)) as entry:
            async with self._turn:
                result = await asyncio.get_running_loop().run_in_executor(self._changing, run)
                self.written = True
        return result

    async def decide(self, work: Callable[[Connection], Result]) -> Result:
        """Run a decision about the shared state of model calls: a short write, in turn with `script` everywhere.

        It runs to its end although its caller is cancelled.
        """

        def run() -> Result:
            entered = self.transactions.entered("write", purpose_of(work))
            with translated(self.place), entered as entry, self._decisions.begin() as connection:
                if not self.sqlite:
                    connection.execute(_TAKE_ENGINE_TURN)
                entry.begin()
                return work(connection)

        self.written = True
        return await self._turns.decide(run)

    async def script(self, script: Script) -> Rows:
        """Run a fixed sequence of statements about the same state in one go; it runs to its end as `decide` does."""
        self.written = True
        self.activity.scripted(len(script.turn) + len(script.proof) + (script.afterwards is not None))
        return await self._turns.script(script)

    async def checkpoint(self) -> None:
        """Fold the write-ahead log into the database and empty it: it still has the pages as they were before."""
        if not self.sqlite:
            return
        async with self._turn:
            with translated(self.place):
                await self._pragmas("PRAGMA wal_checkpoint(TRUNCATE)")

    async def close(self) -> None:
        """Wait for what is running, leave fresh statistics for the planner, and close every connection."""
        await asyncio.gather(*self.running, return_exceptions=True)
        await self._turns.close()
        if self.written and self.sqlite:
            async with self._turn:
                with contextlib.suppress(SQLAlchemyError, sqlite3.Error):  # statistics are a favour, not a duty
                    await self._pragmas("PRAGMA analysis_limit = 400", "PRAGMA optimize")
        await self._writer.dispose()
        await self._readers.dispose()
        self._looking.shutdown()
        self._changing.shutdown()
        for engine in (self._glances, self._changes, self._decisions):
            engine.dispose()

    async def _pragmas(self, *statements: str) -> None:
        """Run statements outside a transaction."""
        async with self._writer.connect() as connection:
            raw = await connection.get_raw_connection()
            driver: Any = raw.driver_connection
            for statement in statements:
                await driver.execute_fetchall(statement)

    def _runner(self) -> Runner:
        """Return what runs scripts."""
        if self.sqlite:
            return SqliteScripts(self._raw, BUSY_MS / 1000)
        return PostgresScripts(self.url, _SERVER["connect_args"], ENGINE_LOCK)

    def _raw(self) -> sqlite3.Connection:
        """Return a connection of the driver that writes."""
        connection = sqlite3.connect(self.url.database or "", check_same_thread=False)
        prepare_sqlite(connection, write=True)
        connection.execute(_NO_WAIT)
        return connection

    def _thread_engine(self, *, write: bool, size: int = 1) -> Engine:
        """Return the engine of `look`, `change` or `decide`: a driver that blocks, in threads of our own."""
        if not self.sqlite:
            server = create_engine(self.url, pool_size=size, max_overflow=0, **_SERVER)
            self.activity.watch(server)
            return server
        url = self.url.set(drivername="sqlite+pysqlite")
        engine = create_engine(
            url,
            poolclass=QueuePool,
            pool_size=size,
            max_overflow=0,
            pool_use_lifo=True,  # the connection used last has the pages and statements used last
            connect_args={"check_same_thread": False},
        )

        def connected(connection: Any, record: object) -> None:
            del record
            prepare_sqlite(connection, write=write)
            if write:
                connection.execute(_NO_WAIT)

        def begun(connection: Connection) -> None:
            if write:
                take_turn(cast("sqlite3.Connection", connection.connection.driver_connection), BUSY_MS / 1000)
            else:
                connection.exec_driver_sql("BEGIN")

        event.listen(engine, "connect", connected)
        event.listen(engine, "begin", begun)
        self.activity.watch(engine)
        return engine

    def _engine(self, *, write: bool) -> AsyncEngine:
        if not self.sqlite:
            server = create_async_engine(self.url, pool_size=READERS + 1, max_overflow=0, **_SERVER)
            self.activity.watch(server.sync_engine)
            return server
        engine = create_async_engine(
            self.url, poolclass=AsyncAdaptedQueuePool, pool_size=1 if write else READERS, max_overflow=0
        )
        begin = "BEGIN IMMEDIATE" if write else "BEGIN"

        def connected(connection: Any, record: object) -> None:
            del record
            prepare_sqlite(connection, write=write)

        def begun(connection: Connection) -> None:
            connection.exec_driver_sql(begin)

        event.listen(engine.sync_engine, "connect", connected)
        event.listen(engine.sync_engine, "begin", begun)
        self.activity.watch(engine.sync_engine)
        return engine
