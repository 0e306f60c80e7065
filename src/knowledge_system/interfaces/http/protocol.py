"""HTTP/1.1 of uvicorn that does not wait for ever: a request has a bounded time to tell what it wants."""

from __future__ import annotations

import json
import sys
import uuid
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from knowledge_system.interfaces.http.limits import CROWDED, TIMED_OUT
from knowledge_system.interfaces.http.problems import PROBLEM, problem

if TYPE_CHECKING:
    import asyncio

MOST_HEADERS = 64 * 1024
"""Bytes of a request line with its headers."""
_LINGERS = 1.0
"""Seconds for a client to read why it is refused: closed at once with something unread, it would hear nothing."""


class Patient(H11Protocol):
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

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the clock."""
        super().connection_made(transport)
        self._start()

    def data_received(self, data: bytes) -> None:
        """Stop the clock once a request has begun that was not there before."""
        if self._deaf:
            return
        self.app_state = {CROWDED: True} if len(self.connections) > self.most else {}
        if self._timer is None and (self.cycle is None or self.cycle.response_complete):
            self._start()
        super().data_received(data)
        if self.cycle is not None and self.cycle is not self._seen:
            self._seen = self.cycle
            self._stop()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the clock."""
        self._stop()
        super().connection_lost(exc)

    def _unsupported_upgrade_warning(self) -> None:
        """Say nothing: an upgrade that is not made is answered as if none were asked for (RFC 9110, 7.8)."""

    def send_400_response(self, msg: str) -> None:
        """Answer what cannot be read, and close. In the middle of an answer there is nothing to be said."""
        error = sys.exc_info()[1]
        status = error.error_status_hint if isinstance(error, h11.RemoteProtocolError) else 400
        said = str(error)[:200] if isinstance(error, h11.RemoteProtocolError) else msg
        self._end(status, f"this is not HTTP that can be read: {said}")

    def _end(self, status: int, detail: str) -> None:
        """Say why nothing more is read, once a client in the middle of sending could have heard it, and close."""
        self._deaf = True
        under_way = self.cycle is not None and not self.cycle.response_complete
        if not under_way or not self.cycle.response_started:
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
