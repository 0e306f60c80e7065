"""Fixed sequences of statements, run in one go on the driver's own connection: what every paid model call writes.

A script knows all its statements beforehand, so nothing of ours runs between them: on SQLite the write lock is held for
tens of microseconds, on PostgreSQL a script is one round trip (a pipeline) however many statements it has.

SQLite's own wait for the lock sleeps up to 100 ms at a time, which is where a dozen writers lose their milliseconds;
here the lock is asked for again after a fraction of one, and who has waited longest asks most often.
"""

from __future__ import annotations

import contextlib
import sqlite3
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DBAPIError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from sqlalchemy import URL, Dialect
    from sqlalchemy.sql import ClauseElement

_SHORTEST, _LONGEST, _URGENCY = 0.00002, 0.0005, 0.15
"""Seconds between two requests for SQLite's write lock, which another writer holds for about 0.0002: the first pause is
the longest, and each is shorter by this share of the time waited, so that who came first is nearly always served first.
"""

_CONTENDED, _POLITE = 0.005, 0.0004
"""For so many seconds after it had to wait, a process lets those go first who wait already: its pause beforehand."""

_SLOW, _WARY = 0.02, 1.0
"""A hundred times what a script takes; so an event loop stands still for one such script a second at most."""

_TIDY_AFTER = 200
"""Scripts, of five to ten pages each: about as often as SQLite itself would."""

_IDLE = 1.0
"""Seconds after which a connection to a server is tried before it is trusted."""


_Text = tuple[str, dict[str, Any]]
_Compiled = tuple[str, dict[str, Any], list[tuple[str, "Callable[[Any], Any]"]]]


class Prepared:
    """A statement compiled once for each engine, with what its parameters go through on their way to the driver."""

    def __init__(self, statement: ClauseElement) -> None:
        self._statement = statement
        self._compiled: dict[str, _Compiled] = {}

    def on(self, dialect: Dialect, values: dict[str, Any]) -> _Text:
        """Return text and parameters for the driver of `dialect`; unknown values are let be."""
        known = self._compiled.get(dialect.name)
        if known is None:
            known = self._compiled[dialect.name] = self._compile(dialect)
        text, constants, processed = known
        parameters = constants | values
        for name, process in processed:
            parameters[name] = process(parameters[name])
        return text, parameters

    def _compile(self, dialect: Dialect) -> _Compiled:
        compiled: Any = self._statement.compile(dialect=dialect)
        binds = {name: bind for bind, name in compiled.bind_names.items()}
        processors = ((name, bind.type.dialect_impl(dialect).bind_processor(dialect)) for name, bind in binds.items())
        constants = {name: bind.value for name, bind in binds.items() if not bind.required}
        return str(compiled), constants, [(name, process) for name, process in processors if process is not None]


Step = tuple[Prepared, dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Script:
    """`turn` is one transaction in turn with all other writers. What it says is read `afterwards`, in nobody's way.

    `proof` may be another transaction, after it and not in turn; it is on the disk when the script has ended, and then
    so is `turn`. A script without proof that is `losable` may be forgotten when the database server's machine loses its
    power (not when any process of ours dies); without either, `turn` is on the disk when the script has ended.
    """

    turn: Sequence[Step]
    proof: Sequence[Step] = ()
    afterwards: Step | None = None
    losable: bool = False


Rows = list[list[tuple[Any, ...]]]
"""The rows of every step in order: turn, proof, afterwards. A step that returns none has none."""


class Runner(Protocol):
    """Runs scripts, from one thread at a time. When it is `untidy`, another one calls `tidy`."""

    @property
    def untidy(self) -> bool:
        """Tell whether something is left to be done that no script should wait for."""
        ...

    def tidy(self) -> None:
        """Do it."""
        ...

    def run(self, scripts: Sequence[Script]) -> list[Rows]:
        """Run scripts one after another in one turn, all or none; blocks.

        Raises the driver's errors as SQLAlchemy's, or sqlite3's own.
        """
        ...

    def at_once(self, script: Script) -> Rows | None:
        """Run a script if that takes no waiting at all; None: nothing was done, `run` it in a thread."""
        ...

    def close(self) -> None:
        """Close what is open."""
        ...


def take_turn(connection: sqlite3.Connection, seconds: float) -> bool:
    """Begin a transaction that writes, as soon as nobody else does; return whether that took waiting.

    Raises sqlite3.OperationalError after `seconds`.
    """
    begun, waited = time.monotonic(), -1.0
    while not _begun(connection):
        waited = time.monotonic() - begun
        if waited >= seconds:
            raise sqlite3.OperationalError("database is locked")
        time.sleep(max(_LONGEST - waited * _URGENCY, _SHORTEST))
    return waited >= 0


def _begun(connection: sqlite3.Connection) -> bool:
    """Begin a transaction that writes, unless somebody else has."""
    try:
        connection.execute("BEGIN IMMEDIATE")
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY:
            return False
        _give_up(connection)
        raise
    return True


def _give_up(connection: sqlite3.Connection) -> None:
    """Leave a transaction that failed, however far it got: one left open would refuse every other."""
    while connection.in_transaction:
        with contextlib.suppress(sqlite3.Error):
            connection.execute("ROLLBACK")


class SqliteScripts:
    """One connection, one thread at a time. Commits reach the operating system, so no death of a process undoes one.

    Power loss may undo the commits since the last checkpoint (`synchronous` is NORMAL, as everywhere in the system).

    A script is a tenth of a millisecond of work on memory, less than handing it to a thread and back takes. So it runs
    where it is asked for while the lock is free. Whatever may block is left to a thread: waiting for the lock, writing
    the log back into the database (`tidy`), and everything for `_WARY` seconds after a script was `_SLOW`: on a disk
    that stalls, an event loop would stall with it.
    """

    _dialect: Dialect = sqlite.dialect(paramstyle="named")

    def __init__(self, connect: Callable[[], sqlite3.Connection], wait: float) -> None:
        self._connect = connect
        self._wait = wait
        self._connection: sqlite3.Connection | None = None
        self._tidying: sqlite3.Connection | None = None
        self._wary_until = self._contended_until = 0.0
        self._untidy = 0

    def run(self, scripts: Sequence[Script]) -> list[Rows]:
        """Run every `turn` and `proof` in one transaction, then what comes afterwards."""
        texts = [self._texts(script) for script in scripts]
        if self._connection is None:
            self._connection = self._opened()
        if time.monotonic() < self._contended_until:
            time.sleep(_POLITE)
        if take_turn(self._connection, self._wait):
            self._contended_until = time.monotonic() + _CONTENDED
        return self._run(self._connection, texts)

    def at_once(self, script: Script) -> Rows | None:
        """Run a script while nobody else writes, here or in another process."""
        if self._connection is None or time.monotonic() < max(self._wary_until, self._contended_until):
            return None
        texts = [self._texts(script)]
        begun = time.monotonic()
        rows = self._run(self._connection, texts) if _begun(self._connection) else None
        ended = time.monotonic()
        if ended - begun > _SLOW:
            self._wary_until = ended + _WARY
        return None if rows is None else rows[0]

    def _texts(self, script: Script) -> tuple[list[_Text], list[_Text]]:
        """Return what the driver is told, within the transaction and after it."""
        written = [prepared.on(self._dialect, values) for prepared, values in (*script.turn, *script.proof)]
        look = script.afterwards
        return written, [] if look is None else [look[0].on(self._dialect, look[1])]

    def _opened(self) -> sqlite3.Connection:
        connection = self._connect()
        connection.execute("PRAGMA wal_autocheckpoint = 0")
        return connection

    @property
    def untidy(self) -> bool:
        """Tell whether it is time to `tidy`."""
        return self._untidy >= _TIDY_AFTER

    def tidy(self) -> None:
        """Write the log back into the database, as far as nobody reads it: what SQLite would do at some commit.

        On a connection of its own: it waits for the disk, and scripts go on meanwhile.
        """
        self._untidy = 0
        if self._tidying is None:
            self._tidying = self._connect()
        self._tidying.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()

    def _run(self, connection: sqlite3.Connection, texts: list[tuple[list[_Text], list[_Text]]]) -> list[Rows]:
        """Run statements in the transaction that has begun, then the others."""
        self._untidy += len(texts)
        try:
            results = [[connection.execute(*text).fetchall() for text in written] for written, _ in texts]
            connection.execute("COMMIT")
        except BaseException:
            _give_up(connection)
            raise
        for rows, (_, after) in zip(results, texts, strict=True):
            rows += [connection.execute(*text).fetchall() for text in after]
        return results

    def close(self) -> None:
        """Close the connections."""
        for connection in (self._connection, self._tidying):
            if connection is not None:
                connection.close()
        self._connection = self._tidying = None


class PostgresScripts:
    """One connection. The turn is an advisory lock, asked for by a statement of its own.

    Its own, because a statement sees what was committed when it began: one that both waits and looks would decide on
    what stood before it waited. `turn` commits without waiting for the disk where its script allows it, so the next
    writer's turn does not wait for it either; `proof` then waits for the disk out of turn, together with everybody else
    who does. Commits reach the disk in their order: what is proved has all it rests on before it.
    """

    untidy = False
    _dialect: Dialect = postgresql.psycopg.dialect()  # type: ignore[no-untyped-call]

    def __init__(self, url: URL, options: Mapping[str, Any], lock: int) -> None:
        _, address = self._dialect.create_connect_args(url)
        self._address = {**address, **options}
        self._connection: Any = None
        self._used = 0.0
        waiting = f"SELECT pg_advisory_xact_lock({lock})"
        self._take_turn = {
            False: waiting,
            True: f"{waiting}, set_config('synchronous_commit', 'off', true)",
        }

    def run(self, scripts: Sequence[Script]) -> list[Rows]:
        """Run the scripts in one round trip."""
        import psycopg  # noqa: PLC0415 -- most installations never need it

        try:
            return self._piped(self._connected(), scripts)
        except psycopg.Error as error:
            wrapped = DBAPIError.instance(None, None, error, psycopg.Error, dialect=self._dialect)
            raise wrapped from error

    def tidy(self) -> None:
        """Do nothing: the server keeps its own house."""

    def at_once(self, script: Script) -> None:
        """Do nothing: a server is always waited for."""
        del script

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _piped(self, connection: Any, scripts: Sequence[Script]) -> list[Rows]:
        soon = all(script.proof or script.losable for script in scripts)
        with connection.pipeline() as pipeline:
            connection.execute(self._take_turn[soon], prepare=True)
            cursors = [[self._sent(connection, step) for step in script.turn] for script in scripts]
            pipeline.sync()
            for sent, script in zip(cursors, scripts, strict=True):
                sent += [self._sent(connection, step) for step in script.proof]
            pipeline.sync()
            for sent, script in zip(cursors, scripts, strict=True):
                sent += [self._sent(connection, step) for step in (script.afterwards,) if step is not None]
        self._used = time.monotonic()
        return [[cursor.fetchall() if cursor.description else [] for cursor in sent] for sent in cursors]

    def _sent(self, connection: Any, step: Step) -> Any:
        text, parameters = step[0].on(self._dialect, step[1])
        return connection.execute(text, parameters, prepare=True)

    def _connected(self) -> Any:
        """Return the connection; one that died while it was idle is replaced."""
        import psycopg  # noqa: PLC0415 -- as above
        from psycopg.types.numeric import Int8Dumper  # noqa: PLC0415

        if self._connection is not None and not self._connection.closed:
            if time.monotonic() - self._used < _IDLE:
                return self._connection
            with contextlib.suppress(psycopg.OperationalError):
                self._connection.execute("SELECT 1")
                return self._connection
        self.close()
        connection = psycopg.connect(**self._address, autocommit=True)
        connection.adapters.register_dumper(int, Int8Dumper)  # one plan for amounts of all sizes
        self._connection, self._used = connection, time.monotonic()
        return connection
