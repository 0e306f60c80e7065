"""kill -9 during ingest: after the next run nothing is lost, nothing is there twice, the index equals the truth."""

from __future__ import annotations

import json
import random
import subprocess
from pathlib import Path
from typing import Any

import pytest
from tests.interfaces.conftest import CHORE, FIXED_BUG, Cli, transcript

KILLS = 20
SUBJECTS = ["pool", "cache", "queue", "parser", "router", "lock", "index", "token", "upload", "mailer"]


def corpus(folder: Path, sessions: int) -> Path:
    for number in range(sessions):
        subject = SUBJECTS[number % len(SUBJECTS)]
        fixed = {
            **FIXED_BUG,
            "user": f"The {subject} of service {number} fails with `Error{number}`. Why?",
            "assistant": f"The root cause is that `{subject.title()}{number}.open()` is never closed. I closed it in "
            f"`{subject}{number}.py`, which releases it on every path. All tests pass now: {number + 10} passed.",
        }
        transcript(folder / f"s{number:03}.json", f"s{number}", [fixed, CHORE], project=f"p{number % 3}")
    return folder


def state(cli: Cli) -> list[dict[str, Any]]:
    """Return everything stored, without the times of the run."""
    records = cli.lines("export")
    for record in records:
        record.pop("stored_at", None)
        record.pop("updated_at", None)
    return sorted(records, key=lambda record: (record["kind"], record["id"]))


@pytest.mark.slow
def test_kill_at_random_points(cli: Cli, tmp_path: Path, models: Path) -> None:
    folder = corpus(tmp_path / "in", 60)
    calm = Cli(tmp_path / "calm")
    calm.home.mkdir(mode=0o700)
    (calm.home / "models").symlink_to(models, target_is_directory=True)
    calm.json("ingest", folder)
    rng = random.Random(7)

    for _ in range(KILLS):
        with cli.start("ingest", folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as running:
            try:
                running.wait(timeout=rng.uniform(0.3, 2.5))
            except subprocess.TimeoutExpired:
                running.kill()
                running.wait()
    cli.json("ingest", folder)

    assert json.dumps(state(cli)) == json.dumps(state(calm))
    assert cli.json("index", "verify")["missing"] == 0
    assert cli.json("doctor")["healthy"]
    assert cli.json("status")["backlog"]["embedded_share"] == 1.0
