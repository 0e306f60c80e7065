"""What is deployed is what the programs accept, says what the table says, and tells the right people."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, BinaryIO

import httpx2
import pytest
import yaml
from tests.operations.monitoring.servers import DEPLOY, ROOT, free_port, installed, program, run

from knowledge_system.operations.monitoring.live import monitoring_configured
from knowledge_system.operations.monitoring.rules import all_alerts, rule_file
from knowledge_system.operations.monitoring.runbooks import control_problems, runbooks_complete

RUNBOOKS = ROOT / "docs" / "runbooks"
ALERTMANAGER = DEPLOY / "alertmanager" / "alertmanager.yml"
PEOPLE = {"P1": "on-call", "P2": "ops-team", "P3": "tickets", "P4": "maintenance", "none": "dead-mans-switch"}


def test_prometheus_accepts_its_configuration(tmp_path: Path) -> None:
    done = run("promtool", "check", "config", installed(tmp_path) / "prometheus.yml")
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(all_alerts())} rules found" in done.stdout


def test_prometheus_scrapes_what_it_should_and_tells_an_alertmanager() -> None:
    configuration = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text())
    jobs = {job["job_name"]: job for job in configuration["scrape_configs"]}

    assert configuration["global"] == {"scrape_interval": "15s", "evaluation_interval": "15s"}
    assert configuration["rule_files"] == ["alerts.yml"]
    assert configuration["alerting"]["alertmanagers"]
    where = {name: (job["static_configs"][0]["targets"], job.get("metrics_path")) for name, job in jobs.items()}
    assert where == {
        "knowledge-system": (["127.0.0.1:3000"], "/metrics"),
        "qdrant": (["localhost:6333"], "/metrics"),
        "node-exporter": (["localhost:9100"], None),
    }
    assert jobs["knowledge-system"]["authorization"]["credentials_file"]
    assert jobs["qdrant"]["authorization"]["credentials_file"]
    assert [rule["action"] for rule in jobs["qdrant"]["relabel_configs"]] == ["drop"]


def test_no_secret_stands_in_a_configuration() -> None:
    for file in (DEPLOY / "prometheus" / "prometheus.yml", ALERTMANAGER):
        keys = set(_keys(yaml.safe_load(file.read_text())))
        assert not keys & {
            "credentials",
            "password",
            "routing_key",
            "service_key",
            "api_url",
            "bearer_token",
            "basic_auth",
        }


def _keys(tree: Any) -> list[str]:
    if isinstance(tree, list):
        return [key for one in tree for key in _keys(one)]
    if not isinstance(tree, dict):
        return []
    return [*tree, *(key for one in tree.values() for key in _keys(one))]


def test_alertmanager_accepts_its_configuration() -> None:
    done = run("amtool", "check-config", ALERTMANAGER)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("priority", PEOPLE)
def test_each_priority_reaches_its_people(priority: str) -> None:
    alert = next(alert for alert in all_alerts() if alert.level.priority == priority)
    labels = {"alertname": alert.name, **alert.document()["labels"]}
    done = run(
        "amtool", "config", "routes", "test", "--config.file", ALERTMANAGER, *(f"{k}={v}" for k, v in labels.items())
    )
    assert done.stdout.split() == [PEOPLE[priority]]


def test_severity_decides_the_priority() -> None:
    pairs = {(alert.level.severity, alert.level.priority) for alert in all_alerts()}
    assert pairs == {("critical", "P1"), ("critical", "P2"), ("warning", "P3"), ("info", "P4"), ("none", "none")}


def test_business_hours_hold_back_everything_but_the_page() -> None:
    routes = {route["receiver"]: route for route in yaml.safe_load(ALERTMANAGER.read_text())["route"]["routes"]}
    held = {name for name, route in routes.items() if route.get("active_time_intervals") == ["business-hours"]}
    assert held == {"ops-team", "tickets", "maintenance"}


class Pager:
    """A webhook of this machine that keeps what it is told."""

    def __init__(self) -> None:
        self.told: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.url = ""

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        (length,) = [
            int(line.split(b":")[1]) for line in head.lower().splitlines() if line.startswith(b"content-length")
        ]
        self.told.put_nowait(json.loads(await reader.readexactly(length)))
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        await writer.drain()
        writer.close()


@pytest.fixture
async def pager() -> AsyncIterator[Pager]:
    made = Pager()
    async with await asyncio.start_server(made.answer, "127.0.0.1", 0) as server:
        made.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        yield made


@pytest.fixture
async def alertmanager(tmp_path: Path, pager: Pager) -> AsyncIterator[str]:
    """Run the shipped routes with every receiver replaced by the pager; its path tells which it was."""
    configuration = yaml.safe_load(ALERTMANAGER.read_text())
    configuration["receivers"] = [
        {"name": one["name"], "webhook_configs": [{"url": pager.url + one["name"]}]}
        for one in configuration["receivers"]
    ]
    file = tmp_path / "alertmanager.yml"
    file.write_text(yaml.safe_dump(configuration))
    address = f"127.0.0.1:{free_port()}"
    command = [program("alertmanager"), f"--config.file={file}", f"--storage.path={tmp_path / 'data'}"]
    command += [f"--web.listen-address={address}", "--cluster.listen-address="]
    with (tmp_path / "log").open("wb") as log:
        process = started(command, log)
    try:
        await answering(f"http://{address}/-/ready", process)
        yield f"http://{address}"
    finally:
        process.terminate()
        process.wait(30)


def started(command: list[str], log: BinaryIO) -> subprocess.Popen[bytes]:
    return subprocess.Popen(command, stdout=log, stderr=log)


async def answering(url: str, process: subprocess.Popen[bytes]) -> None:
    async with httpx2.AsyncClient() as client, asyncio.timeout(60):
        while process.poll() is None:
            try:
                if (await client.get(url)).is_success:
                    return
            except httpx2.TransportError:
                pass
            await asyncio.sleep(0.05)
    pytest.fail(f"{url} ended before it answered")


@pytest.mark.slow
async def test_an_outage_is_delivered_at_once_with_its_runbook(alertmanager: str, pager: Pager) -> None:
    document = next(alert for alert in all_alerts() if alert.name == "KnowledgeSystemDown").document()
    alert = {
        "labels": {"alertname": document["alert"], **document["labels"]},
        "annotations": document["annotations"],
        "startsAt": datetime.now(UTC).isoformat(),
    }
    async with httpx2.AsyncClient() as client:
        (await client.post(f"{alertmanager}/api/v2/alerts", json=[alert])).raise_for_status()

    told = await asyncio.wait_for(pager.told.get(), 60)

    assert (told["receiver"], told["status"]) == ("on-call", "firing")
    assert told["alerts"][0]["annotations"]["runbook_url"].endswith("/KnowledgeSystemDown.md")


@pytest.mark.slow
async def test_a_critical_alert_silences_the_warning_of_its_matter_only(alertmanager: str) -> None:
    names = ("CriticalInferenceLatency", "HighInferenceLatency", "HighVectorSearchLatency")
    documents = [alert.document() for alert in all_alerts() if alert.name in names]
    firing = [{"labels": {"alertname": one["alert"], **one["labels"]}} for one in documents]

    alerts: list[dict[str, Any]] = []
    async with httpx2.AsyncClient(base_url=alertmanager) as client, asyncio.timeout(60):
        (await client.post("/api/v2/alerts", json=firing)).raise_for_status()
        while len(alerts) < len(names) or not _silenced(alerts):
            await asyncio.sleep(0.05)
            alerts = (await client.get("/api/v2/alerts")).json()

    assert _silenced(alerts) == {"HighInferenceLatency"}


def _silenced(alerts: list[dict[str, Any]]) -> set[str]:
    return {alert["labels"]["alertname"] for alert in alerts if alert["status"]["inhibitedBy"]}


def test_every_alert_has_a_runbook_that_is_complete_and_not_overdue() -> None:
    assert runbooks_complete(RUNBOOKS, date(2026, 12, 1)).detail.startswith(f"{len(all_alerts())} alerts")


def test_a_runbook_that_is_missing_overdue_or_of_another_rule_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "runbooks"
    shutil.copytree(RUNBOOKS, folder)
    (folder / "Watchdog.md").unlink()
    other = folder / "TargetDown.md"
    other.write_text(other.read_text().replace("== 0", "== 2").replace("## Verify", "## Later"))

    finding = runbooks_complete(folder, date(2026, 12, 1))

    assert finding.grade == "error"
    for told in ("Watchdog.md: missing", "TargetDown.md: no section Verify", "TargetDown.md: says another rule"):
        assert told in finding.detail
    assert "HighInferenceLatency.md: review was due" in runbooks_complete(folder, date(2027, 7, 1)).detail


def test_document_control_is_asked_for_whole() -> None:
    head = "---\nversion: 1.0\nlast_updated: 2026-11-23\nnext_review: {}\nowner: operations\n---\n"
    today = date(2026, 12, 1)
    head += "\n# A page\n"
    assert control_problems(head.format("2027-06-30"), today) == []
    assert control_problems(head.format("soon"), today) == ["next_review is no date: soon"]
    assert control_problems("# A page", today) == ["no version", "no last_updated", "no next_review", "no owner"]


def test_rules_can_be_made_for_runbooks_published_elsewhere() -> None:
    (group,) = rule_file("https://runbooks.example/")["groups"]
    urls = {rule["annotations"]["runbook_url"] for rule in group["rules"]}
    assert "https://runbooks.example/Watchdog.md" in urls


async def test_a_prometheus_that_is_not_there_is_a_finding() -> None:
    (finding,) = await monitoring_configured(f"http://127.0.0.1:{free_port()}")
    assert (finding.check, finding.grade, finding.exit_code) == ("prometheus", "error", 5)


def test_made_files_say_what_the_code_says() -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "scripts" / "monitoring.py", "--check"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
