"""The index's process under a real service: killed it is replaced, and it ends when the service does, however."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.interfaces.conftest import CHORE, FIXED_BUG, Cli, transcript


@contextmanager
def service(cli: Cli) -> Iterator[subprocess.Popen[str]]:
    """Run `knowledge serve` as the leader of a group of its own, as a shell does."""
    process = cli.start("--json", "serve", "--port", "0", stdout=subprocess.PIPE, start_new_session=True)
    assert process.stdout is not None
    try:
        assert json.loads(process.stdout.readline())["url"]
        yield process
    finally:
        process.kill()
        process.wait(30)
        process.stdout.close()


def index_process(cli: Cli) -> Any:
    (document,) = cli.json("index", "status")["index_process"]
    return document


def ended(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads the processes of Linux")
def test_a_killed_process_is_replaced_and_a_signal_to_the_group_ends_all_in_order(cli: Cli, tmp_path: Path) -> None:
    file = transcript(tmp_path / "s.json", "s1", [FIXED_BUG, CHORE])
    with service(cli) as process:
        assert cli.json("ingest", file)["items"]["created"] == 1
        first = index_process(cli)
        assert (first["state"], first["restarts"]) == ("up", 0)
        assert first["rss_bytes"] > 10_000_000
        assert first["pid"] != process.pid
        os.kill(first["pid"], signal.SIGKILL)
        until(lambda: bool(cli.json("status")["index_process"][0]["restarts"]))
        assert cli.json("search", "queue pool limit in CI", "--limit", "3")["results"]
        checks = {one["check"]: one for one in cli.json("doctor")["checks"]}
        assert checks["index"]["grade"] == "ok"
        assert "SIGKILL" in checks["index_process"]["detail"]
        second = index_process(cli)
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(60) == 0
        assert ended(second["pid"])
    assert list((cli.home / "index").glob("*/g*/clean")), "the index was closed in order"


def test_the_process_of_a_killed_service_ends_and_commands_open_the_index_themselves(cli: Cli, tmp_path: Path) -> None:
    file = transcript(tmp_path / "s.json", "s1", [FIXED_BUG, CHORE])
    with service(cli) as process:
        cli.json("ingest", file)
        child = index_process(cli)["pid"]
        process.kill()
        process.wait(30)
        assert cli.json("index", "verify")["ok"]
    until(lambda: ended(child))
