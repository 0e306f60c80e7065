"""Who is let in, and what is refused before anything is asked."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.datastructures import Headers
from tests.interfaces.conftest import Cli
from tests.interfaces.http.conftest import Served, serving

from knowledge_system.domain.errors import UsageError
from knowledge_system.interfaces.http.guard import MAX_BODY, foreign, hostname, is_loopback
from knowledge_system.interfaces.http.server import Address, listen
from knowledge_system.testing.scripted_provider import ScriptedProvider

CHAT = "/v1/chat/completions"
ASK = {"model": "groq", "messages": [{"role": "user", "content": "Say hello."}]}
SERVE = (
    "import sys; from knowledge_system.interfaces.cli import app, serve\n"
    "if not any(one.callback is serve.serve for one in app.app.registered_commands): serve.register(app.app)\n"
    "sys.exit(app.run(sys.argv[1:]))"
)


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example:80", "10.0.0.7:3000", "a@localhost"])
async def test_a_foreign_host_name_is_refused(served: Served, host: str) -> None:
    response = await served.post(CHAT, json=ASK, headers={"host": host})

    assert response.status_code == 403
    assert response.json()["error"]["code"] == "forbidden"
    assert served.provider.requests == []


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://localhost:1", "http://127.0.0.1"])
async def test_a_page_of_another_origin_is_refused(served: Served, origin: str) -> None:
    assert (await served.post(CHAT, json=ASK, headers={"origin": origin})).status_code == 403
    assert served.provider.requests == []


async def test_the_servers_own_pages_may_ask(served: Served) -> None:
    assert (await served.post(CHAT, json=ASK, headers={"origin": served.url})).status_code == 200


async def test_with_a_token_everybody_needs_it(tmp_path: Path, provider: ScriptedProvider) -> None:
    async with serving(tmp_path / "home", provider, token="right-token") as served:
        for headers in ({}, {"authorization": "Bearer wrong"}, {"authorization": "right-token"}):
            response = await served.post(CHAT, json=ASK, headers=headers)
            assert response.status_code == 401
            assert response.headers["www-authenticate"] == "Bearer"
        names = [model.id async for model in served.client(api_key="right-token").models.list()]
        assert "auto" in names


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])  # noqa: S104 -- refused is what is tested
def test_an_open_address_without_a_token_is_not_listened_on(host: str) -> None:
    with pytest.raises(UsageError, match="no token"), listen(Address(host, 0), None):
        pass


async def test_too_large_a_body_is_refused_declared_or_not(served: Served) -> None:
    async def endless() -> object:
        for _ in range(MAX_BODY // 65536 + 2):
            yield b" " * 65536

    for body in (b" " * (MAX_BODY + 1), endless()):
        response = await served.post(CHAT, content=body)
        assert response.status_code == 413
        assert response.json()["error"]["code"] == "too-large"


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b'"text"', b"\xff", b'{"model": NaN}', b'{"model": "\\ud800"}', b"[" * 100_000, b'{"a": 1e999}'],
)
async def test_what_is_not_a_json_object_is_a_bad_request(served: Served, body: bytes) -> None:
    for path in (CHAT, "/v1/embeddings"):
        response = await served.post(path, content=body, headers={"content-type": "application/json"})
        assert response.status_code == 400
        assert response.json()["error"]["type"] == "invalid_request_error"


async def test_other_paths_answer_with_problem_details(served: Served) -> None:
    async with httpx2.AsyncClient(base_url=served.url) as client:
        missing, wrong = await client.get("/nowhere"), await client.get(CHAT)

    assert missing.headers["content-type"] == "application/problem+json"
    assert (missing.json()["status"], missing.json()["code"]) == (404, "not-found")
    assert (wrong.status_code, wrong.json()["error"]["code"]) == (405, "method-not-allowed")


@given(st.text(alphabet="localhost127.0:[]@/#?\\ .evil", max_size=30))
def test_only_names_of_this_machine_pass(host: str) -> None:
    passed = foreign(Headers({"host": host})) is None

    assert passed == is_loopback(hostname(host))
    if passed:
        assert host.lower().startswith(("localhost", "127.", "[::1]"))


def test_the_command_prints_its_address_serves_and_ends_gracefully(tmp_path: Path) -> None:
    cli = Cli(tmp_path / "home")
    process = subprocess.Popen(
        [sys.executable, "-c", SERVE, "--json", "serve", "--port", "0"],
        env={**cli.variables(), "KNOWLEDGE_API_TOKEN": ""},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    try:
        url = json.loads(process.stdout.readline())["url"]
        listed = httpx2.get(f"{url}/v1/models", timeout=30)
        process.send_signal(signal.SIGTERM)
        rest, errors = process.communicate(timeout=60)
    finally:
        process.kill()

    assert listed.json()["data"][0]["id"] == "auto"
    assert (process.returncode, rest, errors) == (0, "", "")


def test_the_command_refuses_an_open_address_without_a_token(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SERVE, "serve", "--host", "0.0.0.0", "--port", "0"],  # noqa: S104 -- as above
        env={**Cli(tmp_path / "home").variables(), "KNOWLEDGE_API_TOKEN": " "},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )

    assert (done.returncode, done.stdout) == (2, "")
    assert "KNOWLEDGE_API_TOKEN" in done.stderr
