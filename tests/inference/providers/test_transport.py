"""Where requests may go, what they leave behind, and what importing costs."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys

import pytest
from tests.inference.providers.conftest import KEY, Make

from knowledge_system.domain.inference import Call, EmbedCall, FailureKind, Message, PrivacyRefused, ProviderFailed
from knowledge_system.inference import transport
from knowledge_system.inference.prices import price
from knowledge_system.inference.provider import Provider, ProviderOptions
from knowledge_system.inference.vendors import vendor
from knowledge_system.testing.scripted_provider import ScriptedProvider, Step

CALL = Call("x", (Message("user", "hi"),))


async def test_the_switch_keeps_every_request_on_this_machine() -> None:
    provider = Provider(vendor("groq"), ProviderOptions(price=price(1, 1)), key=KEY)
    with pytest.raises(PrivacyRefused):
        await provider.infer(CALL)
    with pytest.raises(PrivacyRefused):
        await anext(provider.stream(CALL))


async def test_a_host_where_nobody_listens_has_cost_nothing() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    options = ProviderOptions(base_url=f"https://127.0.0.1:{port}/v1", price=price(1, 1), timeout_seconds=5)
    with pytest.raises(ProviderFailed) as caught:
        await Provider(vendor("groq"), options, key=KEY).infer(CALL)
    assert caught.value.kind in {FailureKind.CONNECTION, FailureKind.TIMEOUT}
    assert not caught.value.started


@pytest.mark.parametrize("dialect", ["local", "local-v1", "groq"])
async def test_no_proxy_sees_what_stays_here(
    dialect: str, make: Make, server: ScriptedProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with ScriptedProvider() as proxy:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, proxy.url)
        for name in ("NO_PROXY", "no_proxy"):
            monkeypatch.delenv(name, raising=False)
        await make(dialect).infer(CALL)
        assert not proxy.requests
        assert not proxy.probes
        assert len(server.requests) == 1


class TestWhatRunsHere:
    async def test_a_server_is_asked_once_before_the_first_prompt(self, make: Make, server: ScriptedProvider) -> None:
        provider = make("local")
        for _ in range(3):
            await provider.infer(CALL)
        assert [probe.path for probe in server.probes] == ["/api/show"]
        assert "hi" not in server.probes[0].text.split()

    @pytest.mark.parametrize("dialect", ["local", "local-v1"])
    @pytest.mark.parametrize("shown", [{"remote_host": "https://ollama.com:443"}, {"remote_model": "gpt-oss:120b"}])
    async def test_a_name_that_stands_for_a_cloud_model_gets_no_prompt(
        self, dialect: str, shown: dict[str, str], make: Make, server: ScriptedProvider
    ) -> None:
        server.show("mine", Step(body=shown))
        provider = make(dialect, model="mine", embedding_model="mine")
        embedder = make(dialect, embedding_model="mine", embeds=True)
        for attempt in (provider.infer(CALL), anext(provider.stream(CALL)), embedder.embed(EmbedCall("e", ("hi",)))):
            with pytest.raises(ProviderFailed) as caught:
                await attempt
            assert (caught.value.kind, caught.value.started) == (FailureKind.MISCONFIGURED, False)
        assert not server.requests

    @pytest.mark.parametrize("status", [404, 500])
    async def test_a_server_that_does_not_say_gets_no_prompt(
        self, status: int, make: Make, server: ScriptedProvider
    ) -> None:
        server.show("mine", Step(status=status, error="model 'mine' not found"))
        with pytest.raises(ProviderFailed) as caught:
            await make("local", model="mine").infer(CALL)
        assert not caught.value.started
        assert not server.requests

    async def test_servers_that_are_not_ollama_do_not_know_the_question(
        self, make: Make, server: ScriptedProvider
    ) -> None:
        server.show("mine", Step(status=404, body=b"Not Found"))
        assert (await make("local-v1", model="mine").infer(CALL)).text

    async def test_a_full_queue_is_no_fault(self, make: Make, server: ScriptedProvider) -> None:
        server.script(Step(status=503, headers={"retry-after": "2"}))
        with pytest.raises(ProviderFailed) as caught:
            await make("local").infer(CALL)
        assert (caught.value.kind, caught.value.retry_after) == (FailureKind.CAPACITY, 2.0)


async def test_a_server_that_knows_no_streams_answers_whole(make: Make, server: ScriptedProvider) -> None:
    whole = {"choices": [{"message": {"role": "assistant", "content": "all at once"}, "finish_reason": "stop"}]}
    server.script(Step(body=whole))
    deltas = [delta async for delta in make("groq").stream(CALL)]
    assert [delta.text for delta in deltas] == ["all at once", ""]
    assert deltas[-1].reply is not None
    assert deltas[-1].reply.text == "all at once"


async def test_a_price_for_chat_is_none_for_embeddings(make: Make) -> None:
    options = {"price": price(99, 99), "embedding_price": None, "embedding_model": "text-embedding-3-small"}
    assert make("openai", embeds=True, **options).price == price("0.02")
    assert make("openai", **options).price == price(99, 99)


async def test_rate_limits_of_the_last_answer_are_known(make: Make, server: ScriptedProvider) -> None:
    server.script(Step(headers={"x-ratelimit-remaining-tokens": "17", "x-ratelimit-reset-tokens": "2s"}))
    provider = make("groq")
    assert provider.rate_limits is None
    await provider.infer(CALL)
    assert provider.rate_limits is not None
    assert (provider.rate_limits.tokens_left, provider.rate_limits.tokens_reset) == (17, 2.0)


async def test_an_endless_answer_is_cut_off(
    make: Make, server: ScriptedProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transport, "MOST_BYTES", 10_000)
    server.script(Step(text="x" * 50_000))
    with pytest.raises(ProviderFailed) as caught:
        await make("groq").infer(CALL)
    assert caught.value.kind is FailureKind.MALFORMED


async def test_an_encoding_that_lies_is_malformed(make: Make, server: ScriptedProvider) -> None:
    server.script(Step(headers={"content-encoding": "gzip"}))
    with pytest.raises(ProviderFailed) as caught:
        await make("groq").infer(CALL)
    assert caught.value.kind is FailureKind.MALFORMED
    assert caught.value.__context__ is None


async def test_an_idle_connection_that_was_closed_is_replaced(make: Make, server: ScriptedProvider) -> None:
    server.script(Step(headers={"connection": "close"}), Step())
    provider = make("groq")
    await provider.infer(CALL)
    assert (await provider.infer(CALL)).text == "scripted answer"


def test_one_provider_serves_several_event_loops() -> None:
    provider: list[Provider] = []

    async def once() -> str:
        async with ScriptedProvider(port=0) as server:
            options = ProviderOptions(base_url=server.openai_url, price=price(1, 1))
            provider[:] = provider or [Provider(vendor("groq"), options, key=KEY)]
            provider[0]._transport._base = server.openai_url
            try:
                return (await provider[0].infer(CALL)).text
            finally:
                await provider[0].aclose()

    assert [asyncio.run(once()) for _ in range(2)] == ["scripted answer"] * 2


def test_importing_and_building_reaches_no_network_and_loads_no_prices() -> None:
    program = """
import socket, sys
def forbidden(*args, **kwargs):
    raise AssertionError("the network was used")
for name in ("connect", "connect_ex", "sendto", "bind"):
    setattr(socket.socket, name, forbidden)
socket.getaddrinfo = socket.create_connection = forbidden
from knowledge_system.inference import provider, vendors
for name in vendors.vendors():
    provider.make_provider(name, environ={})
assert "genai_prices" not in sys.modules
known = provider.make_provider("groq", environ={}).price
assert known is not None and "genai_prices" in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
