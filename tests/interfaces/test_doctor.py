"""`knowledge doctor …` as an operator types it: alone, and beside a running service."""

from __future__ import annotations

import json
import os
import sqlite3
from pathlib import Path

from tests.interfaces.conftest import FIXED_BUG, Cli, transcript
from tests.interfaces.test_served import service

AREAS = ["embedding", "vector search", "inference", "machine"]


def test_alone_it_opens_what_it_looks_at(cli: Cli, tmp_path: Path) -> None:
    cli.json("ingest", transcript(tmp_path / "s.json", "s1", [FIXED_BUG]))
    rows = cli.json("doctor", "latency")["rows"]
    assert [row["area"] for row in rows] == AREAS
    assert rows[0]["measured"]["text"]["median_ms"] > 0
    assert rows[1]["measured"]["points"] > 0

    index = cli.json("doctor", "index")
    assert (index["processes"], index["problems"]) == ([], [])
    assert index["collections"][0]["name"] == "knowledge_384"
    assert index["collections"][0]["points"] == rows[1]["measured"]["points"]
    assert index["files"][0]["segments"] > 0

    shown = cli.run("doctor")
    assert shown.returncode == 0
    assert "database: sound" in shown.stdout
    assert cli.json("doctor")["healthy"] is True


def test_the_index_is_told_to_people_in_words(cli: Cli, tmp_path: Path) -> None:
    cli.json("ingest", transcript(tmp_path / "s.json", "s1", [FIXED_BUG]))
    points = cli.json("index", "status")["points"]
    said = {verb: cli.run("index", verb).stdout for verb in ("status", "rebuild", "optimize", "verify")}
    assert f"index      {points} points" in said["status"]
    assert "health     healthy" in said["status"]
    assert "waiting    nothing" in said["status"]
    assert f"rebuilt with {points} points" in said["rebuild"]
    assert "nothing was changed" in said["optimize"]
    assert said["verify"] == f"sound, {points} points; equal to the database\n"
    with service(cli):
        cli.json("search", "queue pool limit")
        beside = cli.run("index", "status").stdout
    assert "is up, restarted 0 times" in beside


def test_beside_a_service_the_service_is_measured_and_a_lock_is_busy(cli: Cli, tmp_path: Path) -> None:
    cli.json("ingest", transcript(tmp_path / "s.json", "s1", [FIXED_BUG]))
    with service(cli) as (_, process):
        cli.json("search", "queue pool limit")
        latency = cli.json("doctor", "latency")
        assert any("search" in one["operation"] for one in latency["slowest"])
        memory = cli.json("doctor", "memory")
        assert memory["pid"] == process.pid
        assert memory["rss"] > 50_000_000
        assert memory["guide"] == []
        assert {one["name"] for one in memory["processes"]} == {"index_service", "model_service"}
        together = [process.pid, *(one["pid"] for one in memory["processes"])]
        assert {os.sched_getscheduler(one) for one in together} == {os.SCHED_BATCH}, "they give way"
        assert cli.json("status")["embedding_process"]["state"] == "up"
        index = cli.json("doctor", "index")
        assert [one["state"] for one in index["processes"]] == ["up"]

        free = cli.json("doctor", "locks")
        assert (free["write_lock"], free["findings"], free["in_use_by"]["pid"]) == ("free", [], process.pid)
        other = sqlite3.connect(cli.home / "analytics.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        held = cli.run("--json", "doctor", "locks")
        readable = cli.run("doctor", "locks")
        other.execute("ROLLBACK")
        other.close()
    assert (held.returncode, readable.returncode) == (7, 7)
    assert json.loads(held.stdout)["write_lock"] == "held"
    assert "the write lock is held by process" in readable.stdout
