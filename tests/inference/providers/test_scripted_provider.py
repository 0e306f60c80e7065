"""The equipment itself: a fake that is trusted must do what its script says."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys

import httpx2
import pytest

from knowledge_system.testing.scripted_provider import ScriptedProvider, Step

CHAT = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}


async def post(server: ScriptedProvider, path: str = "/v1/chat/completions", **body: object) -> httpx2.Response:
    async with httpx2.AsyncClient(trust_env=False, timeout=5) as client:
        return await client.post(server.url + path, json={**CHAT, **body})


async def test_steps_are_used_up_in_order_then_the_default_answers() -> None:
    async with ScriptedProvider(Step(text="one"), default=Step(text="rest")) as server:
        server.script(Step(status=429, headers={"Retry-After": "3"}))
        answers = [await post(server) for _ in range(4)]
    assert [answer.status_code for answer in answers] == [200, 429, 200, 200]
    assert answers[1].headers["retry-after"] == "3"
    assert [a.json()["choices"][0]["message"]["content"] for a in (answers[0], *answers[2:])] == ["one", "rest", "rest"]


async def test_a_function_may_answer_by_what_was_asked() -> None:
    async with ScriptedProvider(Step(text="script")) as server:
        server.respond = lambda request: Step(text="asked") if "magic" in request.text else None
        told = [(await post(server, note=note)).json() for note in ("magic", "plain")]
    assert [one["choices"][0]["message"]["content"] for one in told] == ["asked", "script"]


async def test_requests_are_kept_whole() -> None:
    async with ScriptedProvider() as server:
        await post(server, extra="canary-77")
        (received,) = server.requests
        await server.until(lambda: received.answered)
    assert received.body["extra"] == "canary-77"
    assert "canary-77" in received.text
    assert (received.method, received.protocol, received.answered) == ("POST", "openai", True)


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages", "/api/chat"])
@pytest.mark.parametrize("stream", [False, True])
async def test_each_protocol_answers_in_its_own_words(path: str, *, stream: bool) -> None:
    async with ScriptedProvider(Step(text="hello there")) as server:
        answer = await post(server, path, stream=stream)
    assert "hel" in answer.text
    kinds = {"/api/chat": "application/x-ndjson"}
    expected = kinds.get(path, "text/event-stream") if stream else "application/json"
    assert answer.headers["content-type"] == expected


async def test_faults_break_the_connection() -> None:
    async with ScriptedProvider(Step(cut="start"), Step(cut="middle"), Step(declared_length=9999)) as server:
        for _ in range(2):
            with pytest.raises(httpx2.RemoteProtocolError):
                await post(server)
        with pytest.raises(httpx2.RemoteProtocolError):
            await post(server)


async def test_those_who_leave_are_noticed() -> None:
    async with ScriptedProvider(Step(hang="start")) as server:
        task = asyncio.create_task(post(server))
        await server.until(lambda: server.running == 1)
        task.cancel()
        await server.until(lambda: server.requests[0].abandoned)
        assert server.running == 0


async def test_the_peak_counts_what_was_under_way_at_once() -> None:
    async with ScriptedProvider(default=Step(delay=0.05)) as server:
        await asyncio.gather(*(post(server) for _ in range(8)))
        assert 2 <= server.peak <= 8
        assert len(server.requests) == 8


async def test_questions_about_models_are_free() -> None:
    async with ScriptedProvider() as server, httpx2.AsyncClient(trust_env=False) as client:
        for path in ("/v1/models", "/api/tags", "/api/version"):
            assert (await client.get(server.url + path)).status_code == 200
        assert not server.requests
        assert len(server.probes) == 3


async def test_one_connection_carries_many_requests() -> None:
    async with ScriptedProvider() as server, httpx2.AsyncClient(trust_env=False) as client:
        for _ in range(3):
            await client.post(f"{server.openai_url}/chat/completions", json=CHAT)
        assert server.connections == 1


async def test_stopping_frees_those_who_hang() -> None:
    server = ScriptedProvider(Step(hang="middle"))
    await server.start()
    task = asyncio.create_task(post(server))
    await server.until(lambda: server.running == 1)
    await server.stop()
    with pytest.raises(httpx2.HTTPError):
        await task


def test_it_runs_as_a_command_for_other_processes() -> None:
    command = [sys.executable, "-m", "knowledge_system.testing.scripted_provider"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            url = process.stdout.readline().strip()
            with httpx2.Client(trust_env=False, timeout=5) as client:
                client.post(f"{url}/__script", json=[{"text": "from afar", "input_tokens": 3}])
                answer = client.post(f"{url}/v1/chat/completions", json=CHAT).json()
                asked = client.get(f"{url}/__requests").json()
                client.post(f"{url}/__reset")
                forgotten = client.get(f"{url}/__requests").json()
        finally:
            process.terminate()
    assert answer["choices"][0]["message"]["content"] == "from afar"
    assert answer["usage"]["prompt_tokens"] == 3
    assert [json.loads(one["raw"]) for one in asked] == [CHAT]
    assert forgotten == []
