"""Single JSON documents of any size, element by element."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, BinaryIO

import ijson
from ijson.common import ObjectBuilder

from knowledge_system.transcripts.lines import BOM

if TYPE_CHECKING:
    from collections.abc import Iterator

ELEMENT_LIMIT = 24 * 1024 * 1024
"""Bytes of one element (a request, an exchange) that are read. Building it costs up to three times as much memory."""

DEPTH_LIMIT = 300
"""Levels of nesting that are followed: a level costs the parser its whole path, so depth costs its square in memory."""

_ROOM = 64 * 1024


class ElementTooLarge(ValueError):
    """One element is larger than `ELEMENT_LIMIT`."""


class BrokenDocument(ValueError):
    """The document is no JSON from some place on. `partial` is what was read of the element that broke off."""

    def __init__(self, reason: str, partial: Any = None) -> None:
        super().__init__(reason)
        self.partial = partial


class _Input:
    """What the JSON reader reads from: UTF-8 made valid, without BOM, and stopped when an element never ends."""

    def __init__(self, stream: BinaryIO, end: int) -> None:
        stream.seek(0)
        self._stream = stream
        self._left = end
        self._budget = ELEMENT_LIMIT
        self._held = b""
        self._started = False

    def read(self, size: int = -1) -> bytes:
        """Return the next bytes; empty at the end."""
        data = self._stream.read(min(_ROOM if size < 0 else size, self._left))
        self._left -= len(data)
        self._budget -= len(data)
        if self._budget < 0:
            raise ElementTooLarge
        if not self._started:
            self._started = True
            data = data.removeprefix(BOM)
        return self._valid(self._held + data, final=not data)

    def element_done(self) -> None:
        """Allow the next element its own bytes."""
        self._budget = ELEMENT_LIMIT

    def _valid(self, data: bytes, *, final: bool) -> bytes:
        self._held = b""
        try:
            data.decode("utf-8")
        except UnicodeDecodeError as error:
            if not final and error.reason == "unexpected end of data":
                data, self._held = data[: error.start], data[error.start :]
            data = data.decode("utf-8", "replace").encode("utf-8")
        return data


def elements(stream: BinaryIO, end: int, key: str) -> Iterator[Any]:
    """Yield the elements of the top-level array `key` of the document in the first `end` bytes of `stream`.

    Raises BrokenDocument or ElementTooLarge where the document stops making sense.
    """
    source = _Input(stream, end)
    item, builder, depth = f"{key}.item", None, 0
    try:
        for prefix, event, value in _events(source):
            if builder is None:
                if prefix != item:
                    continue
                builder = ObjectBuilder()
            builder.event(event, value)
            depth += event in {"start_map", "start_array"}
            depth -= event in {"end_map", "end_array"}
            if not depth:
                source.element_done()
                yield builder.value
                builder = None
    except ElementTooLarge:
        raise
    except (ijson.JSONError, ValueError, OverflowError) as error:
        partial = getattr(builder, "value", None) if builder else None
        raise BrokenDocument(" ".join(str(error).split())[:80], partial) from None


def _events(source: _Input) -> Iterator[tuple[str, str, Any]]:
    """Yield `(path, event, value)` of the document. Raises ValueError where it is nested too deeply."""
    return ijson.parse(_shallow(ijson.basic_parse(source, use_float=True)))  # type: ignore[no-any-return]


def _shallow(events: Iterator[tuple[str, Any]]) -> Iterator[tuple[str, Any]]:
    depth = 0
    for event, value in events:
        depth += event in {"start_map", "start_array"}
        depth -= event in {"end_map", "end_array"}
        if depth > DEPTH_LIMIT:
            raise ValueError(f"nested deeper than {DEPTH_LIMIT} levels")
        yield event, value


def header(stream: BinaryIO, end: int, *, skip: str) -> dict[str, Any]:
    """Return the top-level values of a document but the array `skip`, which comes as an empty list when it is one.

    A document that is broken, or no object, gives what was read until there.
    """
    found: dict[str, Any] = {}
    source = _Input(stream, end)
    builder: ObjectBuilder | None = None
    try:
        for prefix, event, value in _events(source):
            if prefix == skip or prefix.startswith(skip + "."):
                source.element_done()
                found.setdefault(skip, [] if event == "start_array" else value)
                continue
            builder = builder or ObjectBuilder()
            builder.event(event, value)
    except (ijson.JSONError, ValueError, OverflowError):
        pass
    top = getattr(builder, "value", None)
    return {**top, **found} if isinstance(top, dict) else found
