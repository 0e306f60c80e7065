"""What reserving and settling money costs when several processes share one ledger.

`python bench/engine_ledger.py [--postgres-bin DIR] [--writers 8] [--calls 300]` prints JSON: milliseconds of reserving,
of settling (and asking for the tier where one was crossed, as the engine does) and of both together, on SQLite and on
a PostgreSQL server of its own with its default durability. Three loads: one writer that waits for nothing; that many
processes that each wait 20 to 50 ms for a provider in between, as callers of models do; and that many processes that
wait for nothing at all, which no caller of a model can be.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from knowledge_system.domain.clock import SystemClock
from knowledge_system.domain.inference import Usage
from knowledge_system.domain.money import AuditEntry, Hold, Settlement
from knowledge_system.storage.budget_standing import BudgetRules
from knowledge_system.storage.database import Database

if TYPE_CHECKING:
    from collections.abc import Iterator

PROVIDER_WAIT = (0.02, 0.05)
"""Seconds a fast provider takes; slower ones only leave the ledger more room."""
WARM = 20


def percentiles(values: list[float]) -> dict[str, float]:
    ordered = sorted(values)
    return {
        f"p{share}": round(ordered[min(len(ordered) - 1, len(ordered) * share // 100)], 3) for share in (50, 95, 99)
    }


async def spend(url: str, calls: int, wait: tuple[float, float]) -> dict[str, list[float]]:
    """Make `calls` calls one after another, as one process does; return milliseconds."""
    clock = SystemClock()
    database = await Database.open(url, clock)
    ledger = database.engine_state(BudgetRules(10**15)).ledger
    entry = AuditEntry(at=clock.now(), kind="model-call", operation="extract", provider="groq", content_hash="0" * 64)
    hold = Hold(2_000, "groq", "model", "extract", "api", timedelta(minutes=1), entry)
    times: dict[str, list[float]] = {"reserve": [], "settle": [], "both": []}
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    for number in range(WARM + calls):
        begun = time.perf_counter()
        reservation = await ledger.reserve(hold)
        reserved = time.perf_counter()
        await asyncio.sleep(random.uniform(*wait))
        returned = time.perf_counter()
        if await ledger.settle(reservation, Settlement(1_000, Usage(input=10, output=5), "answered")):
            await ledger.crossed()
        ended = time.perf_counter()
        if number >= WARM:
            times["reserve"].append((reserved - begun) * 1000)
            times["settle"].append((ended - returned) * 1000)
            times["both"].append((reserved - begun + ended - returned) * 1000)
    await database.close()
    return times


def load(url: str, writers: int, calls: int, wait: tuple[float, float]) -> dict[str, Any]:
    """Let `writers` processes spend at once; return percentiles over all their calls."""
    command = [sys.executable, __file__, "--worker", url, str(calls), *map(str, wait)]
    children = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(writers)
    ]
    for child in children:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
    begun = time.perf_counter()
    for child in children:
        assert child.stdin is not None
        child.stdin.write("go\n")
        child.stdin.flush()
    told = [json.loads(child.communicate()[0]) for child in children]
    seconds = time.perf_counter() - begun
    merged = {name: percentiles([one for times in told for one in times[name]]) for name in told[0]}
    return {"writers": writers, "calls_per_s": round(writers * (calls + WARM) / seconds, 1), **merged}


def loads(url: str, writers: int, calls: int) -> dict[str, Any]:
    return {
        "alone": load(url, 1, calls, (0.0, 0.0)),
        "with_provider_wait": load(url, writers, calls, PROVIDER_WAIT),
        "saturating": load(url, writers, calls, (0.0, 0.0)),
    }


def postgres_commands() -> Path | None:
    """Return the newest installed server's directory of commands."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: float(path.parts[-3]))
    on_path = shutil.which("initdb")
    return found[-1].parent if found else Path(on_path).resolve().parent if on_path else None


@contextlib.contextmanager
def postgres(commands: Path) -> Iterator[str]:
    """Run a server with its default durability (fsync, synchronous commits) on a socket of its own; yield the URL."""
    home = Path(tempfile.mkdtemp(prefix="pg"))
    user = []
    if os.geteuid() == 0:  # the server refuses to run as root
        shutil.chown(home, "postgres")
        user = ["runuser", "-u", "postgres", "--"]
    data = str(home / "data")

    def run(command: str, *arguments: str) -> None:
        subprocess.run(
            [*user, str(commands / command), "-D", data, *arguments], check=True, stdout=subprocess.DEVNULL, cwd="/"
        )

    run("initdb", "-U", "postgres", "-A", "trust")
    options = f"-c listen_addresses= -c unix_socket_directories={home}"
    run("pg_ctl", "-w", "-l", str(home / "log"), "-o", options, "start")
    try:
        yield f"postgresql://postgres@/postgres?host={home}"
    finally:
        run("pg_ctl", "-w", "-m", "fast", "stop")
        shutil.rmtree(home, ignore_errors=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--writers", type=int, default=8)
    parser.add_argument("--calls", type=int, default=300, help="of each writer")
    parser.add_argument("--no-postgres", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="ledger") as home:
        result = {"sqlite": loads(f"sqlite:///{home}/analytics.db", options.writers, options.calls)}
    commands = None if options.no_postgres else postgres_commands()
    if commands is not None:
        with postgres(commands) as url:
            result["postgresql"] = loads(url, options.writers, options.calls)
    print(json.dumps({"cores": os.cpu_count(), "load": os.getloadavg(), **result}, indent=2))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--worker"]:
        print(json.dumps(asyncio.run(spend(sys.argv[2], int(sys.argv[3]), (float(sys.argv[4]), float(sys.argv[5]))))))
    else:
        main()
