"""A real Prometheus watches a real service: it is up, the alerts are loaded, and every panel has data."""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2
import pytest
import yaml
from tests.embedding.remote_parts import meaningful
from tests.interfaces.conftest import FIXED_BUG, ROOT, Cli
from tests.interfaces.test_served import service
from tests.operations.monitoring.servers import free_port, installed, program

from knowledge_system.operations.monitoring.live import monitoring_configured
from knowledge_system.operations.monitoring.panels import dashboard_rows
from knowledge_system.testing.scripted_provider import Received, ScriptedProvider, Step

TOKEN = "token-of-a-test"
DEADLINE = 150
"""Seconds until every panel has data: its rates need two scrapes, some jobs run every half minute."""

NO_DATA: dict[str, str] = {}
"""Queries that cannot have data here, with the reason."""


@dataclass
class Watch:
    """A Prometheus and the service it scrapes."""

    prometheus: str
    client: httpx2.AsyncClient
    round: int = 0

    async def ask(self, query: str) -> list[dict[str, Any]]:
        answer = await self.client.get(f"{self.prometheus}/api/v1/query", params={"query": query})
        answer.raise_for_status()
        found: list[dict[str, Any]] = answer.json()["data"]["result"]
        return [one for one in found if one["value"][1] != "NaN"]

    async def use(self) -> None:
        """Do a little of everything that a day brings."""
        self.round += 1
        bug = {**FIXED_BUG, "user": f"Service {self.round} fails with `Error{self.round}`. Why?"}
        session = {"id": f"s{self.round}", "project": "shop", "agent": "any"}
        document = {"format": "knowledge-transcript/1", "session": session, "exchanges": [bug]}
        chat = {
            "model": "auto",
            "temperature": 0,
            "messages": [{"role": "user", "content": f"Name {self.round} zebras."}],
        }
        await self._post("/v1/exchanges", document)
        await self._post("/v1/search", {"query": f"the pool limit of service {self.round}"})
        for _ in range(2):
            await self._post("/v1/chat/completions", chat)

    async def _post(self, path: str, body: dict[str, Any]) -> None:
        answer = await self.client.post(path, json=body)
        assert answer.is_success, answer.text


@asynccontextmanager
async def prometheus(folder: Path, target: str) -> AsyncIterator[str]:
    """Run the shipped configuration, but every second, against `target`."""
    place = installed(folder, TOKEN)
    file = place / "prometheus.yml"
    configuration = yaml.safe_load(file.read_text())
    configuration["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    jobs = {job["job_name"]: job for job in configuration["scrape_configs"]}
    jobs["knowledge-system"]["static_configs"] = [{"targets": [target]}]
    configuration["scrape_configs"] = [jobs["knowledge-system"], jobs["qdrant"]]
    file.write_text(yaml.safe_dump(configuration))
    address = f"127.0.0.1:{free_port()}"
    command = [program("prometheus"), f"--config.file={file}", f"--storage.tsdb.path={folder / 'data'}"]
    with (folder / "prometheus.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            *command, f"--web.listen-address={address}", stdout=log, stderr=subprocess.STDOUT
        )
    try:
        await _ready(f"http://{address}", process)
        yield f"http://{address}"
    finally:
        process.terminate()
        await process.wait()


async def _ready(url: str, process: asyncio.subprocess.Process) -> None:
    async with httpx2.AsyncClient() as client, asyncio.timeout(60):
        while process.returncode is None:
            try:
                if (await client.get(f"{url}/-/ready")).is_success:
                    return
            except httpx2.TransportError:
                pass
            await asyncio.sleep(0.1)
    pytest.fail("Prometheus ended before it was ready")


def answering(received: Received) -> Step:
    if "input" in received.body:
        return meaningful(received)
    return Step(text="hello there", input_tokens=100, output_tokens=10)


@pytest.fixture
async def watch(cli: Cli, tmp_path: Path) -> AsyncIterator[Watch]:
    program("prometheus")
    cli.environ |= {"GROQ_API_KEY": "k", "OPENAI_API_KEY": "k", "KNOWLEDGE_API_TOKEN": TOKEN}
    async with ScriptedProvider() as provider:
        provider.respond = answering
        priced = {"input": 1.0, "output": 2.0}
        groq = {"baseUrl": provider.openai_url, "model": "openai/gpt-oss-20b", "price": priced}
        tree = {
            "inference": {
                "providerPriority": ["groq"],
                "localModels": {"enabled": False},
                "providers": {"groq": groq, "openai": {"baseUrl": provider.openai_url}},
            },
            "embeddings": {"remote": {"auto": True}},
            "learning": {"withModel": "never"},
        }
        (cli.home / "config.json").write_text(json.dumps(tree))
        await asyncio.to_thread(cli.json, "ingest", ROOT / "examples")
        with service(cli) as (url, _):
            headers = {"authorization": f"Bearer {TOKEN}"}
            async with (
                prometheus(tmp_path, urlsplit(url).netloc) as watching,
                httpx2.AsyncClient(base_url=url, headers=headers, timeout=60) as client,
            ):
                yield Watch(watching, client)


@pytest.mark.slow
async def test_prometheus_watches_a_service_in_use_and_every_panel_has_data(watch: Watch) -> None:
    waiting = {query.expr for row in dashboard_rows() for panel in row.panels for query in panel.queries} - set(NO_DATA)
    ends = asyncio.get_running_loop().time() + DEADLINE
    while waiting and asyncio.get_running_loop().time() < ends:
        await watch.use()
        waiting = {query for query in waiting if not await watch.ask(query)}
        await asyncio.sleep(1)

    assert waiting == set()
    assert [one["value"][1] for one in await watch.ask('up{job="knowledge-system"}')] == ["1"]
    assert {finding.check: finding.grade for finding in await monitoring_configured(watch.prometheus)} == {
        "prometheus": "ok", "targets": "ok", "alerts": "ok", "alertmanager": "ok",
    }  # fmt: skip
    while not (firing := await watch.ask('ALERTS{alertstate="firing"}')):
        assert asyncio.get_running_loop().time() < ends, "rules are evaluated every 30 seconds"
        await asyncio.sleep(1)
    assert {one["metric"]["alertname"] for one in firing} == {"Watchdog"}
    other = {finding.check: finding for finding in await monitoring_configured(watch.prometheus, job="nobody")}
    assert (other["targets"].grade, other["targets"].detail) == ("error", "no target of the job nobody")
