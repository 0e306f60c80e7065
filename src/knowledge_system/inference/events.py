"""Cuts a stream of bytes into events: server-sent events (SSE) and JSON lines."""

from __future__ import annotations

from typing import TYPE_CHECKING

from knowledge_system.inference.wire import Event

if TYPE_CHECKING:
    from collections.abc import Iterator

MOST_BYTES = 8 * 1024 * 1024
"""Bytes of one line or event; more is no model's token."""


class EventTooLong(ValueError):
    """A line or event passed `MOST_BYTES`."""


class LineCutter:
    """Collects bytes and returns whole lines; ends are LF, CRLF or CR, and a character may span two chunks."""

    def __init__(self) -> None:
        self._rest = bytearray()

    def feed(self, chunk: bytes) -> list[str]:
        """Return the lines that `chunk` completes. Raises EventTooLong."""
        self._rest += chunk
        held = self._rest.endswith(b"\r")  # LF may follow in the next chunk
        *lines, rest = (
            bytes(self._rest[: len(self._rest) - held]).replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
        )
        self._rest = bytearray(rest + b"\r" if held else rest)
        if len(self._rest) > MOST_BYTES:
            raise EventTooLong
        return [line.decode("utf-8", "replace") for line in lines]

    def end(self) -> list[str]:
        """Return what stands after the last line end."""
        rest, self._rest = bytes(self._rest).rstrip(b"\r"), bytearray()
        return [rest.decode("utf-8", "replace")] if rest else []


class EventCutter:
    """Turns chunks into events of one `style`, `sse` or `ndjson`."""

    def __init__(self, style: str) -> None:
        self._lines = LineCutter()
        self._style = style
        self._data: list[str] = []
        self._size = 0
        self._name = ""

    def feed(self, chunk: bytes) -> Iterator[Event]:
        """Yield the events that `chunk` completes. Raises EventTooLong."""
        for line in self._lines.feed(chunk):
            yield from self._line(line)

    def end(self) -> Iterator[Event]:
        """Yield what a stream that ended without a last line end still holds."""
        for line in [*self._lines.end(), ""]:
            yield from self._line(line)

    def _line(self, line: str) -> Iterator[Event]:
        if self._style == "ndjson":
            if line.strip():
                yield Event(line)
        elif line:
            self._field(line)
        elif self._data:
            event = Event("\n".join(self._data), self._name)
            self._data, self._name, self._size = [], "", 0
            yield event
        else:
            self._name = ""

    def _field(self, line: str) -> None:
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "data":
            self._size += len(value)
            if self._size > MOST_BYTES:
                raise EventTooLong
            self._data.append(value)
        elif name == "event":
            self._name = value
