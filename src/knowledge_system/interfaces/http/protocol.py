"""HTTP/1.1 of uvicorn with bounds: a request has so much time, and so many bytes, to tell what it wants.

`httptools` reads it, the parser of Node.js: it is written in C, and refuses what can be understood in two ways. What it
leaves to the server is done here: one `Host`, the size of the headers, trailers, and upgrades that are not made.
"""

from __future__ import annotations

import json
import uuid
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from knowledge_system.interfaces.http.limits import CROWDED, TIMED_OUT
from knowledge_system.interfaces.http.problems import PROBLEM, problem

if TYPE_CHECKING:
    import asyncio

MOST_HEADERS = 64 * 1024
"""Bytes of a request line with its headers."""
MOST_WAITING = 64
"""Requests that may wait on a connection for the answer to the one before them."""
_TOO_LARGE = f"the request line and the headers have more than {MOST_HEADERS} bytes"
_LINGERS = 1.0
"""Seconds for a client to read why it is refused: closed at once with something unread, it would hear nothing."""


class _Refused(Exception):
    """What a callback of the parser finds wrong, and the status that says so."""

    def __init__(self, status: int, said: str) -> None:
        super().__init__(said)
        self.status = status


class Patient(HttpToolsProtocol):
    """The protocol with a clock: from the connection on, and from the first byte of every later request on it.

    What is no HTTP, and what no request was made of, is answered with problem details as everything else is.
    """

    patience = 10.0
    """Seconds for the request line and the headers."""
    most = 512
    """Connections beyond which requests are marked `CROWDED`."""

    _timer: asyncio.TimerHandle | None = None
    _seen: Any = None
    _deaf = False
    _headed = True
    _size = 0
    _moved = False
    _unfinished = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the clock."""
        super().connection_made(transport)
        self._start()

    def data_received(self, data: bytes) -> None:
        """Stop the clock once a request has begun that was not there before."""
        if self._deaf:
            return
        self._unset_keepalive_if_required()
        self.app_state = {CROWDED: True} if len(self.connections) > self.most else {}
        if self._timer is None and (self.cycle is None or self.cycle.response_complete):
            self._start()
        try:
            self._feed(data)
        except httptools.HttpParserError as error:
            self._refuse(error)
            return
        if self.cycle is not None and self.cycle is not self._seen:
            self._seen = self.cycle
            self._stop()

    def _feed(self, data: bytes) -> None:
        """Have the parser read. An upgrade is not made but left out: the request is read as if none were asked for.

        The parser ends at one, without a look at the body, which must not be taken for the next request.
        """
        self._moved = False
        while data:
            try:
                self.parser.feed_data(data)
            except httptools.HttpParserUpgrade as upgrade:
                data = self._without_upgrade() + data[upgrade.args[0] :]
                self.parser = httptools.HttpRequestParser(self)
            else:
                break
        # The parser keeps the beginning of a header, and of a trailer, until it has the whole.
        self._unfinished = 0 if self._moved else self._unfinished + len(data)
        if self._unfinished > MOST_HEADERS:
            self._end(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, _TOO_LARGE)

    def _without_upgrade(self) -> bytes:
        headers = (b"%s: %s\r\n" % header for header in self.headers if header[0] != b"upgrade")
        line = b"%s %s HTTP/%s\r\n" % (self.parser.get_method(), self.url, self.parser.get_http_version().encode())
        return b"".join((line, *headers, b"\r\n"))

    def on_message_begin(self) -> None:
        """Begin to count."""
        super().on_message_begin()
        self._headed, self._size = False, 0

    def on_url(self, url: bytes) -> None:
        """Count the request line."""
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Count a header; one that comes behind the body says nothing that anybody here may rely on."""
        self._count(len(name) + len(value))
        if not self._headed:
            super().on_header(name, value.strip(b" \t"))

    def on_headers_complete(self) -> None:
        """Refuse what does not say once for whom it is (RFC 9112, 3.2)."""
        hosts = sum(name == b"host" for name, _ in self.headers)
        if hosts > 1 or (not hosts and self.parser.get_http_version() != "1.0"):
            raise _Refused(HTTPStatus.BAD_REQUEST, "one Host header is needed")
        if self.parser.get_method() == b"CONNECT":
            raise _Refused(HTTPStatus.BAD_REQUEST, "this is no proxy")
        if len(self.pipeline) >= MOST_WAITING:
            raise _Refused(HTTPStatus.BAD_REQUEST, "too many requests wait for an answer")
        if not self.parser.should_upgrade():
            super().on_headers_complete()
        self._headed = self._moved = True

    def on_body(self, body: bytes) -> None:
        """Take a piece of the body."""
        self._moved = True
        super().on_body(body)

    def on_message_complete(self) -> None:
        """End a request, not one that is to be read again without its upgrade."""
        self._moved = True
        if not self.parser.should_upgrade():
            super().on_message_complete()

    def _count(self, size: int) -> None:
        self._size += size
        if self._size > MOST_HEADERS:
            raise _Refused(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, _TOO_LARGE)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the clock."""
        self._stop()
        super().connection_lost(exc)

    def _refuse(self, error: httptools.HttpParserError) -> None:
        """Answer what cannot be read, and close. In the middle of an answer there is nothing to be said."""
        found = error.__context__ if isinstance(error, httptools.HttpParserCallbackError) else error
        status = found.status if isinstance(found, _Refused) else HTTPStatus.BAD_REQUEST
        said = str(found)[:200] if isinstance(found, _Refused | httptools.HttpParserError) else "the target is no path"
        self._end(status, f"this is not HTTP that can be read: {said}")

    def _end(self, status: int, detail: str) -> None:
        """Say why nothing more is read, once a client in the middle of sending could have heard it, and close."""
        self._deaf = True
        under_way = self.cycle is not None and not self.cycle.response_complete
        if not self.pipeline and not (under_way and self.cycle.response_started):
            self.transport.write(_unasked(status, detail))
        if under_way:
            self.transport.close()
        else:
            self.transport.write_eof()
            self.loop.call_later(_LINGERS, self.transport.close)

    def _start(self) -> None:
        self._timer = self.loop.call_later(self.patience, self._too_slow)

    def _stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _too_slow(self) -> None:
        self._timer = None
        if not self.transport.is_closing():
            self._end(TIMED_OUT, f"no whole request within {self.patience:g} s")


def patient_for(seconds: float, connections: int = 512) -> type[asyncio.Protocol]:
    """Return the protocol that answers 408 and closes when headers take longer than `seconds`.

    Requests on more than `connections` at once are marked for the guard, which answers them with 503.
    """
    return type("PatientFor", (Patient,), {"patience": seconds, "most": connections})


def _unasked(status: int, detail: str) -> bytes:
    """Return a whole answer to what no request was made of."""
    body = json.dumps(problem(status, detail), separators=(",", ":")).encode()
    head = (
        f"HTTP/1.1 {status} {HTTPStatus(status).phrase}",
        f"content-type: {PROBLEM}",
        f"content-length: {len(body)}",
        f"x-request-id: {uuid.uuid4().hex}",
        "x-content-type-options: nosniff",
        "cache-control: no-store",
        "connection: close",
    )
    return "\r\n".join((*head, "", "")).encode() + body
