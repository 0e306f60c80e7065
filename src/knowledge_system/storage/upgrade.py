"""Brings a database to the newest schema, or says why that cannot be done; touches nothing that is not ours."""

from __future__ import annotations

import os
import secrets
import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import create_engine, event, inspect, text

from knowledge_system.domain.errors import DependencyUnavailable, IntegrityFailure, NewerSchema
from knowledge_system.storage.connections import BUSY_MS, WRITE_LOCK, prepare_sqlite
from knowledge_system.storage.failures import translated
from knowledge_system.storage.schema import REVISIONS

if TYPE_CHECKING:
    from typing import Any

    from sqlalchemy import URL, Connection, Engine

MIGRATIONS = Path(__file__).parent / "migrations"
HEAD = REVISIONS[-1]
MIGRATING_MS = 12 * BUSY_MS
"""How long a process waits while another one brings the schema up."""


def bring_to_head(url: URL, place: str) -> None:
    """Create or migrate the database in one transaction. Blocks; a database that is up to date costs one look.

    Raises NewerSchema for a revision this version does not know, IntegrityFailure for a file that is not ours.
    """
    with translated(place):
        if _revision(url, place) == HEAD:
            return
        if url.get_backend_name() == "sqlite":
            _create_private(Path(url.database or ""))
        migrate(url, HEAD)


def migrate(url: URL, revision: str, scripts: Path = MIGRATIONS) -> None:
    """Run the migrations in `scripts` up or down to `revision` (`base` empties the schema), all or nothing."""
    from alembic import command  # noqa: PLC0415 -- 0.4 s that an up-to-date database never pays
    from alembic.config import Config  # noqa: PLC0415 -- as above

    engine = _migrating_engine(url)
    config = Config()
    config.set_main_option("script_location", str(scripts).replace("%", "%%"))
    try:
        with engine.begin() as connection:
            if engine.dialect.name == "postgresql":
                connection.execute(text(f"SELECT pg_advisory_xact_lock({WRITE_LOCK})"))
            current = _alembic_revision(connection)
            down = revision == "base" or (current or "") > revision  # revisions are numbered in order
            config.attributes["connection"] = connection
            (command.downgrade if down else command.upgrade)(config, revision)
            if revision != "base":
                _name_instance(connection)
    finally:
        engine.dispose()


def _migrating_engine(url: URL) -> Engine:
    if url.get_backend_name() != "sqlite":
        return create_engine(url, connect_args={"options": f"-c lock_timeout={MIGRATING_MS}", "connect_timeout": 10})
    engine = create_engine(url.set(drivername="sqlite"))

    def connected(connection: Any, record: object) -> None:
        del record
        prepare_sqlite(connection, write=True, wait_ms=MIGRATING_MS)
        connection.execute("PRAGMA foreign_keys = OFF")  # a table that is rebuilt is dropped for a moment

    def begun(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    event.listen(engine, "connect", connected)
    event.listen(engine, "begin", begun)
    return engine


def _revision(url: URL, place: str) -> str | None:
    """Return the revision of a database of ours, None for an empty one."""
    revision = _sqlite_revision(url, place) if url.get_backend_name() == "sqlite" else _server_revision(url)
    if revision is not None and revision not in REVISIONS:
        raise NewerSchema(
            f"The database {place} has schema {revision}, this version knows up to {HEAD}.",
            hint="install the version that wrote it, or a newer one",
        )
    return revision


def _sqlite_revision(url: URL, place: str) -> str | None:
    path = Path(url.database or "")
    if path.is_dir():
        raise DependencyUnavailable(f"{place} is a directory.", hint="name a file in that directory in database.url")
    if not path.exists() or path.stat().st_size == 0:
        return None
    killed = path.with_name(f"{path.name}-journal").exists()  # while it was being created: only a writer can undo that
    mode = "rw" if killed else "ro"
    connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode={mode}", uri=True, timeout=BUSY_MS / 1000)
    try:
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        if not tables:
            return None
        if "alembic_version" not in tables:
            raise IntegrityFailure(
                f"{place} is a database of another program.", hint="choose another path for database.url"
            )
        row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
        return None if row is None else str(row[0])
    finally:
        connection.close()


def _server_revision(url: URL) -> str | None:
    engine = _migrating_engine(url)
    try:
        with engine.connect() as connection:
            return _alembic_revision(connection)
    finally:
        engine.dispose()


def _alembic_revision(connection: Connection) -> str | None:
    if not inspect(connection).has_table("alembic_version"):
        return None
    value = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
    return None if value is None else str(value)


def _create_private(path: Path) -> None:
    """Create the file readable by its owner only: SQLite gives its companions the same mode."""
    try:
        os.close(os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))
    except OSError as error:
        raise DependencyUnavailable(
            f"The database {path} cannot be created: {error.strerror}.",
            hint="check that the directory exists and that this user may write there",
        ) from error


def _name_instance(connection: Connection) -> None:
    found = connection.execute(text("SELECT value FROM instance WHERE key = 'instance_id'")).first()
    if found is None:
        connection.execute(
            text("INSERT INTO instance (key, value) VALUES ('instance_id', :value)"), {"value": secrets.token_hex(16)}
        )
