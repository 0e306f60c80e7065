"""One thin way to send a request: pooled connections, a time limit, no retry, no sleep, no redirect.

Errors carry neither request nor response: the exceptions of the HTTP library hold both, so ours are raised outside of
their handlers and are chained to nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import httpx2

from knowledge_system.domain.inference import FailureKind, PrivacyRefused, ProviderFailed
from knowledge_system.inference import failures
from knowledge_system.inference.events import EventCutter, EventTooLong
from knowledge_system.inference.vendors import is_loopback

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from knowledge_system.inference.wire import Event, Outgoing

MOST_BYTES = 64 * 1024 * 1024
"""Bytes of an answer that are read: 2,048 vectors of 1,536 numbers written out are about 60 MB."""

_CONNECT_SECONDS = 10.0
_POOL_SECONDS = 30.0
_AGENT = "knowledge-system"
_LIMITS = httpx2.Limits(max_connections=512, max_keepalive_connections=64, keepalive_expiry=30.0)
_UNSENT = (
    httpx2.ConnectError,
    httpx2.ConnectTimeout,
    httpx2.PoolTimeout,
    httpx2.ProxyError,
    httpx2.UnsupportedProtocol,
)
"""Errors that come before the first byte of a request."""


class Reach:
    """How far requests may go in this process. Tests set `loopback_only`: then no other host is ever called."""

    loopback_only = False


@dataclass(frozen=True, slots=True)
class Answer:
    """Status, headers (names in lower case) and the whole body."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Transport:
    """Sends requests to one base URL. Connections are kept per event loop; `aclose` closes them.

    `direct` ignores proxies of the environment: what must stay local may not pass one.
    """

    def __init__(self, provider: str, base_url: str, headers: Mapping[str, str], *, direct: bool) -> None:
        self._provider = provider
        self._base = base_url.rstrip("/")
        parts = urlsplit(base_url)
        self._origin = f"{parts.scheme}://{parts.netloc}"
        self._headers = {"content-type": "application/json", "accept-encoding": "gzip", "user-agent": _AGENT, **headers}
        self._loopback = is_loopback(base_url)
        self._direct = direct or self._loopback
        self._urls: dict[str, httpx2.URL] = {}
        self._client: httpx2.AsyncClient | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    async def post(self, outgoing: Outgoing, seconds: float) -> Answer:
        """Send a request and return its answer, whatever its status. Raises ProviderFailed, PrivacyRefused."""
        problem: ProviderFailed
        try:
            async with asyncio.timeout(seconds):
                return await self._exchange(outgoing, seconds)
        except (httpx2.HTTPError, httpx2.InvalidURL, OSError) as error:
            problem = self._translated(error)
        raise problem

    @asynccontextmanager
    async def open(self, outgoing: Outgoing, seconds: float) -> AsyncIterator[Streamed]:
        """Send a request and hand out its answer as it arrives; leaving the block closes the request."""
        deadline = asyncio.get_running_loop().time() + seconds
        problem: ProviderFailed | None = None
        try:
            async with asyncio.timeout_at(deadline):
                response = await self._send(outgoing, seconds)
        except (httpx2.HTTPError, httpx2.InvalidURL, OSError) as error:
            problem = self._translated(error)
        if problem is not None:
            raise problem
        streamed = Streamed(self, response, deadline)
        try:
            yield streamed
        finally:
            await streamed.aclose()

    async def aclose(self) -> None:
        """Close the pooled connections."""
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()

    def translated(self, error: Exception) -> ProviderFailed:
        """Return our error for one of the HTTP library, without its request and response."""
        return self._translated(error)

    def too_long(self) -> ProviderFailed:
        """Return the error for an answer beyond all measure."""
        return failures.malformed(self._provider, "the answer is longer than any answer")

    async def _exchange(self, outgoing: Outgoing, seconds: float) -> Answer:
        response = await self._send(outgoing, seconds)
        try:
            body = bytearray()
            async for chunk in response.aiter_bytes():
                body += chunk
                if len(body) > MOST_BYTES:
                    raise self.too_long()
        finally:
            await response.aclose()
        return Answer(response.status_code, _lower(response.headers), bytes(body))

    async def _send(self, outgoing: Outgoing, seconds: float) -> httpx2.Response:
        if Reach.loopback_only and not self._loopback:
            raise PrivacyRefused("hosts other than loopback are switched off", hint="this switch is for tests only")
        content = json.dumps(outgoing.body, ensure_ascii=False, default=dict).encode("utf-8", "replace")
        timeout = httpx2.Timeout(
            seconds, connect=min(seconds, _CONNECT_SECONDS), pool=min(seconds * 0.9, _POOL_SECONDS)
        )
        request = httpx2.Request(
            "POST",
            self._url(outgoing),
            headers=self._headers,
            content=content,
            extensions={"timeout": timeout.as_dict()},
        )
        return await self._connected().send(request, stream=True)

    def _url(self, outgoing: Outgoing) -> httpx2.URL:
        """Return the parsed URL; parsing is a tenth of a call, so the few there are stay parsed."""
        text = (self._origin if outgoing.root else self._base) + outgoing.path
        if text not in self._urls:
            self._urls[text] = httpx2.URL(text)
        return self._urls[text]

    def _connected(self) -> httpx2.AsyncClient:
        loop = asyncio.get_running_loop()
        if self._client is None or self._loop is not loop:  # a client belongs to the loop it was first used in
            self._loop = loop
            self._client = httpx2.AsyncClient(
                verify=_tls() if self._base.startswith("https:") else _no_tls(),
                limits=_LIMITS,
                trust_env=not self._direct,
                follow_redirects=False,
            )
        return self._client

    def _translated(self, error: Exception) -> ProviderFailed:
        started = not isinstance(error, _UNSENT)
        if isinstance(error, httpx2.PoolTimeout):
            return failures.failure(
                self._provider, FailureKind.CAPACITY, "too many requests at once from here", started=False
            )
        if isinstance(error, httpx2.DecodingError):
            return failures.malformed(self._provider, "the answer's encoding cannot be read")
        if isinstance(error, httpx2.UnsupportedProtocol | httpx2.InvalidURL):
            return failures.failure(
                self._provider, FailureKind.MISCONFIGURED, "the base URL cannot be used", started=False
            )
        late = isinstance(error, TimeoutError | httpx2.TimeoutException)
        return failures.failure(
            self._provider, FailureKind.TIMEOUT if late else FailureKind.CONNECTION, started=started
        )


class Streamed:
    """An answer that is still arriving."""

    def __init__(self, transport: Transport, response: httpx2.Response, deadline: float) -> None:
        self.status = response.status_code
        self.headers = _lower(response.headers)
        self._transport = transport
        self._response = response
        self._deadline = deadline
        self._chunks = response.aiter_bytes()

    async def read(self) -> bytes:
        """Return the rest of the body, as far as an error message can be long."""
        body = bytearray()
        while len(body) < 1024 * 1024 and (chunk := await self._next()):
            body += chunk
        return bytes(body)

    async def events(self, style: str) -> AsyncIterator[Event]:
        """Yield the events of the stream. Raises ProviderFailed when it breaks, is late or holds an endless line."""
        cutter = EventCutter(style)
        too_long = False
        while not too_long and (chunk := await self._next()):
            try:
                events = list(cutter.feed(chunk))
            except EventTooLong:
                events, too_long = [], True
            for event in events:
                yield event
        if too_long:
            raise self._transport.too_long()
        for event in cutter.end():
            yield event

    async def drain(self) -> None:
        """Read what follows the end mark, so that the connection can be used again; give up after half a second."""
        self._deadline = min(self._deadline, asyncio.get_running_loop().time() + 0.5)
        with contextlib.suppress(ProviderFailed):
            for _ in range(16):
                if not await self._next():
                    return

    async def aclose(self) -> None:
        """Close the request; an answer that was not read to its end takes its connection with it."""
        await self._response.aclose()

    async def _next(self) -> bytes:
        """Return the next bytes, empty at the end. The time limit holds for the whole stream.

        It is set anew for each piece because a consumer may ask for each from another task.
        """
        problem: ProviderFailed
        try:
            async with asyncio.timeout_at(self._deadline):
                return await anext(self._chunks, b"")
        except (httpx2.HTTPError, OSError) as error:
            problem = self._transport.translated(error)
        raise problem


@cache
def _tls() -> ssl.SSLContext:
    return httpx2.create_ssl_context()


@cache
def _no_tls() -> ssl.SSLContext:
    """Return a context for plain connections: it trusts nobody and costs nothing to make."""
    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


def _lower(headers: httpx2.Headers) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}
