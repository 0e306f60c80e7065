"""`POST /v1/search` and `/metrics` of a real `knowledge serve`, over keep-alive connections from another process.

`python bench/http_api.py --home DIR [--seconds 10] [--clients 32] [--json]`: `DIR` is a data directory with items (see
`bench/speed.py`); it is copied, never written to. Server and clients share two cores (`taskset`, where there is one).
Every question is asked once only, so no cache answers; `--repeat` asks from a small set, as people do. One client:
p50 and p95. Many: requests a second, p95, errors, and the processor time of the server a request, which other work on
the machine disturbs least.
"""

from __future__ import annotations

import argparse
import asyncio
import http.client
import json
import os
import platform
import random
import shutil
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

if TYPE_CHECKING:
    from collections.abc import Iterator

KNOWLEDGE = Path(sys.executable).with_name("knowledge")
CORES = "0,1"
WARM_UP = 60
TARGETS = {"one client p95 ms": 25.0, "requests/s": 150.0, "many p95 ms": 400.0, "/metrics ms": 50.0}


def words_of(home: Path) -> list[str]:
    """Return words that occur in the titles of the items, so that questions find something."""
    connection = sqlite3.connect(f"file:{home / 'analytics.db'}?mode=ro", uri=True)
    rows = connection.execute("SELECT title FROM knowledge_items ORDER BY id LIMIT 3000").fetchall()
    connection.close()
    return sorted({word for (title,) in rows for word in title.split() if word.isalpha() and len(word) > 3})


class Questions:
    """Questions of four to nine words, each asked once, or from a set of fifty."""

    def __init__(self, words: list[str], *, repeat: bool) -> None:
        self._words = words
        self._chance = random.Random(7)
        self._set = [self._fresh() for _ in range(50)] if repeat else []

    def _fresh(self) -> str:
        return " ".join(self._chance.sample(self._words, self._chance.randint(4, 9)))

    def body(self) -> bytes:
        """Return the body of the next request."""
        query = self._chance.choice(self._set) if self._set else self._fresh()
        return json.dumps({"query": query, "limit": 10}).encode()


@contextmanager
def service(home: Path) -> Iterator[tuple[str, psutil.Process]]:
    """Run the service on the two cores and yield its address and process."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("KNOWLEDGE")}
    environment = {**kept, "KNOWLEDGE_HOME": str(home), "HOME": str(home.parent)}
    command = [str(KNOWLEDGE), "--json", "serve", "--port", "0"]
    pinned = ["taskset", "-c", CORES, *command] if shutil.which("taskset") else command
    process = subprocess.Popen(pinned, env=environment, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield str(json.loads(process.stdout.readline())["url"]), psutil.Process(process.pid)
    finally:
        process.terminate()
        process.wait(60)


def one_client(url: str, questions: Questions, times: int) -> dict[str, float]:
    """Ask one after the other over one connection."""
    place = url.removeprefix("http://")
    connection = http.client.HTTPConnection(place, timeout=60)
    took = []
    for number in range(times + WARM_UP):
        body = questions.body()
        began = time.perf_counter()
        connection.request("POST", "/v1/search", body, {"content-type": "application/json"})
        response = connection.getresponse()
        answer = response.read()
        if number >= WARM_UP:
            took.append(1000 * (time.perf_counter() - began))
        assert response.status == 200, answer
    connection.close()
    return percentiles(took)


def percentiles(took: list[float]) -> dict[str, float]:
    cut = statistics.quantiles(took, n=100, method="inclusive")
    return {"p50": round(cut[49], 1), "p95": round(cut[94], 1), "p99": round(cut[98], 1), "max": round(max(took), 1)}


async def many(url: str, questions: Questions, clients: int, seconds: float) -> dict[str, Any]:
    """Let clients ask without pause, each over its own connection, written by hand: a library would cost more."""
    host, _, port = url.removeprefix("http://").rpartition(":")
    took: list[float] = []
    sent: list[int] = []
    errors = 0
    begin = time.perf_counter() + 1.0  # the first second does not count
    end = begin + seconds

    async def client() -> None:
        nonlocal errors
        reader, writer = await asyncio.open_connection(host, int(port))
        while time.perf_counter() < end:
            body = questions.body()
            head = f"POST /v1/search HTTP/1.1\r\nhost: {host}:{port}\r\ncontent-type: application/json\r\n"
            began = time.perf_counter()
            writer.write(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)
            status = await _answer(reader)
            sent.append(status)
            if began >= begin:
                took.append(1000 * (time.perf_counter() - began))
                errors += status != 200
        writer.close()

    results = await asyncio.gather(*(client() for _ in range(clients)), return_exceptions=True)
    errors += sum(isinstance(one, BaseException) for one in results)
    return {"requests_per_s": round(len(took) / seconds, 1), **percentiles(took), "errors": errors, "sent": len(sent)}


async def _answer(reader: asyncio.StreamReader) -> int:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
    length = next(int(line[15:]) for line in head.split("\r\n") if line.startswith("content-length:"))
    await reader.readexactly(length)
    return int(head.split(" ", 2)[1])


def _cpu(process: psutil.Process) -> float:
    """Return the processor seconds of the service, its children included."""
    family = [process, *process.children(recursive=True)]
    return float(sum(one.cpu_times().user + one.cpu_times().system for one in family))


def metrics(url: str, times: int = 20) -> dict[str, Any]:
    """Fetch `/metrics`, where there is one."""
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=60)
    took, size = [], 0
    for _ in range(times):
        began = time.perf_counter()
        connection.request("GET", "/metrics")
        response = connection.getresponse()
        size = len(response.read())
        if response.status != 200:
            return {"status": response.status}
        took.append(1000 * (time.perf_counter() - began))
    return {**percentiles(took), "bytes": size}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--requests", type=int, default=300)
    parser.add_argument("--repeat", action="store_true")
    parser.add_argument("--in-place", action="store_true", help="Use the home itself instead of a copy.")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if hasattr(os, "sched_setaffinity") and shutil.which("taskset"):
        os.sched_setaffinity(0, {int(core) for core in CORES.split(",")})
    with tempfile.TemporaryDirectory() as scratch:
        home = options.home
        if not options.in_place:
            home = Path(scratch) / "home"
            subprocess.run(["cp", "-a", "--sparse=always", options.home, home], check=True)
        questions = Questions(words_of(home), repeat=options.repeat)
        with service(home) as (url, process):
            alone = one_client(url, questions, options.requests)
            before = _cpu(process)
            together = asyncio.run(many(url, questions, options.clients, options.seconds))
            together["server_cpu_ms_per_request"] = round(1000 * (_cpu(process) - before) / together.pop("sent"), 2)
            found = {
                "one_client_ms": alone,
                "clients": options.clients,
                "many": together,
                "metrics_ms": metrics(url),
                "targets": TARGETS,
                "load": [round(one, 1) for one in os.getloadavg()],
                "machine": f"{platform.machine()}, {os.cpu_count()} cores, two used by server and clients together",
            }
    print(json.dumps(found, indent=None if options.json else 2))


if __name__ == "__main__":
    main()
