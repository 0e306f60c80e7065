"""`knowledge serve` and the commands beside it, on a Qdrant server that ends and comes back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx2
from tests.interfaces.conftest import CHORE, FIXED_BUG, Cli, transcript
from tests.interfaces.test_index_process import service, until

from knowledge_system.testing.scripted_qdrant import ScriptedQdrant

KEY = "key-of-a-test-server"
QUESTION = ("search", "queue pool limit in CI", "--limit", "3")


def url_of(cli: Cli) -> str:
    return str(json.loads((cli.home / "lock").read_text())["url"])


def readiness(cli: Cli) -> int:
    return httpx2.get(f"{url_of(cli)}/health/ready", timeout=30).status_code


def server_of(cli: Cli) -> Any:
    (document,) = cli.json("status")["index_server"]
    return document


def test_a_service_and_its_commands_on_a_server_that_comes_and_goes(cli: Cli, tmp_path: Path) -> None:
    first = transcript(tmp_path / "s.json", "s1", [FIXED_BUG, CHORE])
    more = {**FIXED_BUG, "user": "Why does the zebra crossing of the map layer flicker?"}
    later = transcript(tmp_path / "t.json", "s2", [more])
    with ScriptedQdrant(tmp_path / "qdrant", api_key=KEY) as server:
        cli.environ["QDRANT_API_KEY"] = KEY
        cli.json("config", "set", "vectors", json.dumps({"backend": "qdrant", "url": server.url}))
        with service(cli):
            assert cli.json("ingest", first)["items"]["created"] == 1
            found = cli.json(*QUESTION)["results"]
            assert found
            assert (readiness(cli), server_of(cli)["state"]) == (200, "up")
            server.stop()
            refused = cli.run(*QUESTION)
            assert (refused.returncode, "the index's server cannot be used" in refused.stderr) == (5, True)
            until(lambda: readiness(cli) == 503)
            assert httpx2.get(f"{url_of(cli)}/health/live", timeout=30).status_code == 200
            answer = httpx2.post(f"{url_of(cli)}/v1/search", json={"query": "queue pool limit"}, timeout=30)
            assert (answer.status_code, answer.json()["code"]) == (503, "index-unavailable")
            assert "tried again by itself" in answer.json()["hint"]
            stored = cli.run("--json", "ingest", later)
            assert (stored.returncode, json.loads(stored.stdout)["exchanges"]["new"]) == (5, 1)
            assert "stored, not in the index and not learned yet" in stored.stderr
            assert "the server" in cli.run("status").stdout
            looked = cli.run("doctor", "index")
            assert (looked.returncode, "no answer" in looked.stdout) == (5, True)
            server.start()
            until(lambda: readiness(cli) == 200 and server_of(cli)["state"] == "up")
            until(lambda: bool(cli.json("search", "zebra crossing", "--scope", "exchanges")["results"]))
            assert {one["id"] for one in found} <= {one["id"] for one in cli.json(*QUESTION)["results"]}
            assert "Qdrant 1.19.0, ready" in cli.run("doctor", "index").stdout
        assert cli.json(*QUESTION)["results"], "without the service too"
        server.stop()
        alone = cli.run(*QUESTION)
        assert (alone.returncode, "vectors.url" in alone.stderr) == (5, True)
    told = "".join(path.read_text(errors="replace") for path in cli.home.rglob("*") if path.suffix in {".json", ".log"})
    assert KEY not in told
