"""Requests to a Qdrant server: bounded in time and size, tried twice at most, with our errors.

Nothing that the key could be read from leaves this module: messages name the host, never the URL as it was given.
"""

from __future__ import annotations

import asyncio
import ipaddress
import json
import ssl
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final, NoReturn, TypeVar
from urllib.parse import urlsplit

import httpx
from qdrant_client.common.client_exceptions import QdrantException
from qdrant_client.http import AsyncApis
from qdrant_client.http.api_client import AsyncApiClient
from qdrant_client.http.exceptions import ResponseHandlingException, UnexpectedResponse

from knowledge_system.domain.errors import Busy, DependencyUnavailable, IndexUnavailable, KnowledgeError, UsageError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from urllib.parse import SplitResult

Apis = AsyncApis[AsyncApiClient]
_T = TypeVar("_T")

SMALL: Final = 1 << 20
"""Bytes of an answer that says something of a collection, not of its points."""
_CONNECTIONS: Final = 16
_ATTEMPTS: Final = 2
"""One more after a connection broke: a server that was restarted has closed the ones that were kept."""
_TOLD: Final = 200
"""Characters of a server's own explanation that go into a message."""
_REBUILD: Final = "Run `knowledge index rebuild`: the index is derived and loses nothing."
_CHECK: Final = "Check that the server runs and that vectors.url names it; nothing that was written is lost."
_most: ContextVar[int] = ContextVar("most", default=SMALL)


class _Oversized(httpx.HTTPError):
    """The answer is larger than anything that was asked for."""


class Link:
    """A server and the connections to it. Every request ends within `within` seconds, whatever the server does."""

    def __init__(self, url: str, api_key: str | None, within: float) -> None:
        parts = _checked(url, api_key)
        self.within = within
        self.closing = False
        self.place = f"{parts.scheme}://{parts.netloc}"
        self._url = url.rstrip("/")
        self._key = api_key
        self._headers = {"accept-encoding": "identity", **({"api-key": api_key} if api_key else {})}
        limits = httpx.Limits(max_connections=_CONNECTIONS, max_keepalive_connections=_CONNECTIONS)
        # `_asked` has one time limit for everything together. The environment's proxies are for other errands.
        self._api: Apis = AsyncApis(
            self._url,
            transport=_Bounded(httpx.AsyncHTTPTransport(verify=_trust(parts.scheme), limits=limits, trust_env=False)),
            headers=self._headers,
            timeout=None,
            follow_redirects=False,
            trust_env=False,
        )

    async def ask(
        self, action: str, call: Callable[[Apis], Awaitable[_T]], *, most: int = SMALL, within: float | None = None
    ) -> _T:
        """Make a request that is the same made twice; `most` bounds the bytes of its answer, `within` the seconds.

        Raises IndexUnavailable when there is no good answer in time, UsageError when vectors of
        the wrong dimension were sent.
        """
        answer = await self._asked(action, call, most, within or self.within)
        if isinstance(answer, UnexpectedResponse):
            self._refused(action, answer)
        return answer

    async def ask_unless(
        self, statuses: tuple[int, ...], action: str, call: Callable[[Apis], Awaitable[_T]]
    ) -> _T | None:
        """Make a request as `ask` does; None when the answer has one of `statuses`."""
        answer = await self._asked(action, call, SMALL, self.within)
        if isinstance(answer, UnexpectedResponse):
            return None if answer.status_code in statuses else self._refused(action, answer)
        return answer

    async def reaches(self, path: str) -> bool:
        """Return whether the server answers a path that is not of the API, as `/readyz`, with success."""
        request = httpx.Request("GET", self._url + path, headers=self._headers)
        response = await self.ask(f"ask {path}", lambda api: api.client.send_inner(request))
        return bool(response.is_success)

    async def close(self) -> None:
        """Close the connections."""
        self.closing = True
        await self._api.aclose()

    def require_open(self) -> None:
        """Raise DependencyUnavailable once the index is closed."""
        if self.closing:
            raise DependencyUnavailable("the index is closed", hint="Open it again; nothing is lost.")

    async def _asked(
        self, action: str, call: Callable[[Apis], Awaitable[_T]], most: int, within: float
    ) -> _T | UnexpectedResponse:
        token = _most.set(most)
        try:
            async with asyncio.timeout(within):
                return await self._attempted(call)
        except TimeoutError:
            raise self._unavailable(action, f"no answer within {within:g} s") from None
        except UnexpectedResponse as answer:
            return answer
        except ResponseHandlingException as error:
            self.require_open()
            raise self._unavailable(action, _reason(error.source)) from None
        except (QdrantException, ValueError, RecursionError) as error:
            raise self._unavailable(action, _reason(error)) from None
        finally:
            _most.reset(token)

    async def _attempted(self, call: Callable[[Apis], Awaitable[_T]]) -> _T:
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                return await call(self._api)
            except ResponseHandlingException as error:
                if attempt == _ATTEMPTS or not isinstance(error.source, (httpx.NetworkError, httpx.ProtocolError)):
                    raise
        raise AssertionError

    def _refused(self, action: str, answer: UnexpectedResponse) -> NoReturn:
        status, told = answer.status_code or 0, self._told(answer)
        if status in {401, 403}:
            hint = "Set QDRANT_API_KEY to a key of this server that may read and write."
            raise IndexUnavailable(f"cannot {action}: {self.place} refuses the API key ({status})", hint=hint)
        if status == httpx.codes.NOT_FOUND and "ollection" in told:
            raise DependencyUnavailable(f"cannot {action}: {self.place} does not have it ({told})", hint=_REBUILD)
        if status == httpx.codes.BAD_REQUEST and "dimension" in told:
            hint = "Embed with the model of this index, or open the index of that model."
            raise UsageError(f"cannot {action}: {told}", hint=hint)
        if status == httpx.codes.CONFLICT:
            raise Busy(f"cannot {action}: {told}", hint="Another process does the same: repeat when it has ended.")
        if answer.headers.get("location") and 300 <= status < 400:  # noqa: PLR2004 -- HTTP's range of redirects
            told = "it answers with a redirect, which is not followed"
        raise self._unavailable(action, f"{status} {told}".strip())

    def _told(self, answer: UnexpectedResponse) -> str:
        try:
            status = json.loads(answer.content)["status"]["error"]
        except (ValueError, KeyError, TypeError, RecursionError):
            return ""
        text = str(status)
        return (text.replace(self._key, "…") if self._key else text)[:_TOLD]

    def _unavailable(self, action: str, why: str) -> KnowledgeError:
        return IndexUnavailable(f"cannot {action}: {self.place}: {why}", hint=_CHECK)


class _Bounded(httpx.AsyncBaseTransport):
    """Reads no more of an answer than `_most` says."""

    def __init__(self, inner: httpx.AsyncHTTPTransport) -> None:
        self._inner = inner

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        response = await self._inner.handle_async_request(request)
        most, declared = _most.get(), response.headers.get("content-length", "0")
        packed = response.headers.get("content-encoding", "identity") != "identity"
        if packed or (declared.isdecimal() and int(declared) > most):
            await response.aclose()
            raise _Oversized("the answer is packed" if packed else f"the answer has {declared} bytes")
        return httpx.Response(
            response.status_code,
            headers=response.headers,
            stream=_Counted(response, most),
            extensions=response.extensions,
        )

    async def aclose(self) -> None:
        await self._inner.aclose()


class _Counted(httpx.AsyncByteStream):
    def __init__(self, response: httpx.Response, most: int) -> None:
        self._response = response
        self._most = most

    async def __aiter__(self) -> AsyncIterator[bytes]:
        read = 0
        stream: Any = self._response.stream
        async for piece in stream:
            read += len(piece)
            if read > self._most:
                raise _Oversized(f"the answer has more than {self._most} bytes")
            yield piece

    async def aclose(self) -> None:
        await self._response.aclose()


def _trust(scheme: str) -> ssl.SSLContext:
    """Return whom to trust: the system's authorities; nobody where no TLS is spoken, and reading them takes 30 ms."""
    return ssl.create_default_context() if scheme == "https" else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


def _reason(error: Exception) -> str:
    if isinstance(error, QdrantException):
        return "it has too much to do (429)"
    if isinstance(error, httpx.ConnectError):
        return "no connection"
    if isinstance(error, httpx.NetworkError | httpx.ProtocolError):
        return "the connection broke"
    if isinstance(error, _Oversized):
        return str(error)
    return "its answer is not one of a Qdrant server"


def _checked(url: str, api_key: str | None) -> SplitResult:
    """Return the parts of a URL that may be used with that key."""
    try:
        parts = urlsplit(url)
        usable = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise UsageError("vectors.url is not the URL of a server", hint="for example http://localhost:6333")
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise UsageError("vectors.url has more than host, port and path", hint="The key belongs into QDRANT_API_KEY.")
    if api_key is not None and (not api_key.isascii() or not api_key.isprintable()):
        raise UsageError("QDRANT_API_KEY has characters that no key has", hint="Copy the key again.")
    if api_key and parts.scheme == "http" and not _stays_close(parts.hostname or ""):
        raise UsageError(
            f"QDRANT_API_KEY would travel readable to {parts.hostname}",
            hint="Use https, or a server on this machine or of the same container network.",
        )
    return parts


def _stays_close(host: str) -> bool:
    """Tell whether a host is this machine, or a name without a dot: a service of the same container network."""
    try:
        return ipaddress.ip_address(host.partition("%")[0]).is_loopback
    except ValueError:
        return "." not in host or host.endswith(".localhost")
