"""What every answer has in common, refusals above all; asked as somebody would who only read the contract."""

from __future__ import annotations

import errno
import json
import os
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest
from tests.interfaces.http.conftest import configure
from tests.interfaces.http.inside import inside
from tests.interfaces.http.test_admin import tokens

from knowledge_system import settings
from knowledge_system.application.addresses import CALL_PATH
from knowledge_system.application.compose import Parts
from knowledge_system.application.doorkeepers import admin_record
from knowledge_system.domain.errors import Busy
from knowledge_system.interfaces.http.problems import answer, openai_error
from knowledge_system.testing.scripted_provider import ScriptedProvider

FOREIGN = {"host": "evil.example"}
TYPED = {"content-type": "application/json"}


@pytest.fixture
def home(tmp_path: Path, provider: ScriptedProvider) -> Path:
    configure(tmp_path / "home", provider)
    return tmp_path / "home"


Asked = tuple[str, str, dict[str, Any], int, str]
REFUSED: list[Asked] = [
    ("GET", "/nowhere", {}, 404, "not-found"),
    ("GET", "/v1/items/", {}, 404, "not-found"),
    ("POST", "/v1/search/", {"json": {"query": "x"}}, 404, "not-found"),
    ("GET", "/config/", {}, 404, "not-found"),
    ("GET", "/v1/items/..%2f..%2fconfig", {}, 404, "not-found"),
    ("PUT", "/v1/search", {}, 405, "method-not-allowed"),
    ("GET", "/v1/budget", {"headers": FOREIGN}, 403, "forbidden"),
    ("GET", "/health", {"headers": {"origin": "null"}}, 403, "forbidden"),
    ("GET", "/v1/items", {"headers": {"accept": "text/html"}}, 406, "not-acceptable"),
    ("GET", "/v1/items?limit=1&limit=2", {}, 400, "usage"),
    ("GET", "/v1/budget?unknown=1", {}, 400, "usage"),
    ("GET", "/v1/costs/report?period=day&at=9999-12-31", {}, 400, "usage"),
    ("GET", "/v1/costs/report?period=month&at=9999-12-01", {}, 400, "usage"),
    ("GET", "/v1/costs/report?at=99999999999999999d", {}, 400, "usage"),
    ("POST", "/v1/search", {"json": {"query": "x", "since": "99999999999999999d"}}, 400, "usage"),
    ("POST", "/v1/search", {}, 422, "usage"),
    ("POST", "/v1/search", {"content": b"a=b"}, 415, "unsupported-media-type"),
    ("POST", "/v1/search", {"json": {"lmit": 1}}, 422, "usage"),
    ("POST", "/v1/infer", {"json": {}}, 400, "usage"),
]


@pytest.mark.parametrize("asked", REFUSED, ids=lambda asked: f"{asked[0]} {asked[1]}")
async def test_a_refusal_says_what_is_wrong_and_what_to_do(home: Path, asked: Asked) -> None:
    method, path, options, status, code = asked
    async with inside(home) as door:
        response = await door.client.request(method, path, **options)

    told = response.json()
    assert (response.status_code, told["status"], told["code"]) == (status, status, code), told
    assert response.headers["content-type"] == "application/problem+json"
    assert told["title"] == HTTPStatus(status).phrase
    assert told["detail"]
    assert told["hint"]
    assert response.headers["x-request-id"]


async def test_what_the_scopes_and_the_private_door_refuse_has_a_hint(home: Path) -> None:
    headers = tokens(home)
    async with inside(home) as door:
        nobody = await door.client.get("/v1/budget")
        reader = await door.client.get("/config", headers=headers["read"])
        private = await door.client.post(f"{CALL_PATH}status", json={}, headers=headers["admin"])
    async with inside(home, secret="the-secret") as door:
        wrong = await door.client.post(f"{CALL_PATH}status", json={}, headers=headers["admin"])
        right = await door.client.post(
            f"{CALL_PATH}status", json={}, headers={"authorization": "Bearer the-secret", **FOREIGN}
        )

    assert [one.status_code for one in (nobody, reader, private, wrong)] == [401, 403, 401, 401]
    assert all(one.json()["hint"] for one in (nobody, reader, private, wrong))
    assert nobody.headers["www-authenticate"] == "Bearer"
    assert right.status_code == 400, "let in, and then refused for its version"


async def test_answers_are_kept_by_nobody_and_taken_for_nothing_else(home: Path) -> None:
    async with inside(home) as door:
        for path in ("/v1/items", "/config", "/health", "/metrics", "/openapi.json", "/nowhere"):
            response = await door.client.get(path)
            assert response.headers["x-content-type-options"] == "nosniff", path
            assert response.headers["cache-control"] == "no-store", path


async def test_only_json_is_read_on_the_paths_of_openai_too(home: Path) -> None:
    async with inside(home) as door:
        for path in ("/v1/chat/completions", "/v1/embeddings"):
            response = await door.client.post(path, content=b"{}", headers={"content-type": "text/plain"})
            assert response.status_code == 415
            assert response.json()["error"]["code"] == "unsupported-media-type"


async def test_a_request_that_fails_unexpectedly_can_be_found_in_the_log(home: Path) -> None:
    seen: list[BaseException] = []

    async with inside(home) as door:

        async def broken() -> None:
            seen.append(ZeroDivisionError())
            raise seen[0]

        door.app.add_api_route("/broken", broken)
        response = await door.client.get("/broken")

    assert (response.status_code, response.json()["code"]) == (500, "unexpected")
    assert response.headers["x-request-id"] in "".join(seen[0].__notes__)


async def test_a_full_disk_is_no_failure_of_the_server(home: Path) -> None:
    async with inside(home) as door:

        async def full() -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        door.app.add_api_route("/full", full)
        told = await door.json("GET", "/full", 503)

    assert (told["code"], told["detail"]) == ("unavailable", "the system refuses: No space left on device")


def test_where_the_server_keeps_its_files_is_told_to_nobody() -> None:
    busy = Busy("Another process is writing to /var/lib/knowledge/analytics.db.", hint="see http://127.0.0.1:1/a/b")
    told = json.loads(bytes(answer("/v1/items", busy).body))

    assert told["detail"] == "Another process is writing to …/analytics.db."
    assert told["hint"] == "see http://127.0.0.1:1/a/b"
    assert "/var/lib" not in str(openai_error(busy))


async def test_an_admin_call_that_cannot_be_audited_is_answered_and_logged(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with Parts(settings.load(home, environ={}), "test") as parts:
        record = admin_record(parts)
        (home / "analytics.db").write_bytes(b"this is no database" * 100)
        await record("http:ops", "POST /config", "200")

    told = capsys.readouterr()
    assert "AdminCallNotAudited" in told.out + told.err
    assert "POST /config" in told.out + told.err
