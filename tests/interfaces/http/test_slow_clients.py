"""Clients that are slow, greedy or gone: each is answered or closed in a bounded time, and the others are served."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import httpx2
import pytest
from starlette.types import Message, Receive, Scope, Send
from tests.interfaces.http.conftest import Served, configure, serving

from knowledge_system.interfaces.http.guard import Guard, GuardOptions
from knowledge_system.testing.scripted_provider import ScriptedProvider

WITHIN = 20
"""Seconds that are generous for what is configured to happen after a fraction of one."""


@pytest.fixture
async def impatient(tmp_path: Path, provider: ScriptedProvider) -> AsyncIterator[Served]:
    home = tmp_path / "home"
    configure(home, provider)
    tree = json.loads((home / "config.json").read_text())
    server = {"headerTimeout": 300, "bodyTimeout": 300, "connections": 8}
    (home / "config.json").write_text(json.dumps({**tree, "server": server}))
    async with serving(home, provider) as running:
        yield running


async def said(served: Served, start: bytes) -> bytes:
    """Send the beginning of a request, never the rest, and return everything that is answered."""
    host, _, port = served.url.removeprefix("http://").rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(start)
    answer = await asyncio.wait_for(reader.read(), WITHIN)
    writer.close()
    return answer


async def test_headers_and_bodies_that_never_end_are_answered_with_408_and_closed(impatient: Served) -> None:
    head = b"POST /v1/search HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"

    answers = await asyncio.gather(
        said(impatient, b""),
        said(impatient, b"POST /v1/sea"),
        said(impatient, head),
        said(impatient, head + b'content-length: 50\r\n\r\n{"query": '),
    )

    assert all(answer.startswith(b"HTTP/1.1 408") for answer in answers), answers
    assert b"application/problem+json" in answers[3]


async def test_connections_that_say_nothing_do_not_keep_others_out_for_long(impatient: Served) -> None:
    idle = [asyncio.create_task(said(impatient, b"GET /")) for _ in range(20)]
    async with httpx2.AsyncClient(base_url=impatient.url) as client, asyncio.timeout(WITHIN):
        while (await client.get("/v1/models")).status_code != 200:  # noqa: ASYNC110 -- over HTTP one can only ask
            await asyncio.sleep(0.05)
    await asyncio.gather(*idle, return_exceptions=True)


async def test_a_second_request_on_a_connection_has_its_own_time(impatient: Served) -> None:
    host, _, port = impatient.url.removeprefix("http://").rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    ask = b"GET /v1/models HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n"
    writer.write(ask)
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
    writer.write(b"GET /v1/models HTT")
    rest = await asyncio.wait_for(reader.read(), WITHIN)
    writer.close()

    assert b"HTTP/1.1 408" in rest


async def asked(app: object, receive: Receive, **options: float) -> list[Message]:
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": "GET",
        "path": "/v1/x",
        "headers": [(b"host", b"localhost")],
        "query_string": b"",
    }
    await Guard(app, GuardOptions(**options))(scope, receive, send)  # type: ignore[arg-type]
    return sent


async def nothing() -> Message:
    return {"type": "http.request", "body": b"", "more_body": False}


async def test_an_answer_that_does_not_begin_in_time_is_cancelled_and_one_that_has_begun_is_not() -> None:
    cancelled = asyncio.Event()

    async def silent(*_: object) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    async def streaming(_scope: Scope, _receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await asyncio.sleep(0.1)
        await send({"type": "http.response.body", "body": b"late"})

    late = await asked(silent, nothing, answer_within=0.01)
    begun = await asked(streaming, nothing, answer_within=0.01)

    assert (late[0]["status"], cancelled.is_set()) == (504, True)
    assert json.loads(late[1]["body"])["code"] == "timeout"
    assert [message["type"] for message in begun] == ["http.response.start", "http.response.body"]
