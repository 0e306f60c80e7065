"""Directories outside pytest's own that a test process makes: named after it, so that the next one finds what it left.

A process that is asked to end clears up (`tests/conftest.py` turns SIGTERM into an interruption); one that is killed
cannot, and a PostgreSQL server would run on for ever.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil


@contextlib.contextmanager
def own_folder(prefix: str, parent: Path | None = None) -> Iterator[Path]:
    """Make a directory for the block, after removing those of processes that are no more.

    The name is short: a socket's path has at most 107 characters.
    """
    place = parent or Path(tempfile.gettempdir())
    sweep(place, prefix)
    folder = Path(tempfile.mkdtemp(dir=place, prefix=f"{prefix}{os.getpid()}-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def sweep(parent: Path, prefix: str) -> None:
    """End and remove what test processes that are no more left below `parent`."""
    for folder in parent.glob(f"{prefix}[0-9]*-*"):
        owner = folder.name[len(prefix) :].partition("-")[0]
        if owner.isdecimal() and not psutil.pid_exists(int(owner)):
            _end_postgres(folder / "data")
            shutil.rmtree(folder, ignore_errors=True)


def _end_postgres(data: Path) -> None:
    """End the server on `data`, if it is really the one that the file tells of."""
    with contextlib.suppress(OSError, ValueError, IndexError, psutil.Error):
        server = psutil.Process(int((data / "postmaster.pid").read_text().splitlines()[0]))
        if str(data) in server.cmdline():
            server.send_signal(signal.SIGQUIT)  # at once: nobody will read what it holds
            psutil.wait_procs([server], timeout=30)
