"""One canonical text of a request: what the cache keys, the audit hashes and the privacy gate reads."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from enum import Enum
from typing import TYPE_CHECKING, Any

from knowledge_system.domain.inference import Call

if TYPE_CHECKING:
    from collections.abc import Mapping

    from knowledge_system.domain.inference import EmbedCall

_ENVELOPE = frozenset(
    {"deadline", "idempotency_key", "cacheable", "strategy", "provider", "model", "sensitivity", "layer"}
)
"""Fields that say how a request is handled. The cache adds those that matter to its key itself."""


def canonical(value: object) -> str:
    """Return JSON with sorted keys and no spaces. Types that JSON would merge (tuple keys, bytes) are written apart."""
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, default=_plain, check_circular=True
    )


def request(call: Call | EmbedCall) -> str:
    """Return the canonical text of everything in `call` that shapes the answer, unknown parameters included."""
    fields = {
        field.name: getattr(call, field.name) for field in dataclasses.fields(call) if field.name not in _ENVELOPE
    }
    return canonical({"kind": type(call).__name__, **fields})


def leaving(call: Call | EmbedCall) -> str:
    """Return the canonical text of what a provider would see of `call`."""
    if isinstance(call, Call):
        seen: Mapping[str, Any] = {"m": call.messages, "s": call.schema, "p": call.parameters}
    else:
        seen = {"t": call.texts}
    return canonical(seen)


def content_hash(call: Call | EmbedCall) -> str:
    """Return SHA-256 (64 hexadecimal digits) of what leaves: proof for those who have the text, no text itself."""
    return hashlib.sha256(leaving(call).encode()).hexdigest()


def texts(call: Call | EmbedCall) -> list[str]:
    """Return every string of `call` that a provider would see: messages, tool calls, tool definitions, schema."""
    found: list[str] = []
    if isinstance(call, Call):
        for message in call.messages:
            _collect(message.content, found)
            _collect(message.extra, found)
        _collect(call.parameters, found)
        _collect(call.schema, found)
    else:
        found.extend(call.texts)
    return found


def _collect(value: object, found: list[str]) -> None:
    if isinstance(value, str):
        found.append(value)
    elif isinstance(value, dict):
        for key, inner in value.items():
            _collect(key, found)
            _collect(inner, found)
    elif isinstance(value, (list, tuple)):
        for inner in value:
            _collect(inner, found)


def _plain(value: object) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, (set, frozenset)):
        return sorted(canonical(inner) for inner in value)
    if hasattr(value, "items"):
        return dict(value.items())
    return f"{type(value).__name__}:{value!r}"
