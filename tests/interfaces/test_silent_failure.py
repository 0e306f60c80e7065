"""Capture that fails silently does not stay silent."""

from __future__ import annotations

import json
import os
from pathlib import Path

from tests.interfaces.conftest import CHORE, FIXED_BUG, Cli, transcript
from tests.interfaces.test_hooks import until
from tests.interfaces.test_served import service


def checks(cli: Cli, name: str) -> list[str]:
    document = json.loads(cli.run("--json", "doctor").stdout)
    return [one["detail"] for one in document["checks"] if one["check"] == name and one["grade"] != "ok"]


def test_transcripts_on_disk_that_nobody_captured_raise_an_alarm_until_they_are(cli: Cli, tmp_path: Path) -> None:
    folder = tmp_path / "logs"
    (cli.home / "config.json").write_text(json.dumps({"capture": {"folders": [str(folder)]}}))
    first = transcript(folder / "a.json", "s1", [FIXED_BUG, CHORE])
    cli.json("ingest", folder)
    assert checks(cli, "capture") == []
    late = transcript(folder / "b.json", "s2", [CHORE, FIXED_BUG])
    for path in (first, late):
        os.utime(path, (path.stat().st_mtime - 3600, path.stat().st_mtime - 3600))
    (alarm,) = checks(cli, "capture")
    assert "2 exchanges in 1 transcripts" in alarm
    assert str(late) in alarm
    assert cli.json("status")["capture"]["alarms"], "status repeats what was measured last"
    cli.json("ingest", folder)
    assert checks(cli, "capture") == []
    assert cli.json("status")["capture"]["alarms"] == []


def test_hooks_that_wait_in_vain_and_hooks_that_fail_are_shown(cli: Cli, tmp_path: Path) -> None:
    cli.run("hook", "stop", stdin=json.dumps({"session_id": "s1", "transcript_path": str(tmp_path / "a.jsonl")}))
    cli.run("hook", "stop", stdin="no json")
    (notice,) = (cli.home / "spool" / "new").glob("*.json")
    assert cli.json("status")["capture"]["alarms"] == []
    os.utime(notice, (notice.stat().st_mtime - 3600, notice.stat().st_mtime - 3600))
    status = cli.json("status")["capture"]
    assert "1 notices of hooks wait" in status["alarms"][0]
    assert "stop" in status["hook_errors"][-1]
    assert checks(cli, "hooks")


def test_a_folder_that_appears_with_transcripts_in_it_is_captured_at_once(cli: Cli, tmp_path: Path) -> None:
    folder = tmp_path / "logs"
    (cli.home / "config.json").write_text(json.dumps({"capture": {"folders": [str(folder)]}}))
    for name, words in (("a", "zebra"), ("b", "giraffe")):
        transcript(tmp_path / name / "s.json", name, [{**CHORE, "assistant": f"done with the {words}"}])
    with service(cli):
        (tmp_path / "a").rename(folder)
        assert until(cli, "zebra")
        folder.rename(tmp_path / "gone")
        (tmp_path / "b").rename(folder)
        assert until(cli, "giraffe")


def test_a_directory_that_arrives_whole_in_a_watched_folder_is_captured_at_once(cli: Cli, tmp_path: Path) -> None:
    folder = tmp_path / "logs"
    folder.mkdir()
    (cli.home / "config.json").write_text(json.dumps({"capture": {"folders": [str(folder)]}}))
    transcript(tmp_path / "day" / "s.json", "s1", [{**CHORE, "assistant": "done with the zebra"}])
    seen = transcript(folder / "seen.json", "s2", [{**CHORE, "assistant": "done with the giraffe"}])
    with service(cli):
        assert until(cli, "giraffe"), f"{seen} shows that it watches"
        (tmp_path / "day").rename(folder / "day.of.v2")
        assert until(cli, "zebra")
