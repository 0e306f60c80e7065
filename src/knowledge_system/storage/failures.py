"""What an engine's error means to the one who asked, and what to do about it."""

from __future__ import annotations

import sqlite3
from contextlib import contextmanager
from typing import TYPE_CHECKING

import sqlalchemy.exc

from knowledge_system.domain.errors import Busy, DependencyUnavailable, IntegrityFailure, KnowledgeError

if TYPE_CHECKING:
    from collections.abc import Iterator

_UNAVAILABLE = (
    ("disk is full", "free disk space below the data directory, then repeat the command"),
    ("readonly", "make the database and its directory writable for this user"),
    ("read-only", "make the database and its directory writable for this user"),
    ("unable to open", "check that the directory exists and that this user may write there"),
    ("disk i/o error", "check the disk and the system log, then run `knowledge doctor`"),
)
_BUSY = ("database is locked", "database table is locked", "database schema is locked")
_BROKEN = ("file is not a database", "malformed", "file is encrypted")
_RESTORE = "restore a backup with `knowledge backup restore`; `knowledge doctor` says more"


def translate(error: BaseException, place: str) -> KnowledgeError | None:
    """Return the error of ours that stands for `error` on the database at `place`, or None when it is a defect."""
    cause = error.orig if isinstance(error, sqlalchemy.exc.DBAPIError) and error.orig is not None else error
    if isinstance(cause, sqlite3.Error):
        return _from_sqlite(str(cause).lower(), place)
    if isinstance(error, sqlalchemy.exc.DBAPIError):
        return _from_postgres(error, place)
    if isinstance(error, sqlalchemy.exc.TimeoutError):
        return Busy(f"No connection to {place} became free in time.", hint="try again; too much runs at once")
    return None


def _from_sqlite(message: str, place: str) -> KnowledgeError | None:
    for part, hint in _UNAVAILABLE:
        if part in message:
            return DependencyUnavailable(f"The database {place} cannot be used: {message}.", hint=hint)
    if any(part in message for part in _BUSY):
        return Busy(f"Another process is writing to {place}.", hint="wait for it to finish, or stop it, and try again")
    if any(part in message for part in _BROKEN):
        return IntegrityFailure(f"{place} is not a sound database: {message}.", hint=_RESTORE)
    return None


def _from_postgres(error: sqlalchemy.exc.DBAPIError, place: str) -> KnowledgeError | None:
    """Translate by SQLSTATE. The driver is not imported here: most installations never need it."""
    state = getattr(error.orig, "sqlstate", None) or ""
    message = (str(error.orig).strip() or type(error.orig).__name__).splitlines()[0]
    if state in {"55P03", "40P01", "40001", "57014"}:  # lock timeout, deadlock, serialization, statement timeout
        return Busy(f"Another process is writing to {place}.", hint="wait for it to finish, and try again")
    if state == "53100":
        return DependencyUnavailable(f"The database {place} cannot be used: {message}.", hint=_UNAVAILABLE[0][1])
    if state in {"25006", "42501"}:  # read-only transaction, insufficient privilege
        return DependencyUnavailable(
            f"The database {place} cannot be used: {message}.", hint="give this user the right to create and write"
        )
    if state.startswith(("XX001", "XX002")):
        return IntegrityFailure(f"{place} is not a sound database: {message}.", hint=_RESTORE)
    if isinstance(error, sqlalchemy.exc.OperationalError):
        return DependencyUnavailable(
            f"The database {place} cannot be reached: {message}.",
            hint="check that the server runs and that address, user and password in database.url are right",
        )
    return None


@contextmanager
def translated(place: str) -> Iterator[None]:
    """Raise the errors of the engines as ours; what has no translation passes unchanged."""
    try:
        yield
    except (sqlalchemy.exc.SQLAlchemyError, sqlite3.Error) as error:
        ours = translate(error, place)
        if ours is None:
            raise
        raise ours from error
