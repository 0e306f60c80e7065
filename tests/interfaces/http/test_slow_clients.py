"""Clients that are slow, greedy or gone: each is answered or closed in a bounded time, and the others are served."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
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
    answer = b""
    async with asyncio.timeout(WITHIN):
        while piece := await reader.read(65536):
            answer += piece
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
    assert [problem(answer)["code"] for answer in answers] == ["timeout"] * 4


def problem(answer: bytes) -> dict[str, object]:
    """Return the problem details that a whole answer consists of."""
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"content-type: application/problem+json" in head
    assert b"x-request-id: " in head
    told = json.loads(body)
    assert told["hint"]
    return dict(told)


@pytest.mark.parametrize(
    ("start", "status"),
    [
        (b"\x16\x03\x01\x02\r\n\r\n", 400),
        (b"GET /v1/budget\r\n\r\n", 400),
        (b"POST /v1/search HTTP/1.1\r\nhost: localhost\r\ncontent-length: 3\r\ncontent-length: 5\r\n\r\n", 400),
        (b"POST /v1/search HTTP/1.1\r\nhost: localhost\r\ncontent-length: -1\r\n\r\n", 400),
        (
            b"POST /v1/search HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\ncontent-length: 2\r\n\r\n",
            400,
        ),
        (b"GET /v1/budget HTTP/1.1\r\nhost: localhost\r\nx: " + b"a" * 200_000, 431),
        (b"GET /v1/budget HTTP/1.1\r\nhost: localhost\r\nx: " + b"a" * 70_000 + b"\r\n\r\n", 431),
        (b"GET /v1/budget?" + b"a" * 70_000 + b" HTTP/1.1\r\nhost: localhost\r\n\r\n", 431),
        (b"POST /v1/search HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: gzip\r\n\r\n", 400),
        (b"GET /v1/budget HTTP/1.1\r\n\r\n", 400),
        (b"GET /v1/budget HTTP/1.1\r\nhost: localhost\r\nhost: localhost\r\n\r\n", 400),
        (b"GET /v1/budget HTTP/1.1\r\nhost : localhost\r\n\r\n", 400),
        (b"GET /v1/budget HTTP/1.1\nhost: localhost\n\n", 400),
        (b"GET /v1/b\xfcdget HTTP/1.1\r\nhost: localhost\r\n\r\n", 400),
        (b"CONNECT localhost:443 HTTP/1.1\r\nhost: localhost\r\n\r\n", 400),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
    ],
)
async def test_what_is_no_http_is_told_so_in_problem_details(impatient: Served, start: bytes, status: int) -> None:
    answer = await said(impatient, start)

    assert answer.startswith(b"HTTP/1.1 %d " % status), answer
    assert problem(answer)["status"] == status


SEARCH = b"POST /v1/search HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
MODELS = b"GET /v1/models HTTP/1.1\r\nhost: localhost\r\n"
BODY = b'{"query": "pool"}'


def statuses(answers: bytes) -> list[int]:
    return [int(one) for one in re.findall(rb"HTTP/1\.1 (\d{3}) ", answers)]


async def test_an_upgrade_is_not_made_and_its_body_is_no_request(impatient: Served) -> None:
    hidden = b"GET /v1/models HTTP/1.1\r\nhost: localhost\r\n\r\n"
    upgrade = b"connection: upgrade\r\nupgrade: h2c\r\n"
    start = SEARCH + upgrade + b"content-length: %d\r\n\r\n" % len(hidden) + hidden
    answer = await said(
        impatient, start + SEARCH + b"connection: close\r\ncontent-length: %d\r\n\r\n" % len(BODY) + BODY
    )
    assert statuses(answer) == [400, 200]
    assert (await said(impatient, MODELS + b"connection: upgrade, close\r\nupgrade: h2c\r\n\r\n")).startswith(
        b"HTTP/1.1 200"
    )


@pytest.mark.parametrize("endless", [b"0\r\ntrailer: ", b"1;", b"0\r\n" + b"x: y\r\n" * 20_000])
async def test_what_stands_around_a_body_has_bounds_too(served: Served, endless: bytes) -> None:
    start = SEARCH + b"transfer-encoding: chunked\r\n\r\n"
    host, _, port = served.url.removeprefix("http://").rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(start + endless)
    async with asyncio.timeout(WITHIN):
        with contextlib.suppress(ConnectionError):  # it is refused with most of it unread
            for _ in range(2_000):
                writer.write(b"a" * 65536)
                await writer.drain()
            pytest.fail("it took 130 MB")
        with contextlib.suppress(ConnectionError):
            await reader.read()
    writer.close()


async def test_more_requests_than_may_wait_end_the_connection(impatient: Served) -> None:
    answer = await said(impatient, (MODELS + b"\r\n") * 500)
    assert len(statuses(answer)) < 200


async def test_requests_one_behind_the_other_are_answered_in_order(impatient: Served) -> None:
    large = b'{"query": "%s"}' % (b"pool " * 30_000)
    chunked = b"transfer-encoding: chunked\r\n\r\n5;a=b\r\n" + BODY[:5] + b"\r\nc\r\n" + BODY[5:] + b"\r\n0\r\n"
    start = [
        SEARCH + b"content-length: %d\r\n\r\n" % len(large) + large,
        MODELS + b"\r\n",
        SEARCH + chunked + b"host: elsewhere\r\norigin: http://evil.example\r\n\r\n",
        MODELS + b"connection: close\r\n\r\n",
    ]
    answer = await said(impatient, b"".join(start))
    assert statuses(answer) == [422, 200, 200, 200]


async def test_what_follows_a_request_and_cannot_be_read_ends_the_connection(impatient: Served) -> None:
    answer = await said(impatient, MODELS + b"\r\n" + MODELS + b"\r\n" + b"\x00\r\n\r\n")
    assert statuses(answer) == [], "an answer to one of them could be taken for that to another"
    async with httpx2.AsyncClient(base_url=impatient.url) as client:
        assert (await client.get("/v1/models")).status_code == 200


async def test_a_body_declared_too_large_is_refused_before_it_is_sent(impatient: Served) -> None:
    head = b"POST /v1/search HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
    answer = await said(impatient, head + b"expect: 100-continue\r\ncontent-length: 99999999999\r\n\r\n")

    assert answer.startswith(b"HTTP/1.1 413"), "nobody is asked to send it"


async def test_one_connection_too_many_is_told_to_come_back(impatient: Served) -> None:
    host, _, port = impatient.url.removeprefix("http://").rpartition(":")
    kept = [await asyncio.open_connection(host, int(port)) for _ in range(8)]
    answer = await said(impatient, b"GET /v1/budget HTTP/1.1\r\nhost: localhost\r\n\r\n")
    for _, writer in kept:
        writer.close()

    assert answer.startswith(b"HTTP/1.1 503"), answer
    assert b"retry-after: 1" in answer
    assert problem(answer)["code"] == "busy"


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
