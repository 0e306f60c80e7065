"""Hooks and the service are killed at random: nothing is lost, nothing is stored twice."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest
from tests.interfaces.conftest import CHORE, FIXED_BUG, KNOWLEDGE, Cli, transcript

KILLS = 50
SESSIONS = 10


def grown(path: Path, session: str, count: int) -> Path:
    """Write a transcript of `count` different exchanges."""
    exchanges = [
        {**(FIXED_BUG if number % 3 == 0 else CHORE), "user": f"{session}: request {number} about part {number * 7}"}
        for number in range(count)
    ]
    return transcript(path, session, exchanges)


def start(cli: Cli) -> subprocess.Popen[str]:
    return cli.start("--json", "serve", "--port", "0", stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)


def hook(cli: Cli, path: Path, dice: random.Random) -> None:
    """Call the hook of a session, and kill it now and then at any point of its short life."""
    process = subprocess.Popen(
        [KNOWLEDGE, "hook", "stop"], env=cli.variables(), stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    )
    payload = json.dumps({"session_id": path.stem, "transcript_path": str(path)})
    if dice.random() < 0.3:
        try:
            process.communicate(payload, timeout=dice.random() * 0.1)
        except subprocess.TimeoutExpired:
            os.kill(process.pid, signal.SIGKILL)
            process.communicate()
    else:
        process.communicate(payload, timeout=60)


def stored(cli: Cli) -> list[Any]:
    rows: list[Any] = []
    after: list[str] = []
    while True:
        page = cli.json("list", "--kind", "exchanges", "--limit", "200", *after)
        rows += page["results"]
        if not page["next"]:
            return rows
        after = ["--after", page["next"]]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_killed_fifty_times_at_random_it_loses_and_repeats_nothing(cli: Cli, tmp_path: Path) -> None:
    dice = random.Random(20261122)
    logs = tmp_path / "logs"
    counts = dict.fromkeys((f"s{number}" for number in range(SESSIONS)), 0)
    process = start(cli)
    for _ in range(KILLS):
        session = dice.choice(list(counts))
        counts[session] += dice.randint(1, 3)
        hook(cli, grown(logs / f"{session}.json", session, counts[session]), dice)
        if dice.random() < 0.5:
            try:
                process.wait(dice.random() * 1.5)
            except subprocess.TimeoutExpired:
                os.kill(process.pid, signal.SIGKILL)
            process.wait(30)
            assert process.stdout is not None
            process.stdout.close()
            process = start(cli)
    for session, count in counts.items():
        if count:
            cli.run(
                "hook",
                "session-end",
                stdin=json.dumps({"session_id": session, "transcript_path": str(logs / f"{session}.json")}),
            )
    os.kill(process.pid, signal.SIGKILL)
    process.wait(30)
    assert process.stdout is not None
    process.stdout.close()
    cli.json("ingest", logs)
    rows = stored(cli)
    expected = sorted((session, index) for session, count in counts.items() for index in range(count))
    assert sorted((row["session_id"], row["exchange_index"]) for row in rows) == expected
    assert len({row["id"] for row in rows}) == len(rows)
    verified = cli.json("index", "verify")
    assert (verified["missing"], verified["surplus"]) == (0, 0)
    assert cli.json("doctor")["healthy"]


def test_after_a_crash_the_service_finds_what_hooks_left_without_being_asked(cli: Cli, tmp_path: Path) -> None:
    file = grown(tmp_path / "logs" / "s0.json", "s0", 5)
    process = start(cli)
    assert process.stdout is not None
    process.stdout.readline()
    os.kill(process.pid, signal.SIGKILL)
    process.wait(30)
    process.stdout.close()
    cli.run("hook", "stop", stdin=json.dumps({"session_id": "s0", "transcript_path": str(file)}))
    taken = cli.home / "spool" / "taken"
    taken.mkdir(parents=True, exist_ok=True)
    for notice in (cli.home / "spool" / "new").glob("*.json"):
        notice.rename(taken / notice.name)  # as if the service had been killed between taking and storing
    process = start(cli)
    assert process.stdout is not None
    process.stdout.readline()
    try:
        for _ in range(200):
            if len(stored(cli)) == 5 and not list(taken.iterdir()):
                break
        assert len(stored(cli)) == 5
    finally:
        process.terminate()
        process.wait(30)
        process.stdout.close()
