"""Every failure of an engine that an operator can do something about has a class and a hint."""

from __future__ import annotations

import sqlite3

import pytest
import sqlalchemy.exc
from psycopg import errors

from knowledge_system.domain.errors import Busy, DependencyUnavailable, IntegrityFailure, KnowledgeError
from knowledge_system.storage.failures import translate, translated

SQLITE = {
    "database or disk is full": DependencyUnavailable,
    "attempt to write a readonly database": DependencyUnavailable,
    "unable to open database file": DependencyUnavailable,
    "disk I/O error": DependencyUnavailable,
    "database is locked": Busy,
    "database table is locked: exchanges": Busy,
    "file is not a database": IntegrityFailure,
    "database disk image is malformed": IntegrityFailure,
}
POSTGRES = {
    errors.LockNotAvailable: Busy,
    errors.DeadlockDetected: Busy,
    errors.SerializationFailure: Busy,
    errors.QueryCanceled: Busy,
    errors.DiskFull: DependencyUnavailable,
    errors.ReadOnlySqlTransaction: DependencyUnavailable,
    errors.InsufficientPrivilege: DependencyUnavailable,
    errors.AdminShutdown: DependencyUnavailable,
    errors.TooManyConnections: DependencyUnavailable,
    errors.DataCorrupted: IntegrityFailure,
    errors.IndexCorrupted: IntegrityFailure,
}


@pytest.mark.parametrize("message", SQLITE)
@pytest.mark.parametrize("wrapped", [True, False])
def test_sqlite(message: str, wrapped: bool) -> None:  # noqa: FBT001 -- a test parameter
    plain = sqlite3.OperationalError(message)
    ours = translate(sqlalchemy.exc.OperationalError("SELECT", {}, plain) if wrapped else plain, "/data/a.db")
    assert type(ours) is SQLITE[message]
    assert ours.hint
    assert "/data/a.db" in ours.message


@pytest.mark.parametrize("kind", POSTGRES, ids=lambda kind: kind.__name__)
def test_postgres(kind: type[errors.Error]) -> None:
    plain = kind("first line\nsecond line")
    wrapper = sqlalchemy.exc.DBAPIError.instance("SELECT", {}, plain, errors.Error)
    ours = translate(wrapper, "server")  # type: ignore[arg-type]
    assert type(ours) is POSTGRES[kind]
    assert ours.hint
    assert "second line" not in ours.message


def test_a_crowd_at_the_door_is_busy() -> None:
    assert type(translate(sqlalchemy.exc.TimeoutError("QueuePool limit"), "db")) is Busy


@pytest.mark.parametrize(
    "defect",
    [
        sqlite3.OperationalError('near "SELEC": syntax error'),
        sqlite3.IntegrityError("UNIQUE constraint failed: exchanges.id"),
        sqlalchemy.exc.ProgrammingError("SELEC", {}, errors.SyntaxError("syntax error")),
        sqlalchemy.exc.NoSuchColumnError("x"),
    ],
)
def test_a_defect_of_ours_is_not_dressed_up(defect: Exception) -> None:
    with pytest.raises(type(defect)), translated("db"):
        raise defect


def test_our_own_errors_pass() -> None:
    with pytest.raises(KnowledgeError, match="mine"), translated("db"):
        raise KnowledgeError("mine")
