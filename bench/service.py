"""Hooks, recall, capture and MCP beside a running service, black box.

`python bench/service.py --home DIR [--sessions 20] [--soak SECONDS] [--json]`: `DIR` is a data directory with items
(see `bench/speed.py`); it is copied, never written to. Prints percentiles
beside those of `python -c pass` in the same run.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import shutil
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
from mcp import ClientSession, StdioServerParameters
from mcp.client.stdio import stdio_client

if TYPE_CHECKING:
    from collections.abc import Iterator

KNOWLEDGE = Path(sys.executable).with_name("knowledge")
LOOKED_EVERY = 0.02
"""Seconds between two looks of a session at what it waits for: twenty that never pause are all that is measured."""
RATE = 100.0
"""Events a second of the soak: ten minutes hold what twenty busy sessions bring in ten hours (1.7 events a second)."""
QUESTIONS = ["the connection pool times out under load", "retry policy loses updates", "cache key ignores the limit"]


def percentiles(seconds: list[float]) -> dict[str, float]:
    ordered = sorted(seconds)
    cut = statistics.quantiles(ordered, n=100, method="inclusive")
    return {"p50": round(1000 * cut[49], 1), "p95": round(1000 * cut[94], 1), "max": round(1000 * ordered[-1], 1)}


def timed(command: list[str | Path], environment: dict[str, str], payload: str, times: int) -> dict[str, float]:
    took = []
    for _ in range(times):
        began = time.perf_counter()
        subprocess.run(command, env=environment, input=payload, text=True, capture_output=True, check=True)
        took.append(time.perf_counter() - began)
    return percentiles(took)


@contextmanager
def service(environment: dict[str, str]) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [KNOWLEDGE, "--json", "serve", "--port", "0"], env=environment, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    process.stdout.readline()
    try:
        yield process
    finally:
        process.terminate()
        process.wait(60)


def hooks(environment: dict[str, str], times: int) -> dict[str, Any]:
    payload = json.dumps(
        {"session_id": "bench", "transcript_path": "/nowhere/a.jsonl", "cwd": "/src", "prompt": QUESTIONS[0]}
    )
    empty = timed([sys.executable, "-c", "pass"], environment, "", times)
    capture = timed([KNOWLEDGE, "hook", "tool-use"], environment, payload, times)
    skipped = timed([KNOWLEDGE, "hook", "prompt-submit"], environment, payload, times)
    with service(environment):
        timed([KNOWLEDGE, "hook", "prompt-submit"], {**environment, "KNOWLEDGE_HOOK_DEADLINE": "30"}, payload, 3)
        recall = timed([KNOWLEDGE, "hook", "prompt-submit"], environment, payload, times)
    return {"python_pass": empty, "capture": capture, "recall_without_service": skipped, "recall": recall}


def searchable(environment: dict[str, str], sessions: int, rounds: int, folder: Path) -> dict[str, float]:
    """Let `sessions` sessions write at once and measure until each new exchange is found by its own word."""
    took: list[float] = []

    def one(number: int) -> None:
        exchanges: list[dict[str, str]] = []
        path = folder / f"s{number}.json"
        for turn in range(rounds):
            word = f"marker{number:02}x{turn:02}"
            exchanges.append({"user": f"please look at {word}", "assistant": f"{word} is fine, nothing to do there"})
            document = {"format": "knowledge-transcript/1", "session": {"id": f"s{number}"}, "exchanges": exchanges}
            path.write_text(json.dumps(document), encoding="utf-8")
            began = time.perf_counter()
            payload = json.dumps({"session_id": f"s{number}", "transcript_path": str(path)})
            subprocess.run([KNOWLEDGE, "hook", "stop"], env=environment, input=payload, text=True, check=True)
            while not found(environment, word):
                time.sleep(LOOKED_EVERY)
            took.append(time.perf_counter() - began)

    with service(environment):
        threads = [threading.Thread(target=one, args=(number,)) for number in range(sessions)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    return percentiles(took)


def found(environment: dict[str, str], word: str) -> bool:
    """Ask the database itself: a search process for each look would be what is measured."""
    with sqlite3.connect(f"file:{environment['KNOWLEDGE_HOME']}/analytics.db?mode=ro", uri=True, timeout=5) as base:
        row = base.execute(
            "SELECT o.stage FROM exchanges e LEFT JOIN outbox o ON o.owner_id = e.id WHERE e.user_text LIKE ?",
            (f"%{word}%",),
        ).fetchone()
    return row is not None and row[0] != "words"


async def mcp(environment: dict[str, str], times: int) -> dict[str, float]:
    parameters = StdioServerParameters(command=str(KNOWLEDGE), args=["mcp"], env=environment)
    took = []
    async with stdio_client(parameters) as (read, write), ClientSession(read, write) as client:
        await client.initialize()
        for number in range(times + 5):
            began = time.perf_counter()
            await client.call_tool("knowledge_search", {"query": f"{QUESTIONS[number % 3]} {number}"})
            if number >= 5:
                took.append(time.perf_counter() - began)
    return percentiles(took)


def soak(environment: dict[str, str], seconds: float, folder: Path) -> dict[str, Any]:
    """Write sessions as hooks announce them, and watch memory, descriptors and threads of the service."""
    samples: list[tuple[int, float, float, int, int]] = []
    with service(environment) as process:
        begun, events = time.perf_counter(), 0
        end = begun + seconds
        while time.perf_counter() < end:
            number = events // 50
            path = folder / f"k{number}.json"
            exchanges = [
                {"user": f"soak {number} {turn}", "assistant": f"answer {turn} of {number}: nothing special"}
                for turn in range(events % 50 + 1)
            ]
            document = {"format": "knowledge-transcript/1", "session": {"id": f"k{number}"}, "exchanges": exchanges}
            path.write_text(json.dumps(document), encoding="utf-8")
            notice = {
                "v": 1, "at": "2026-01-01T00:00:00.000000Z", "agent": "bench", "event": "tool-use",
                "session_id": f"k{number}", "transcript": str(path), "body": None,
            }  # fmt: skip
            part = Path(environment["KNOWLEDGE_HOME"]) / "spool" / "new" / f"k{number}.part"
            part.write_text(json.dumps(notice), encoding="utf-8")
            part.replace(part.with_suffix(".json"))
            events += 1
            time.sleep(max(0.0, events / RATE - (time.perf_counter() - begun)))
            if events % 200 == 0:
                samples.append((events, *usage(process.pid)))
    names = ("service_mb", "index_mb", "descriptors", "threads")
    return {
        "events": events,
        **{
            name: [round(samples[0][1 + n], 1), round(samples[-1][1 + n], 1)] for n, name in enumerate(names) if samples
        },
        "service_mb_per_10k_events": slope(samples, 1),
        "index_mb_per_10k_events": slope(samples, 2),
    }


def slope(samples: list[tuple[int, float, float, int, int]], column: int) -> float:
    """Return the growth of a column per 10,000 events over the second half of the samples."""
    half = [one for one in samples if one[0] >= samples[-1][0] / 2]
    if len(half) < 2:
        return 0.0
    line = statistics.linear_regression([one[0] for one in half], [one[column] for one in half])
    return round(line.slope * 10_000, 2)


def usage(process: int) -> tuple[float, float, int, int]:
    """Return megabytes of a service and of its index, descriptors and threads of both.

    Memory of their own, without files mapped: those of the index grow with what it holds, and are given up under
    pressure. What the index keeps of every point in memory grows with the 10,000 exchanges of 10,000 events as well.
    """
    root = psutil.Process(process)
    children = root.children(recursive=True)
    family = [root, *children]
    descriptors, threads = sum(one.num_fds() for one in family), sum(one.num_threads() for one in family)
    return own_mb(process), sum(own_mb(one.pid) for one in children), descriptors, threads


def own_mb(process: int) -> float:
    for line in Path(f"/proc/{process}/status").read_text(encoding="ascii").splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) / 1024
    return 0.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--times", type=int, default=100)
    parser.add_argument("--sessions", type=int, default=20)
    parser.add_argument("--soak", type=float, default=0.0)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        home = Path(scratch) / "home"
        shutil.copytree(options.home, home, symlinks=True)
        kept = {name: value for name, value in os.environ.items() if not name.startswith("KNOWLEDGE")}
        environment = {**kept, "HOME": scratch, "KNOWLEDGE_HOME": str(home)}
        folder = Path(scratch) / "logs"
        folder.mkdir()
        report: dict[str, Any] = {
            "date": datetime.now(UTC).date().isoformat(),
            "machine": f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, Python {platform.python_version()}",
            "milliseconds": {
                **hooks(environment, options.times),
                "mcp_search": asyncio.run(mcp(environment, options.times)),
                "capture_to_searchable": searchable(environment, options.sessions, 5, folder),
            },
        }
        if options.soak:
            report["soak"] = soak(environment, options.soak, folder)
    print(json.dumps(report, indent=None if options.json else 2))


if __name__ == "__main__":
    main()
