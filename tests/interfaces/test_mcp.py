"""The tools of an agent, called by the official client over both transports."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from mcp import ClientSession, StdioServerParameters
from mcp.client.stdio import stdio_client
from mcp.client.streamable_http import streamable_http_client
from tests.interfaces.conftest import CHORE, FIXED_BUG, KNOWLEDGE, Cli, transcript
from tests.interfaces.test_served import service

TOOLS = {"knowledge_search", "knowledge_get", "knowledge_timeline", "knowledge_remember", "knowledge_feedback"}
SAYING = {
    "title": "Close the pool on every path",
    "content": "A pooled connection must be closed on every path, because a leak shows only under load.",
    "type": "coding_pattern",
    "project": "shop",
}


@asynccontextmanager
async def stdio(cli: Cli) -> AsyncIterator[ClientSession]:
    parameters = StdioServerParameters(command=str(KNOWLEDGE), args=["mcp"], env=cli.variables())
    async with stdio_client(parameters) as (read, write), ClientSession(read, write) as client:
        await client.initialize()
        yield client


@asynccontextmanager
async def http(cli: Cli) -> AsyncIterator[ClientSession]:
    with service(cli) as (url, _):
        async with streamable_http_client(f"{url}/mcp") as (read, write), ClientSession(read, write) as client:
            await client.initialize()
            yield client


TRANSPORTS = {"stdio": stdio, "http": http}


@pytest.fixture(params=list(TRANSPORTS))
def connect(request: pytest.FixtureRequest) -> Any:
    return TRANSPORTS[request.param]


async def call(client: ClientSession, tool: str, **arguments: Any) -> dict[str, Any]:
    result = await client.call_tool(tool, arguments)
    assert not result.is_error, result.content
    assert result.structured_content is not None
    return result.structured_content


async def refused(client: ClientSession, tool: str, **arguments: Any) -> str:
    result = await client.call_tool(tool, arguments)
    assert result.is_error
    return str(result.content[0])


async def test_search_then_read_then_look_around(cli: Cli, tmp_path: Path, connect: Any) -> None:
    cli.json("ingest", transcript(tmp_path / "s.json", "s1", [FIXED_BUG, CHORE]))
    async with connect(cli) as client:
        listed = {tool.name: tool for tool in (await client.list_tools()).tools}
        assert set(listed) == TOOLS
        for name in ("knowledge_search", "knowledge_get", "knowledge_timeline"):
            assert listed[name].annotations is not None
            assert listed[name].annotations.read_only_hint
            assert listed[name].output_schema
        hits = await call(client, "knowledge_search", query="queue pool limit in CI", scope="items", limit=1)
        (hit,) = hits["results"]
        assert len(hit["snippet"]) <= 200
        first = await call(client, "knowledge_search", query="queue pool limit in CI", limit=1)
        assert first["next"] == 1
        more = await call(client, "knowledge_search", query="queue pool limit in CI", limit=5, offset=1)
        assert first["results"][0]["id"] not in {one["id"] for one in more["results"]}
        read = await call(client, "knowledge_get", ids=[hit["id"], "k-nothing"])
        assert read["missing"] == ["k-nothing"]
        assert read["results"][0]["evidence"][0]["quote"]
        around = await call(client, "knowledge_timeline", id=hit["id"])
        assert [one["exchange_index"] for one in around["results"]] == [0, 1]
        assert (await call(client, "knowledge_timeline", id="s1"))["centre"] is None


async def test_what_is_remembered_is_found_and_judged(cli: Cli, connect: Any) -> None:
    async with connect(cli) as client:
        first = await call(client, "knowledge_remember", **SAYING)
        again = await call(client, "knowledge_remember", **SAYING)
        assert (first["known"], again["known"], first["id"]) == (False, True, again["id"])
        found = await call(client, "knowledge_search", query="close pooled connection on every path", scope="items")
        assert [one["id"] for one in found["results"]] == [first["id"]]
        judged = await call(client, "knowledge_feedback", id=first["id"], verdict="wrong")
        assert judged["status"] == "deprecated"
        found = await call(client, "knowledge_search", query="close pooled connection on every path", scope="items")
        assert found["results"] == []


async def test_secrets_are_not_remembered_in_clear(cli: Cli) -> None:
    key = "AKIA" + "Z7Q3M5X2T4V6B8N1"[:16]
    async with stdio(cli) as client:
        kept = await call(client, "knowledge_remember", **{**SAYING, "content": f"The deploy key is {key}, use it."})
        shown = await call(client, "knowledge_get", ids=[kept["id"]])
    assert key not in str(shown)
    assert key.encode() not in b"".join(path.read_bytes() for path in cli.home.glob("analytics.db*"))


BAD_CALLS = {
    "empty question": ("knowledge_search", {"query": ""}, "query"),
    "unknown type": ("knowledge_search", {"query": "x", "type": "poem"}, "type"),
    "too many": ("knowledge_get", {"ids": [f"k{n}" for n in range(21)]}, "ids"),
    "unknown id": ("knowledge_timeline", {"id": "k-nothing"}, "nothing is known under k-nothing"),
    "no such item": ("knowledge_feedback", {"id": "k-nothing", "verdict": "helpful"}, "no item k-nothing"),
    "other verdict": ("knowledge_feedback", {"id": "k1", "verdict": "meh"}, "verdict"),
    "no arguments": ("knowledge_remember", {}, "title"),
    "unknown tool": ("knowledge_destroy", {}, "knowledge_destroy"),
}


async def test_a_client_that_misbehaves_gets_clear_errors_and_the_server_goes_on(cli: Cli) -> None:
    async with stdio(cli) as client:
        for tool, arguments, expected in BAD_CALLS.values():
            assert expected in await refused(client, tool, **arguments)
        assert (await call(client, "knowledge_search", query="anything"))["results"] == []


async def test_without_a_service_the_directory_is_given_back_to_commands(cli: Cli, tmp_path: Path) -> None:
    file = transcript(tmp_path / "s.json", "s1", [FIXED_BUG])
    async with stdio(cli) as client:
        await call(client, "knowledge_search", query="anything")
        with service(cli):
            pass
        assert cli.json("ingest", file)["exchanges"]["new"] == 1
        assert (await call(client, "knowledge_search", query="queue pool limit"))["results"]
