"""Who may speak to the server: nobody without the token; without a token only programs of this machine.

A web page in a browser of this machine is not one of them: DNS rebinding shows in `Host`, a foreign page in `Origin`.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import ipaddress
import secrets
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException

from knowledge_system.application.addresses import CALL_PATH
from knowledge_system.interfaces.http.problems import plain

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

MAX_BODY = 10 * 1024 * 1024
"""Bytes of a request body."""

_DRAINED = 4 * MAX_BODY
"""Bytes that are read and thrown away so that a client in the middle of sending still hears why it is refused."""

_DRAINED_WITHIN = 5.0
"""Seconds that this may take."""


@dataclass(frozen=True, slots=True)
class GuardOptions:
    """`token` None: only loopback names in `Host`, only the server's own pages in `Origin`. `max_body` in bytes.

    `secret` opens the private door, and nothing else does.
    """

    token: str | None = None
    secret: str | None = None
    max_body: int = MAX_BODY


class Guard:
    """ASGI middleware that refuses before anything of the body is read."""

    def __init__(self, app: ASGIApp, options: GuardOptions) -> None:
        self._app = app
        self._options = options

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or refuse it."""
        if scope["type"] != "http":
            return
        options = self._options
        if scope["path"].startswith(CALL_PATH):
            options = replace(options, token=options.secret or secrets.token_hex())  # no secret: closed
        refusal = refused(Headers(scope=scope), options)
        if refusal is None:
            await self._app(scope, _limited(receive, self._options.max_body), send)
            return
        status, detail = refusal
        if status == _TOO_LARGE:
            await _drain(receive)
        headers = {"connection": "close"} | ({"www-authenticate": "Bearer"} if status == _UNAUTHORIZED else {})
        await plain(scope["path"], status, detail, headers)(scope, receive, send)


def refused(headers: Headers, options: GuardOptions) -> tuple[int, str] | None:
    """Return status and reason of a refusal by the headers alone, None when they are fine."""
    if options.token is not None:
        if not _has_token(headers.get("authorization", ""), options.token):
            return _UNAUTHORIZED, "the API token is missing or wrong"
    elif not is_loopback(hostname(headers.get("host", ""))):
        return 403, "this host name is not served"
    elif (origin := headers.get("origin")) is not None and not _is_own(origin, headers.get("host", "")):
        return 403, "this origin is not served"
    length = headers.get("content-length", "0")
    if not (length.isascii() and length.isdigit()) or int(length[:20]) > options.max_body:
        return _TOO_LARGE, f"the body is larger than {options.max_body} bytes"
    return None


def hostname(host: str) -> str:
    """Return the name in a `Host` header, empty when it holds anything else than a name and a port."""
    try:
        parts = urlsplit(f"//{host}")
        parts.port  # noqa: B018 -- reading it is what checks it
    except ValueError:
        return ""
    own = parts.netloc == host and "@" not in host and not any(sign.isspace() for sign in host)
    return (parts.hostname or "") if own else ""


def is_loopback(name: str) -> bool:
    """Tell whether a host name or address means this machine, without asking a name server."""
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return name.lower() == "localhost"


_UNAUTHORIZED, _TOO_LARGE = 401, 413


def _has_token(authorization: str, token: str) -> bool:
    scheme, _, given = authorization.partition(" ")
    same = hmac.compare_digest(given.strip().encode("latin-1", "replace"), token.encode())
    return same and scheme.lower() == "bearer"


def _is_own(origin: str, host: str) -> bool:
    return origin.lower() == f"http://{host}".lower()


async def _drain(receive: Receive) -> None:
    size, more = 0, True
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_DRAINED_WITHIN):
            while more and size <= _DRAINED:
                message = await receive()
                size += len(message.get("body", b""))
                more = message.get("more_body", False)


def _limited(receive: Receive, limit: int) -> Receive:
    """Return `receive` that ends a body without a declared length where it grows too large."""
    size = 0

    async def receiving() -> Message:
        nonlocal size
        message = await receive()
        size += len(message.get("body", b""))
        if size > limit:
            if message.get("more_body", False):
                await _drain(receive)
            raise HTTPException(_TOO_LARGE, f"the body is larger than {limit} bytes", {"connection": "close"})
        return message

    return receiving
