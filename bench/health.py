"""How long the health paths take, idle and with what they depend on hanging, black box.

`python bench/health.py --home DIR [--times 8]`: `DIR` is a data directory with items (see `bench/speed.py`); it is
copied, never written to. Each answer is asked for after the one before has expired. Prints milliseconds.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

KNOWLEDGE = Path(sys.executable).with_name("knowledge")
EXPIRED = 1.7
"""Seconds after which a report is made anew (`operations/health.py`, KEPT_FOR)."""
CROWD = 64


@contextmanager
def silent() -> Iterator[int]:
    """Listen and never answer: a Redis or a provider that hangs."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(512)
        yield listener.getsockname()[1]


@contextmanager
def serving(home: Path, configuration: dict[str, object]) -> Iterator[tuple[str, int]]:
    """Run the service; yields its URL and process id."""
    (home / "config.json").write_text(json.dumps(configuration))
    environment = {**os.environ, "HOME": str(home.parent), "GROQ_API_KEY": "key-of-a-bench"}
    command = [str(KNOWLEDGE), "--json", "--home", str(home), "serve", "--port", "0"]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield json.loads(process.stdout.readline())["url"], process.pid
        finally:
            process.send_signal(signal.SIGTERM)


@contextmanager
def locked(home: Path) -> Iterator[None]:
    """Hold the write lock of the database."""
    connection = sqlite3.connect(home / "analytics.db", isolation_level=None)
    connection.execute("BEGIN EXCLUSIVE")
    yield
    connection.execute("ROLLBACK")
    connection.close()


@contextmanager
def stopped(parent: int) -> Iterator[None]:
    """Stop the process of the index; after fifteen seconds its supervisor replaces it, and the answers are well."""
    told = subprocess.run(["ps", "--ppid", str(parent), "-o", "pid=,args="], capture_output=True, text=True, check=True)
    (child,) = [int(line.split()[0]) for line in told.stdout.splitlines() if "index_service" in line]
    os.kill(child, signal.SIGSTOP)
    try:
        yield
    finally:
        with suppress(ProcessLookupError):
            os.kill(child, signal.SIGCONT)


def ask(url: str) -> tuple[float, int, str]:
    """Return milliseconds, status and what the answer says."""
    began = time.perf_counter()
    try:
        with urllib.request.urlopen(url, timeout=30) as response:  # noqa: S310 -- of this machine
            status, body = response.status, response.read()
    except urllib.error.HTTPError as error:
        status, body = error.code, error.read()
    return 1000 * (time.perf_counter() - began), status, json.loads(body)["status"]


def measure(name: str, url: str, times: int, situation: AbstractContextManager[object]) -> None:
    """Print median and longest of each path."""
    with situation:
        for path in ("/health/live", "/health/ready", "/health"):
            answers = []
            for _ in range(times):
                time.sleep(EXPIRED)
                answers.append(ask(url + path))
            took = sorted(one[0] for one in answers)
            said = "/".join(sorted({f"{status} {word}" for _, status, word in answers}))
            sys.stdout.write(f"{name:<28} {path:<14} {took[len(took) // 2]:8.1f} {took[-1]:8.1f}  {said}\n")
            sys.stdout.flush()
        with ThreadPoolExecutor(CROWD) as crowd:
            time.sleep(EXPIRED)
            took = sorted(one[0] for one in crowd.map(ask, [url + "/health/ready"] * CROWD))
        sys.stdout.write(f"{name:<28} {CROWD} at once     {took[len(took) // 2]:8.1f} {took[-1]:8.1f}\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--times", type=int, default=8)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, silent() as port:
        home = Path(folder) / "home"
        shutil.copytree(chosen.home, home, symlinks=True, ignore=shutil.ignore_patterns("lock", "service.token"))
        sys.stdout.write(f"load {os.getloadavg()[0]:.1f}\n{'':<43}   median  longest\n")
        with serving(home, {}) as (url, pid):
            ask(url + "/health/ready")
            measure("idle", url, chosen.times, nullcontext())
            measure("index stopped", url, chosen.times, stopped(pid))
            measure("write lock held", url, chosen.times, locked(home))
        provider = {"groq": {"baseUrl": f"http://127.0.0.1:{port}"}}
        hanging = {"cache": {"l2": {"url": f"redis://127.0.0.1:{port}/0"}}, "inference": {"providers": provider}}
        with serving(home, hanging) as (url, _):
            ask(url + "/health/ready")
            measure("Redis and provider hanging", url, chosen.times, nullcontext())


if __name__ == "__main__":
    main()
