"""Who may speak to the server: nobody without the token; without a token only programs of this machine.

A web page in a browser of this machine is not one of them: DNS rebinding shows in `Host`, a foreign page in `Origin`.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field
from functools import lru_cache
from hashlib import sha256
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from starlette.datastructures import Headers

from knowledge_system.application.addresses import CALL_PATH
from knowledge_system.domain.access import Access, Token
from knowledge_system.interfaces.http.access import OPEN, Failures, bearer, needed
from knowledge_system.interfaces.http.limits import (
    CROWDED,
    MAX_BODY,
    TOO_LARGE,
    bounded,
    limited,
    lingering,
    without_body,
)
from knowledge_system.interfaces.http.problems import plain

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from starlette.types import ASGIApp, Message, Receive, Scope, Send


@dataclass(frozen=True, slots=True)
class GuardOptions:
    """No `tokens`: only loopback names in `Host`, only the server's own pages in `Origin`.

    `secret` opens the private door, and nothing else does. `max_body` in bytes, times in seconds; `failures` are
    wrong tokens of an address a minute. `record` writes (who, what, outcome) of admin calls.
    """

    secret: str | None = None
    max_body: int = MAX_BODY
    tokens: tuple[Token, ...] = ()
    body_within: float = 30.0
    answer_within: float = 300.0
    failures: int = 20
    record: Callable[[str, str, str], Awaitable[None]] | None = None
    refused: Callable[[str], object] = str
    """Told why a request was refused: unauthorized, forbidden, malformed, too-large, rate-limited, crowded, timeout."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Status, words, and headers of a refusal; `reason` for the metrics."""

    status: int
    detail: str
    reason: str
    headers: dict[str, str] = field(default_factory=dict)


class Guard:
    """ASGI middleware that refuses before anything of the body is read."""

    def __init__(self, app: ASGIApp, options: GuardOptions) -> None:
        self._app = app
        self._options = options
        secret = options.secret
        self._private = (Token("service", Access.ADMIN, sha256(secret.encode()).digest()),) if secret else ()
        self._failures = Failures(options.failures)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or refuse it."""
        if scope["type"] != "http":
            return
        headers = Headers(scope=scope)
        private = scope["path"].startswith(CALL_PATH)
        refusal = unread(scope, headers) or self._denied(scope, headers, private=private)
        refusal = refusal or _too_large(headers, self._options.max_body)
        if refusal is None:
            await self._let_in(scope, receive, send, private=private)
            return
        self._options.refused(refusal.reason)
        known = "actor" in scope.get("state", {}) and needed(scope["method"], scope["path"]) is Access.ADMIN
        send = self._audited(scope, send) if known else send  # who has no token at all costs nothing
        ends = {"connection": "close", **refusal.headers}
        answer = plain(scope["path"], refusal.status, refusal.detail, ends)
        await answer(scope, receive, lingering(receive, send) if refusal.status == TOO_LARGE else send)

    async def _let_in(self, scope: Scope, receive: Receive, send: Send, *, private: bool) -> None:
        options, access = self._options, needed(scope["method"], scope["path"])
        incoming = limited(receive, options.max_body, options.body_within, options.refused)
        if private:  # its verbs take as long as they take
            await self._app(scope, incoming, send)
            return
        outgoing = self._audited(scope, send) if access is Access.ADMIN else send
        if scope["method"] == "HEAD":
            scope, outgoing = {**scope, "method": "GET"}, without_body(outgoing)
        await bounded(self._app, scope, incoming, outgoing, options.answer_within)

    def _denied(self, scope: Scope, headers: Headers, *, private: bool) -> Refusal | None:
        if private:  # no secret: closed
            return None if bearer(headers.get("authorization", ""), self._private) else _unauthorized()
        if not self._options.tokens:
            return foreign(headers)
        if scope["path"] in OPEN and "authorization" not in headers:
            return None
        return self._unknown(scope, headers)

    def _unknown(self, scope: Scope, headers: Headers) -> Refusal | None:
        """Refuse who has no token for this; an address on another machine with too many wrong ones is not heard."""
        address = str((scope.get("client") or ("",))[0])
        wait = self._failures.wait(address)
        heard = not wait or is_loopback(address)
        token = bearer(headers.get("authorization", ""), self._options.tokens) if heard else None
        if token is None:
            if wait:
                return Refusal(429, "too many wrong tokens", "rate-limited", {"retry-after": str(wait)})
            self._failures.failed(address)
            return _unauthorized()
        scope["state"] = {**scope.get("state", {}), "actor": token.name}
        access = needed(scope["method"], scope["path"])
        if token.access < access:
            return Refusal(
                403, f"the token {token.name} has the scope {_name(token.access)}, not {_name(access)}", "forbidden"
            )
        return None

    def _audited(self, scope: Scope, send: Send) -> Send:
        """Return `send` that writes down how a call that may change the system ended, before anybody hears of it."""
        record = self._options.record
        if record is None:
            return send
        actor = scope.get("state", {}).get("actor", "")

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                who = f"http:{actor}" if actor else "http"
                await record(who, f"{scope['method']} {scope['path']}", str(message["status"]))
            await send(message)

        return sending


def _unauthorized() -> Refusal:
    return Refusal(401, "the API token is missing or wrong", "unauthorized", {"www-authenticate": "Bearer"})


def _name(access: Access) -> str:
    return access.name.lower()


def foreign(headers: Headers) -> Refusal | None:
    """Refuse, by the headers alone, who is no program of this machine."""
    if not is_loopback(hostname(headers.get("host", ""))):
        return Refusal(403, "this host name is not served", "forbidden")
    if (origin := headers.get("origin")) is not None and not _is_own(origin, headers.get("host", "")):
        return Refusal(403, "this origin is not served", "forbidden")
    return None


def unread(scope: Scope, headers: Headers) -> Refusal | None:
    """Refuse whoever it is: on one connection too many, or with a body of two lengths."""
    if scope.get("state", {}).get(CROWDED):
        return Refusal(503, "too many connections at once", "crowded", {"retry-after": "1"})
    if "content-length" in headers and "transfer-encoding" in headers:  # who reads which is how requests are smuggled
        return Refusal(400, "the request has both Content-Length and Transfer-Encoding", "malformed")
    return None


def _too_large(headers: Headers, most: int) -> Refusal | None:
    length = headers.get("content-length", "0")
    if not (length.isascii() and length.isdigit()) or int(length[:20]) > most:
        return Refusal(TOO_LARGE, f"the body is larger than {most} bytes", "too-large")
    return None


@lru_cache(maxsize=64)
def hostname(host: str) -> str:
    """Return the name in a `Host` header, empty when it holds anything else than a name and a port."""
    try:
        parts = urlsplit(f"//{host}")
        parts.port  # noqa: B018 -- reading it is what checks it
    except ValueError:
        return ""
    own = parts.netloc == host and "@" not in host and not any(sign.isspace() for sign in host)
    return (parts.hostname or "") if own else ""


@lru_cache(maxsize=64)
def is_loopback(name: str) -> bool:
    """Tell whether a host name or address means this machine, without asking a name server."""
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return name.lower() == "localhost"


def _is_own(origin: str, host: str) -> bool:
    return origin.lower() == f"http://{host}".lower()
