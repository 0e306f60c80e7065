"""What memory one very large transcript costs: a generated session in the format of Claude Code, through the command.

An exchange has a prompt, a paragraph of answer, and tool calls with about 11 kB of output each, as most bytes of real
sessions of that size are tool output. How many exchanges there are decides the time, how large one is the memory.
"""

from __future__ import annotations

import json
import random
import resource
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from synthetic import CURES, FAULTS, SUBJECTS, TOOLS

if TYPE_CHECKING:
    from collections.abc import Iterator

KNOWLEDGE = Path(sys.executable).with_name("knowledge")
CALL_KB = 11
OUTPUT_LINES = 120
LINES = 2_000
SAMPLES_PER_SECOND = 10


def ingest_large(scratch: Path, megabytes: int, exchange_kb: int, *, learn: bool) -> dict[str, Any]:
    """Ingest a file of that many MB (10^6 bytes) into a new home; return seconds and peak memory of the process."""
    file, home = scratch / "session.jsonl", scratch / "home"
    written = write(file, megabytes * 1_000_000, exchange_kb)
    home.mkdir()
    (home / "config.json").write_text(json.dumps({"learning": {"enabled": learn}}), "utf-8")
    began = time.perf_counter()
    report, watched = run([str(KNOWLEDGE), "--home", str(home), "--json", "ingest", str(file)])
    return {
        "file_mb": round(written / 1_000_000),
        "exchange_kb": exchange_kb,
        "learning": learn,
        "exchanges": report["exchanges"],
        "items": report["items"],
        "seconds": round(time.perf_counter() - began, 1),
        "peak_memory_mb": round(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024, 1),
        "without_mapped_files_mb": round(watched, 1),
    }


def run(command: list[str]) -> tuple[Any, float]:
    """Run a command that prints JSON; return the JSON and its most anonymous memory in MB (no files mapped)."""
    most = 0.0
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        ended = threading.Event()

        def watch() -> None:
            nonlocal most
            while not ended.wait(1 / SAMPLES_PER_SECOND):
                most = max(most, anonymous_mb(process.pid))

        watcher = threading.Thread(target=watch)
        watcher.start()
        answer = process.communicate()[0]
        ended.set()
        watcher.join()
    if process.returncode:
        sys.exit(f"{' '.join(command)} returned {process.returncode}")
    return json.loads(answer), most


def anonymous_mb(process: int) -> float:
    try:
        lines = Path(f"/proc/{process}/status").read_text("ascii").splitlines()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("RssAnon")), 0.0)


def write(path: Path, size: int, exchange_kb: int) -> int:
    """Write a session of at least `size` bytes in exchanges of about `exchange_kb`; return its bytes."""
    rng = random.Random(size)
    lines = [f"{rng.choice(TOOLS)}/{rng.choice(SUBJECTS)}: {rng.choice(FAULTS)} ({n})" for n in range(LINES)]
    with path.open("wb") as stream:
        for number in range(10**9):
            for record in exchange(number, max(1, exchange_kb // CALL_KB), rng, lines):
                stream.write(json.dumps(record, separators=(",", ":")).encode() + b"\n")
            if stream.tell() >= size:
                break
    return path.stat().st_size


def exchange(number: int, calls: int, rng: random.Random, lines: list[str]) -> Iterator[dict[str, Any]]:
    """Yield the records of one exchange."""
    subject, fault, cure, tool = (rng.choice(words) for words in (SUBJECTS, FAULTS, CURES, TOOLS))
    base = {
        "isSidechain": False,
        "userType": "external",
        "cwd": "/srv/bench",
        "sessionId": "5b1f0c9e-6d0e-4a57-9a55-0d4f6a7c1e99",
        "version": "2.1.50",
        "gitBranch": "main",
    }
    moment = f"{2000 + number // 86_400:04}-03-02T{number // 3600 % 24:02}:{number // 60 % 60:02}:{number % 60:02}.000Z"

    def record(kind: str, step: int, content: Any) -> dict[str, Any]:
        message = {"role": kind, "content": content}
        if kind == "assistant":
            message |= {"model": "any", "id": f"msg_{number}_{step}", "type": "message", "stop_reason": None}
        name = f"{number:08x}-0000-4000-8000-{step:012x}"
        return {**base, "type": kind, "uuid": name, "timestamp": moment, "message": message}

    yield record("user", 0, f"The {subject} of service {number} {fault} when {tool} runs. Find the cause and fix it.")
    for call in range(calls):
        use = f"toolu_{number}_{call}"
        given = {"command": f"{tool} --case {number} --part {call}"}
        yield record("assistant", 2 * call + 1, [{"type": "tool_use", "id": use, "name": "Bash", "input": given}])
        output = "\n".join(rng.choices(lines, k=OUTPUT_LINES * 2))
        yield record("user", 2 * call + 2, [{"type": "tool_result", "tool_use_id": use, "content": output}])
    told = " ".join(f"Case {number}: the {one} {fault}, so {cure}." for one in SUBJECTS)
    yield record("assistant", 2 * calls + 1, [{"type": "text", "text": f"{told} All tests pass now."}])
