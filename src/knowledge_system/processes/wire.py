"""What a process and one that it has started say to each other: framed messages, many under way at once.

A frame is a header (bytes that follow, request, kind, bytes of the head), a head in JSON, and a tail of raw bytes, such
as numbers in the byte order of the machine, on which both ends run. Both are the same version of this program, and
nobody else ever has an end of the pair of sockets.
"""

from __future__ import annotations

import asyncio
import json
import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, Any, Final

from knowledge_system.domain.errors import (
    Busy,
    DependencyUnavailable,
    IntegrityFailure,
    KnowledgeError,
    ModelUnavailable,
    UsageError,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_HEADER: Final = struct.Struct("=QIBQ")
BUFFER: Final = 2**20
"""Bytes that a socket should take at once: what a piece of long texts has."""
_ERRORS: Final = {
    kind.code: kind
    for kind in (KnowledgeError, UsageError, Busy, DependencyUnavailable, IntegrityFailure, ModelUnavailable)
}
_encode: Final = json.JSONEncoder(separators=(",", ":")).encode


class Control(IntEnum):
    """Kinds of messages that every process understands; those that it is for have kinds below 200."""

    PING = 200
    CANCEL = 201
    """Give up the request of this id; no answer of its own."""
    ANSWER = 210
    FAILED = 211


@dataclass(frozen=True, slots=True)
class Message:
    """One frame, read."""

    request: int
    kind: int
    head: Any = None
    tail: bytes = b""


def frame(message: Message) -> bytes:
    """Return a message as it travels."""
    head = _encode(message.head).encode("ascii")
    header = _HEADER.pack(len(head) + len(message.tail), message.request, message.kind, len(head))
    return b"".join((header, head, message.tail))


class Frames(asyncio.Protocol):
    """Reads frames and hands each message on; `lost` is called when the other end is gone."""

    def __init__(self, receive: Callable[[Message], None], lost: Callable[[], None]) -> None:
        self._receive = receive
        self._lost = lost
        self._buffer = bytearray()

    def data_received(self, data: bytes) -> None:
        """Take what arrived."""
        self._buffer += data
        for message in self._complete():
            self._receive(message)

    def connection_lost(self, exc: Exception | None) -> None:
        """Say that nothing more will come."""
        del exc
        self._lost()

    def _complete(self) -> Iterator[Message]:
        buffer = self._buffer
        while len(buffer) >= _HEADER.size:
            size, request, kind, head = _HEADER.unpack_from(buffer)
            end = _HEADER.size + size
            if len(buffer) < end:
                return
            middle = _HEADER.size + head
            message = Message(request, kind, json.loads(buffer[_HEADER.size : middle]), bytes(buffer[middle:end]))
            del buffer[:end]
            yield message


def error_message(request: int, error: KnowledgeError) -> Message:
    """Return a failure."""
    return Message(request, Control.FAILED, (error.code, error.message, error.hint))


def error_of(message: Message) -> KnowledgeError:
    """Invert `error_message`; the error has the same class."""
    code, text, hint = message.head
    return _ERRORS.get(code, KnowledgeError)(text, hint=hint)
