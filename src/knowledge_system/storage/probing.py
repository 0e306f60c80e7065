"""Asking a SQLite database from outside the pools: whether it answers, who locks it, whether its log can be emptied.

Every call opens a connection of its own, so it neither waits for our own readers and writers nor takes their place.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import quote

if TYPE_CHECKING:
    from collections.abc import Iterator

_LOCKED = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
_PROC_LOCKS = Path("/proc/locks")
_WORDS = 7
"""Words of a line of it, without its number."""

_SHM_BASE = 120
_SHM_ROLES = {0: "writes", 1: "checkpoints", 2: "recovers the log"}
_SHM_READERS = range(3, 8)
_PENDING = 0x40000000
"""Where SQLite puts its locks: os_unix.c (`UNIX_SHM_BASE`), wal.c (`WAL_WRITE_LOCK` …), sqlite3.h (`PENDING_BYTE`)."""


@dataclass(frozen=True, slots=True)
class Probed:
    """Seconds that reading took, and seconds until the write lock was had: None when it was not."""

    seconds: float
    write_lock: float | None


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What `PRAGMA wal_checkpoint(TRUNCATE)` says: pages in the log and pages of it in the database; -1: no such log.

    `busy`: it could not be finished, because somebody still reads an older state or writes (D29).
    """

    busy: bool
    log_pages: int
    moved_pages: int
    seconds: float


@dataclass(frozen=True, slots=True)
class LockHolder:
    """A process that has a lock on the database, and what for."""

    pid: int
    command: str
    role: str


def answers(path: str, within: float) -> float:
    """Return the seconds that a read took. Raises sqlite3.Error when there was none `within` seconds."""
    began = time.perf_counter()
    with _opened(path, within) as connection:
        connection.execute("SELECT 1").fetchone()
        connection.execute("SELECT count(*) FROM sqlite_master").fetchone()  # the line above touches no file
    return time.perf_counter() - began


def probe(path: str, within: float, lock_within: float) -> Probed:
    """Return how long a read and the write lock took; the lock is given back at once. Raises sqlite3.Error."""
    seconds = answers(path, within)
    began = time.perf_counter()
    with _opened(path, lock_within) as connection:
        try:
            connection.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode not in _LOCKED:
                raise
            return Probed(seconds, None)
        waited = time.perf_counter() - began
        connection.execute("ROLLBACK")
    return Probed(seconds, waited)


def checkpoint(path: str, within: float) -> Checkpoint:
    """Fold the log into the database and empty it, waiting `within` seconds for readers. Raises sqlite3.Error."""
    began = time.perf_counter()
    with _opened(path, within) as connection:
        busy, log, moved = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    return Checkpoint(bool(busy), int(log), int(moved), time.perf_counter() - began)


def log_bytes(path: str) -> int:
    """Return the size of the write-ahead log, 0 without one."""
    with contextlib.suppress(OSError):
        return Path(f"{path}-wal").stat().st_size
    return 0


def lock_holders(path: str) -> list[LockHolder] | None:
    """Return who has locks on the database, readers included; None where the system does not tell (no /proc/locks)."""
    try:
        lines = _PROC_LOCKS.read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    found = []
    for suffix, role_of in (("-shm", _log_role), ("", _file_role)):
        with contextlib.suppress(OSError):
            inode = Path(f"{path}{suffix}").stat().st_ino
            found += [_holder(one.pid, role) for one in _ranges(lines, inode) if (role := role_of(one))]
    return list(dict.fromkeys(found))


@contextlib.contextmanager
def _opened(path: str, within: float) -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(f"file:{quote(path)}?mode=rw", uri=True, timeout=within, isolation_level=None)
    try:
        yield connection
    finally:
        connection.close()


class _Range(NamedTuple):
    pid: int
    mode: str
    first: int
    last: int


def _ranges(lines: list[str], inode: int) -> Iterator[_Range]:
    """Yield the locks held on a file: `12: POSIX ADVISORY WRITE 34 08:01:567 120 120`, the last two its bytes."""
    for line in lines:
        _, *words = line.split()
        if len(words) == _WORDS and words[4].rpartition(":")[2] == str(inode):  # one that waits has an arrow more
            yield _Range(int(words[3]), words[2], int(words[5]), -1 if words[6] == "EOF" else int(words[6]))


def _log_role(held: _Range) -> str:
    slots = range(held.first - _SHM_BASE, max(held.first, held.last) - _SHM_BASE + 1)
    roles = [_SHM_ROLES[slot] for slot in slots if slot in _SHM_ROLES]
    return roles[0] if roles else "reads" if any(slot in _SHM_READERS for slot in slots) else ""


def _file_role(held: _Range) -> str:
    return "has the whole file" if held.mode == "WRITE" and held.first >= _PENDING else ""


def _holder(pid: int, role: str) -> LockHolder:
    command = "unknown"
    with contextlib.suppress(OSError):
        command = Path(f"/proc/{pid}/comm").read_text(encoding="utf-8", errors="replace").strip()
    return LockHolder(pid, "this process" if pid == os.getpid() else command, role)
