"""Commands beside a running service: the same answers and exit codes, and nobody else gets in."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from tests.interfaces.conftest import CHORE, FIXED_BUG, Cli, transcript

from knowledge_system import __version__


@contextmanager
def service(cli: Cli) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """Run `knowledge serve` on a free port until the end of the block."""
    process = cli.start("--json", "serve", "--port", "0", stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        yield json.loads(process.stdout.readline())["url"], process
    finally:
        process.terminate()
        process.wait(30)


def post(url: str, path: str, headers: dict[str, str]) -> int:
    place = urlsplit(url)
    connection = http.client.HTTPConnection(place.hostname or "", place.port, timeout=30)
    try:
        connection.request("POST", path, b"{}", {"content-type": "application/json", **headers})
        return connection.getresponse().status
    finally:
        connection.close()


def test_commands_go_through_the_service_and_answer_as_without_it(cli: Cli, tmp_path: Path) -> None:
    file = transcript(tmp_path / "s.json", "s1", [FIXED_BUG, CHORE])
    with service(cli):
        read = cli.json("ingest", file)
        served = cli.json("search", "queue pool limit in CI", "--limit", "3")
        verified = cli.json("index", "verify")
        sound = cli.json("doctor")
    alone = cli.json("search", "queue pool limit in CI", "--limit", "3")
    assert read["exchanges"]["new"] == 2
    assert read["items"]["created"] == 1
    assert [hit["id"] for hit in served["results"]] == [hit["id"] for hit in alone["results"]]
    assert served["results"][0]["source"][0]["path"] == str(file)
    assert verified["ok"]
    assert sound["healthy"]


def test_an_import_travels_and_known_records_stay(cli: Cli, tmp_path: Path) -> None:
    cli.json("ingest", transcript(tmp_path / "s.json", "s1", [FIXED_BUG, CHORE]))
    export = cli.run("export").stdout
    with service(cli):
        again = cli.json("import", "-", stdin=export)
    assert again["new"] == 0
    assert again["known"] == len(export.splitlines())


def test_errors_keep_their_exit_code_through_the_service(cli: Cli) -> None:
    with service(cli):
        missing = cli.run("forget", "k0123", "--yes")
        circle = cli.run("supersede", "k1", "k2")
    assert (missing.returncode, circle.returncode) == (3, 3)
    assert "nothing is known under k0123" in missing.stderr


def test_a_second_service_and_a_setting_hear_that_one_is_running(cli: Cli) -> None:
    with service(cli) as (_, process):
        second = cli.run("serve", "--port", "0")
        setting = cli.run("config", "set", "budget.monthly", "5")
    assert second.returncode == 7
    assert f"process {process.pid}" in second.stderr
    assert (setting.returncode, "when it is started again" in setting.stderr) == (0, True)
    assert not cli.run("config", "set", "budget.monthly", "6").stderr


def test_after_a_killed_service_commands_open_the_directory_themselves(cli: Cli, tmp_path: Path) -> None:
    file = transcript(tmp_path / "s.json", "s1", [FIXED_BUG])
    with service(cli) as (_, process):
        os.kill(process.pid, signal.SIGKILL)
        process.wait(30)
        assert cli.json("ingest", file)["exchanges"]["new"] == 1


@pytest.mark.parametrize("given", ["none", "wrong", "api"])
def test_the_private_door_opens_to_the_homes_secret_only(cli: Cli, given: str) -> None:
    cli.environ["KNOWLEDGE_API_TOKEN"] = "api-token"
    tokens = {"none": "", "wrong": "Bearer wrong", "api": "Bearer api-token"}
    with service(cli) as (url, _):
        status = post(url, "/internal/call/index_status", {"authorization": tokens[given]})
        secret = (cli.home / "service.token").read_text()
        own = {"authorization": f"Bearer {secret}", "x-knowledge-version": __version__}
        assert post(url, "/internal/call/index_status", own) == 200
    assert status == 401
    assert (cli.home / "service.token").stat().st_mode & 0o077 == 0


def test_a_command_of_another_version_is_told_to_restart_the_service(cli: Cli) -> None:
    with service(cli) as (url, _):
        secret = (cli.home / "service.token").read_text()
        assert post(url, "/internal/call/search", {"authorization": f"Bearer {secret}"}) == 400
