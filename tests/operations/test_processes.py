"""Three real processes share a directory: any of them tells what all have counted, also those that have ended."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

COUNTING = Path(__file__).with_name("counting_process.py")
SEARCHES = 'knowledge_searches_total{degraded="no",scope="all"}'
BUCKET = 'knowledge_search_latency_seconds_bucket{le="0.015",scope="all"}'
IN_FLIGHT = "knowledge_http_requests_in_flight"


class Counting:
    """A process that has counted so many searches."""

    def __init__(self, directory: Path, searches: int) -> None:
        environ = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(directory)}
        command = [sys.executable, str(COUNTING), str(searches)]
        self.process = subprocess.Popen(command, env=environ, stdin=-1, stdout=-1, text=True)
        assert self._line() == "ready\n"

    def value(self, sample: str) -> float:
        assert self.process.stdin is not None
        self.process.stdin.write("expose\n")
        self.process.stdin.flush()
        lines = list(iter(self._line, ".\n"))
        (found,) = [line for line in lines if line.startswith(sample + " ")]
        return float(found.rpartition(" ")[2])

    def end(self, *, kill: bool = False) -> None:
        if kill:
            self.process.kill()
        self.process.communicate(timeout=60)

    def _line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline()


@pytest.fixture
def started(tmp_path: Path) -> Iterator[list[Counting]]:
    """Three processes at once; whoever is left is ended."""
    made = [Counting(tmp_path / "metrics", searches) for searches in (1, 20, 300)]
    yield made
    for one in made:
        if one.process.poll() is None:
            one.end(kill=True)


def test_counters_of_all_processes_add_up_and_survive_the_end_of_one(started: list[Counting], tmp_path: Path) -> None:
    first, second, third = started
    for one in started:
        assert one.value(SEARCHES) == one.value(BUCKET) == 321
    assert first.value(IN_FLIGHT) == 3

    second.end(kill=True)
    third.end()
    started.append(Counting(tmp_path / "metrics", 4000))  # whoever starts clears up
    fourth = started[-1]

    assert first.value(SEARCHES) == fourth.value(SEARCHES) == first.value(BUCKET) == 4321
    assert first.value(IN_FLIGHT) == 2, "a process that ended has nothing in flight"
    processes = {path.stem.rpartition("_")[2] for path in (tmp_path / "metrics").glob("*.db")}
    assert processes == {str(first.process.pid), str(fourth.process.pid), "gone"}


def test_without_a_living_process_everything_begins_at_zero(started: list[Counting], tmp_path: Path) -> None:
    for one in started:
        one.end()
    started.append(Counting(tmp_path / "metrics", 5))
    assert started[-1].value(SEARCHES) == 5
