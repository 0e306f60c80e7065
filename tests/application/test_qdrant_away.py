"""A service whose Qdrant server refuses, fails, hangs or drips: it starts, stays useful, and says what is wrong."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.application.test_index_process import QUESTION, LocalModel, Service
from tests.index.test_index_crashes import _until
from tests.interfaces.conftest import FIXED_BUG, transcript

from knowledge_system import settings
from knowledge_system.application.compose import Parts
from knowledge_system.application.diagnosing import diagnose
from knowledge_system.application.doctor import examine
from knowledge_system.application.options import IngestOptions
from knowledge_system.application.system import KnowledgeSystem
from knowledge_system.domain.errors import IndexUnavailable
from knowledge_system.domain.events import Event, IndexServerLost
from knowledge_system.domain.truth import Page

Answer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def hangs(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
    """Take the request, and never answer."""
    await reader.read()


async def fails(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 500 Internal Server Error\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
    writer.close()


async def drips(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer one byte at a time, for ever: no single read times out."""
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 100000\r\n\r\n")
    while not writer.is_closing():
        writer.write(b" ")
        await asyncio.sleep(0.05)


@asynccontextmanager
async def answering(how: Answer | None) -> AsyncIterator[str]:
    """Yield the address of a server that answers like that; None: of nobody."""
    if how is None:
        with socket.socket() as taken:  # and never listens: nobody else gets the port
            taken.bind(("127.0.0.1", 0))
            yield f"http://127.0.0.1:{taken.getsockname()[1]}"
        return
    server = await asyncio.start_server(how, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()


def configure(home: Path, tree: dict[str, Any]) -> None:
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    (home / "config.json").write_text(json.dumps(tree))


@asynccontextmanager
async def opened(home: Path, tree: dict[str, Any], *, resident: bool = True) -> AsyncIterator[Service]:
    """Open a home, new or not, with nothing in it yet."""
    configure(home, tree)
    events: list[Event] = []
    model: Any = LocalModel()
    async with Parts(settings.load(home, environ={}), "test", emit=events.append, _model=model) as parts:
        parts.resident = resident
        yield Service(parts, KnowledgeSystem(parts), events)


def beside(home: Path, url: str, *, resident: bool = True) -> AbstractAsyncContextManager[Service]:
    return opened(home, {"vectors": {"backend": "qdrant", "url": url}}, resident=resident)


def session(folder: Path, count: int = 3) -> Path:
    exchanges = [{**FIXED_BUG, "user": f"{FIXED_BUG['user']} Case {number}."} for number in range(count)]
    return transcript(folder / "s.json", "s", exchanges)


@pytest.mark.parametrize("how", [None, fails, hangs, drips], ids=["refuses", "fails", "hangs", "drips"])
async def test_a_service_goes_on_without_the_server_of_its_index(tmp_path: Path, how: Answer | None) -> None:
    async with answering(how) as url, beside(tmp_path / "home", url) as running:
        parts, system = running.parts, running.system
        ready = await parts.health().ready()  # the first question of all: it does not wait for the server
        assert (ready.status, ready.document()["qdrant"]["status"]) == ("unhealthy", "down")
        tally = await system.capture([session(tmp_path)])
        assert tally.new == 3
        with pytest.raises(IndexUnavailable) as refused:
            await system.search(QUESTION)
        assert "the index's server cannot be used" in refused.value.message
        assert "tried again by itself" in refused.value.hint
        assert (await (await parts.truth()).outbox.depth())["words"] == 3
        assert len((await system.list("exchanges", Page()))["results"]) == 3
        await _until(lambda: running.told(IndexServerLost))
        report = await parts.health().report()
        assert report.status == "unhealthy"
        told = json.dumps(report.document())
        assert report.document()["qdrant"]["latency"] is None
        assert report.document()["sqlite"]["status"] == "up"
        assert url.removeprefix("http://") not in told, "strangers read it"
        document = await diagnose(parts, "index")
        assert document["servers"][0]["state"] == "away"
        assert not document["servers"][0]["reachable"]
        assert (document["exit_code"], "vectors.url" in document["advice"]) == (5, True)
        findings = {one.check: one for one in await examine(parts)}
        assert (findings["index_server"].grade, findings["index"].exit_code) == ("error", 5)
        (server,) = (await system.status())["index_server"]
        assert (server["state"], server["outages"]) == ("away", 1)
        assert len(running.told(IndexServerLost)) == 1, "however often it was tried"


async def test_what_is_ingested_forgotten_and_remembered_meanwhile_is_kept(tmp_path: Path) -> None:
    async with answering(None) as url, beside(tmp_path / "home", url) as running:
        system = running.system
        document = await system.ingest([session(tmp_path)], IngestOptions(), lambda *_: None)
        assert document["exchanges"]["new"] == 3
        assert "the index's server cannot be used" in document["degraded"][0]
        (first, *_) = await (await running.parts.truth()).ledger.owners()
        assert (await system.forget([first]))["forgotten"] == 1
        assert (await system.status())["exchanges"] == 2
        with pytest.raises(IndexUnavailable):
            await system.index_rebuild()
        with pytest.raises(IndexUnavailable):
            await system.index_verify()


async def test_a_command_without_a_service_says_so_at_once_and_keeps_what_it_stored(tmp_path: Path) -> None:
    async with answering(None) as url, beside(tmp_path / "home", url, resident=False) as running:
        assert (await running.system.capture([session(tmp_path)])).new == 3
        with pytest.raises(IndexUnavailable) as refused:
            await running.system.index_status()
        assert "tried again" not in refused.value.hint
        assert "vectors.url" in refused.value.hint
