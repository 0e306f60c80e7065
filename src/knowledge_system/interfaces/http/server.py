"""The running server: a listener that is safe to have, and uvicorn that ends without cutting anybody off."""

from __future__ import annotations

import asyncio
import secrets
import signal
import socket
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import uvicorn

from knowledge_system.application.doorkeepers import admin_record, known_tokens
from knowledge_system.application.gateway import open_gateway
from knowledge_system.application.heap import collect_seldom, few_arenas
from knowledge_system.application.memory import memory_job
from knowledge_system.application.notifying import Supervisor, supervised
from knowledge_system.application.residence import capture_job, memory_return_job, reside
from knowledge_system.application.telemetry import open_telemetry
from knowledge_system.domain.errors import DependencyUnavailable, UsageError
from knowledge_system.domain.events import RequestRefused
from knowledge_system.interfaces.http.app import make_app
from knowledge_system.interfaces.http.guard import GuardOptions, is_loopback
from knowledge_system.interfaces.http.protocol import patient_for
from knowledge_system.interfaces.mcp import add_mcp

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from fastapi import FastAPI

    from knowledge_system.application.system import KnowledgeSystem

GRACE = 10
"""Seconds that requests under way get to finish when the server is told to stop."""

KEPT_ALIVE = 30
"""Seconds that a connection without a request stays open."""
_BACKLOG = 2048
HAND_OVER = 0.0005
"""Seconds that a thread keeps the interpreter while another waits for it, instead of 0.005: a search needs four threads
in turn, and while one waits a processor has nothing to do. 32 clients on two cores got 7 % more answers."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where to listen; port 0 takes a free one."""

    host: str
    port: int


class Server(uvicorn.Server):
    """Uvicorn that returns after SIGINT or SIGTERM: what was opened around it is closed in order.

    `ready` is called once requests are answered and signals are heard.
    """

    def __init__(self, config: uvicorn.Config, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, and say so."""
        await super().startup(sockets)
        self._ready()

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        """Serve until told to stop. Cancelled, it still takes its listeners away from the loop before they close."""
        try:
            await super().serve(sockets)
        finally:
            for one in getattr(self, "servers", ()):  # none before the start-up
                one.close()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Stop gracefully at the first signal; a second SIGINT does not wait."""
        loop, signals = asyncio.get_running_loop(), (signal.SIGINT, signal.SIGTERM)
        for one in signals:
            loop.add_signal_handler(one, self.handle_exit, one, None)
        try:
            yield
        finally:
            for one in signals:
                loop.remove_signal_handler(one)


def make_server(app: FastAPI, ready: Callable[[], None], patience: float = 10.0, connections: int = 512) -> Server:
    """Return a server for `app` that logs warnings only, and no requests.

    `patience` are the seconds in which a request must have told what it wants; beyond `connections` it answers 503.
    """
    config = uvicorn.Config(
        app,
        http=patient_for(patience, connections),
        timeout_keep_alive=KEPT_ALIVE,
        ws="none",
        lifespan="off",
        log_config=None,
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=GRACE,
    )
    return Server(config, ready)


@contextmanager
def listen(address: Address, token: str | None) -> Iterator[tuple[socket.socket, str]]:
    """Yield a listening socket and its URL. Raises UsageError for an address that needs a token and has none."""
    family, place = _resolved(address)
    if token is None and not is_loopback(place[0]):
        raise UsageError(
            f"{address.host} can be reached by others, and there is no token",
            hint="set KNOWLEDGE_API_TOKEN, or listen on 127.0.0.1",
        )
    # Named, because asyncio turns off Nagle's delay (40 ms an answer here) only where the protocol says TCP.
    with socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP) as listener:
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(place)
            listener.listen(_BACKLOG)
        except OSError as error:
            raise DependencyUnavailable(
                f"cannot listen on {address.host}:{address.port}: {error.strerror}",
                hint="stop what listens there, or choose another --port",
            ) from error
        name = f"[{place[0]}]" if family == socket.AF_INET6 else place[0]
        yield listener, f"http://{name}:{listener.getsockname()[1]}"


async def serve_on(
    listening: tuple[socket.socket, str], system: KnowledgeSystem, token: str | None, ready: Callable[[], None]
) -> None:
    """Own the data directory and serve until told to stop; `ready` is called when requests are answered.

    Raises Busy when another process has the directory.
    """
    parts, (listener, url) = system.parts, listening
    parts.own()
    few_arenas()
    sys.setswitchinterval(HAND_OVER)
    parts.resident = True  # before anything opens the index
    await open_telemetry(parts)
    gateway = await open_gateway(parts, [capture_job(parts), memory_job(parts.memory()), memory_return_job()])
    if parts.settings.tree.capture.enabled:
        reside(system)
    server = parts.settings.tree.server
    options = GuardOptions(
        secret=secrets.token_urlsafe(),
        tokens=known_tokens(parts.settings.tree, token),
        body_within=server.body_timeout / 1000,
        answer_within=server.deadline / 1000,
        failures=server.failures,
        record=admin_record(parts),
        refused=lambda reason: parts.emit(RequestRefused(reason)),
    )

    supervisor = Supervisor()

    def announce() -> None:
        collect_seldom()
        parts.home().announce(url, options.secret or "")
        ready()
        supervisor.ready()

    app = make_app(gateway, options, system)
    async with add_mcp(app, system), supervised(supervisor):
        await make_server(app, announce, server.header_timeout / 1000, server.connections).serve([listener])


def _resolved(address: Address) -> tuple[int, tuple[str, int]]:
    try:
        found = socket.getaddrinfo(
            address.host.strip("[]"), address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
    except (OSError, UnicodeError) as error:
        raise UsageError(f"{address.host!r} is no address of this machine", hint="127.0.0.1, or [::1]") from error
    family, _, _, _, place = found[0]
    return int(family), (str(place[0]), int(place[1]))
