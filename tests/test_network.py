"""No test reaches beyond this machine: the switch that `conftest` turns on for every test, seen at work."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import subprocess
import sys
from pathlib import Path

import httpx2
import pytest
from tests.inference.engine.actors import ask

from knowledge_system.domain.errors import RefusedByPolicy
from knowledge_system.inference.provider import ProviderOptions, make_provider
from knowledge_system.testing import network

ELSEWHERE = "192.0.2.1"
"""An address reserved for documentation: nobody has it."""


@pytest.fixture(autouse=True)
def _attempts_are_the_point_here() -> object:
    yield
    network.forget()


def test_another_host_is_refused_before_a_packet_leaves() -> None:
    with socket.socket() as one, pytest.raises(RefusedByPolicy, match="only this machine"):
        one.connect((ELSEWHERE, 9))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one, pytest.raises(RefusedByPolicy):
        one.sendto(b"x", (ELSEWHERE, 9))
    assert [attempt.split()[0] for attempt in network.attempts()] == ["socket.connect", "socket.sendto"]


@pytest.mark.parametrize("name", ["example.org", "evil.localhost.example", b"example.org"], ids=str)
def test_another_name_is_not_even_looked_up(name: str | bytes) -> None:
    with pytest.raises(RefusedByPolicy):
        socket.getaddrinfo(name, 80)


async def test_asynchronous_clients_are_refused_too() -> None:
    with pytest.raises(RefusedByPolicy):
        await asyncio.open_connection(ELSEWHERE, 9)
    async with httpx2.AsyncClient(trust_env=False) as client:
        for host in (ELSEWHERE, "example.org"):
            with pytest.raises((RefusedByPolicy, ExceptionGroup)):
                await client.get(f"http://{host}/")
    assert len(network.attempts()) == 3


async def test_an_attempt_is_known_even_when_the_code_swallows_the_error() -> None:
    provider = make_provider("groq", ProviderOptions(), environ={"GROQ_API_KEY": "k"})
    with contextlib.suppress(RefusedByPolicy):
        await provider.infer(ask())
    await provider.aclose()
    assert any("api.groq.com" in attempt for attempt in network.attempts())


@pytest.mark.parametrize("here", ["127.0.0.1", "localhost", "::1", "127.9.9.9", "0.0.0.0", None, "x.localhost"])  # noqa: S104 -- names of this machine
def test_this_machine_is_reached(here: str | None) -> None:
    assert network.stays_here(here)


@pytest.mark.parametrize("there", [ELSEWHERE, "10.0.0.1", "::ffff:8.8.8.8", "fe80::1%eth0", "localhost.example", 7])
def test_everybody_else_is_not(there: object) -> None:
    assert not network.stays_here(there)


def test_a_server_on_loopback_and_a_socket_file_are_reached(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        socket.create_connection(server.getsockname()).close()
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as client:
        server.bind(str(path))
        server.listen()
        client.connect(str(path))
    assert network.attempts() == []


REACH_OUT = (
    "import socket\ntry: socket.create_connection(('192.0.2.1', 9), 1)\nexcept Exception as e: print(type(e).__name__)"
)


def test_a_child_process_is_refused_and_its_attempt_is_known(tmp_path: Path) -> None:
    log = tmp_path / "attempts"
    variables = {**os.environ, **network.child_environment(log)}
    for command in ([sys.executable, "-c", REACH_OUT], [sys.executable, "-c", f"import subprocess, sys\n{NESTED}"]):
        done = subprocess.run(command, env=variables, capture_output=True, text=True, check=True, timeout=60)
        assert done.stdout.split() == ["RefusedByPolicy"]
    assert len(network.told(log)) == 2


NESTED = f"subprocess.run([sys.executable, '-c', {REACH_OUT!r}], check=True)"


def test_every_child_of_a_test_is_watched() -> None:
    done = subprocess.run(
        [sys.executable, "-c", "from knowledge_system.testing import network; print(network._Switch.installed)"],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert done.stdout.strip() == "True"
