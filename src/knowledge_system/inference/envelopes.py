"""Cached answers as JSON, and back. Bytes that are not such an answer are no answer: a miss, never an error."""

from __future__ import annotations

import dataclasses
import json
from array import array
from typing import Any

from knowledge_system.domain.inference import EmbedReply, Reply, Usage

_VERSION = 1


def packed(reply: Reply | EmbedReply) -> bytes:
    """Return the JSON of an answer, without what belongs to the call that paid for it."""
    fields: dict[str, Any] = {
        field.name: getattr(reply, field.name)
        for field in dataclasses.fields(reply)
        if field.name not in {"attempts", "cached", "cost_nano", "usage", "vectors"}
    }
    if reply.usage is not None:
        fields["usage"] = dataclasses.asdict(reply.usage)
    if isinstance(reply, EmbedReply):
        fields["vectors"] = [list(vector) for vector in reply.vectors]
    else:
        fields["message"] = dict(reply.message)
    return json.dumps({"v": _VERSION, "kind": type(reply).__name__, "reply": fields}).encode()


def unpacked(value: bytes, kind: type[Reply | EmbedReply], route: str) -> Reply | EmbedReply | None:
    """Return the answer in `value`, marked as cached and free, or None when it is not one of this `kind`."""
    try:
        document = json.loads(value)
        if document["v"] != _VERSION or document["kind"] != kind.__name__:
            return None
        fields = dict(document["reply"])
        fields["usage"] = Usage(**fields["usage"]) if fields.get("usage") is not None else None
        if kind is EmbedReply:
            fields["vectors"] = tuple(array("f", vector) for vector in fields["vectors"])
        else:
            fields["route"] = f"{route}; first {fields['route']}"
        return kind(**fields, cached=True)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None
