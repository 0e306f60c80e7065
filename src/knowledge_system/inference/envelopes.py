"""Cached answers as JSON, and back. Bytes that are not such an answer are no answer: a miss, never an error.

Vectors are base64 of float32 in little endian: a fifth of their decimal digits, and read ten times as fast.
"""

from __future__ import annotations

import base64
import dataclasses
import json
import sys
from array import array
from typing import TYPE_CHECKING, Any

from knowledge_system.domain.inference import EmbedReply, Reply, Usage

if TYPE_CHECKING:
    from knowledge_system.domain.embedding import Vector

_VERSION = 2


def packed(reply: Reply | EmbedReply) -> bytes:
    """Return the JSON of an answer, with what it cost, but without what else belongs to the call that paid for it."""
    fields: dict[str, Any] = {
        field.name: getattr(reply, field.name)
        for field in dataclasses.fields(reply)
        if field.name not in {"attempts", "cached", "cost_nano", "usage", "vectors"}
    }
    if reply.usage is not None:
        fields["usage"] = dataclasses.asdict(reply.usage)
    if isinstance(reply, EmbedReply):
        fields["vectors"] = [_text_of(vector) for vector in reply.vectors]
    else:
        fields["message"] = dict(reply.message)
    envelope = {"v": _VERSION, "kind": type(reply).__name__, "cost": reply.cost_nano, "reply": fields}
    return json.dumps(envelope).encode()


def unpacked(value: bytes, kind: type[Reply | EmbedReply], route: str) -> tuple[Reply | EmbedReply, int] | None:
    """Return the answer in `value`, marked as cached and free, and what it once cost; None when it is not of `kind`."""
    try:
        document = json.loads(value)
        if document["v"] != _VERSION or document["kind"] != kind.__name__:
            return None
        fields = dict(document["reply"])
        fields["usage"] = Usage(**fields["usage"]) if fields.get("usage") is not None else None
        if kind is EmbedReply:
            fields["vectors"] = tuple(_vector_of(text) for text in fields["vectors"])
        else:
            fields["route"] = f"{route}; first {fields['route']}"
        return kind(**fields, cached=True), int(document["cost"])
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None


def _text_of(vector: Vector) -> str:
    return base64.b64encode(_little_endian(vector).tobytes()).decode("ascii")


def _vector_of(text: str) -> Vector:
    vector = array("f")
    vector.frombytes(base64.b64decode(text, validate=True))
    return _little_endian(vector)


def _little_endian(vector: Vector) -> Vector:
    """Return `vector` with the bytes of each value in little endian, or back."""
    if sys.byteorder == "big":
        vector = array("f", vector)
        vector.byteswap()
    return vector
