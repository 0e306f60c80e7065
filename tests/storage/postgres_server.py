"""A private PostgreSQL server for the tests: own directory, own socket, no port, gone afterwards."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
from tests.leftovers import own_folder

if TYPE_CHECKING:
    from collections.abc import Iterator

_FAST = (
    "fsync=off",
    "synchronous_commit=off",
    "full_page_writes=off",
    "listen_addresses=",
    "max_connections=60",
    "dynamic_shared_memory_type=mmap",
)


def binaries() -> Path | None:
    """Return the newest installed server's directory of commands."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: float(path.parts[-3]))
    on_path = shutil.which("initdb")
    if found:
        return found[-1].parent
    return Path(on_path).resolve().parent if on_path else None


class Server:
    """A running server that hands out fresh databases."""

    def __init__(self, sockets: Path) -> None:
        self.folder = sockets
        self._names: list[str] = []

    def url(self, database: str) -> str:
        return f"postgresql://postgres@/{database}?host={self.folder}"

    def execute(self, statement: str) -> None:
        with psycopg.connect(f"host={self.folder} user=postgres dbname=postgres", autocommit=True) as connection:
            connection.execute(statement.encode())

    def create(self, template: str = "template1") -> str:
        """Create a database and return its name."""
        name = f"test_{uuid.uuid4().hex}"
        self.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
        return name

    def drop(self, name: str) -> None:
        self.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


@contextlib.contextmanager
def running(commands: Path) -> Iterator[Server]:
    """Start a server in a fresh directory; stop and remove it at the end, or at the next start if that never comes."""
    with own_folder("pg") as home:
        user = _give_away(home)
        data = home / "data"
        settings = [part for setting in (*_FAST, f"unix_socket_directories={home}") for part in ("-c", setting)]
        _initialise(user, commands, data)
        options = " ".join(settings)
        subprocess.run(
            [*user, str(commands / "pg_ctl"), "-D", str(data), "-w", "-l", str(home / "log"), "-o", options, "start"],
            check=True,
            stdout=subprocess.DEVNULL,
        )
        try:
            yield Server(home)
        finally:
            stop = [*user, str(commands / "pg_ctl"), "-D", str(data), "-m", "immediate", "stop"]
            subprocess.run(stop, check=True, stdout=subprocess.DEVNULL)


def _give_away(home: Path) -> list[str]:
    """Return the command prefix that leaves root behind, which the server refuses to run as."""
    if os.geteuid() != 0:
        return []
    shutil.chown(home, "postgres")
    return ["runuser", "-u", "postgres", "--"]


def _initialise(user: list[str], commands: Path, data: Path) -> None:
    """Create the cluster with a natural-language order, so that a column that relies on the default order is found."""
    plain = [
        *user,
        str(commands / "initdb"),
        "-D",
        str(data),
        "-U",
        "postgres",
        "--no-sync",
        "-A",
        "trust",
        "-E",
        "UTF8",
    ]
    natural = [*plain, "--locale=C.UTF-8", "--locale-provider=icu", "--icu-locale=en-US"]
    if subprocess.run(natural, check=False, capture_output=True, cwd="/").returncode != 0:
        shutil.rmtree(data, ignore_errors=True)
        subprocess.run(plain, check=True, capture_output=True, cwd="/")
