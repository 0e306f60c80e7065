"""HTTP/1.1 of uvicorn that does not wait for ever: a request has a bounded time to tell what it wants."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from uvicorn.protocols.http.h11_impl import H11Protocol

from knowledge_system.interfaces.http.limits import TIMED_OUT

if TYPE_CHECKING:
    import asyncio

MOST_HEADERS = 64 * 1024
"""Bytes of a request line with its headers."""
_ANSWER = (f"HTTP/1.1 {TIMED_OUT} Request Timeout\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").encode()


class Patient(H11Protocol):
    """The protocol with a clock: from the connection on, and from the first byte of every later request on it."""

    patience = 10.0
    """Seconds for the request line and the headers."""

    _timer: asyncio.TimerHandle | None = None
    _seen: Any = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the clock."""
        super().connection_made(transport)
        self._start()

    def data_received(self, data: bytes) -> None:
        """Stop the clock once a request has begun that was not there before."""
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

    def _start(self) -> None:
        self._timer = self.loop.call_later(self.patience, self._too_slow)

    def _stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _too_slow(self) -> None:
        self._timer = None
        if not self.transport.is_closing():
            self.transport.write(_ANSWER)
            self.transport.close()


def patient_for(seconds: float) -> type[asyncio.Protocol]:
    """Return the protocol that answers 408 and closes when headers take longer than `seconds`."""
    return type("PatientFor", (Patient,), {"patience": seconds})
