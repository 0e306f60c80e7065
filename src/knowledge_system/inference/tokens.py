"""Upper bounds of tokens before a call is sent: what a reservation rests on.

A byte-level BPE token covers at least one byte of UTF-8, and SentencePiece falls back to bytes, so the bytes of a text
bound its tokens. What a provider adds (chat template, tool and schema preambles) is bounded by the constants below.
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from knowledge_system.domain.inference import EmbedCall

if TYPE_CHECKING:
    from collections.abc import Mapping

    from knowledge_system.domain.inference import Call, Delta, Message

DEFAULT_MAX_OUTPUT = 2048
"""Output tokens asked for when a call names none: without a limit no worst case exists."""

CALL_OVERHEAD = 256
"""Tokens of the template around all messages; the largest known (the Harmony preamble) has about 80."""

MESSAGE_OVERHEAD = 16
"""Tokens of role marks around one message; known templates use 3 to 8."""

PREAMBLE_OVERHEAD = 1024
"""Tokens a provider adds to explain tools or a schema to the model; the largest published figure is about 700."""

IMAGE_TOKENS = 50_000
"""Tokens of one image, whose bytes say nothing: the most that a published formula yields is about 48,200."""

_NO_TEXT = ("image_url", "image")
_OPAQUE = ("input_audio", "file", "document", "video_url", "video", "audio")


def bounded(call: Call) -> Call:
    """Return the call with `max_output` set (at least 1)."""
    return replace(call, max_output=max(1, DEFAULT_MAX_OUTPUT if call.max_output is None else call.max_output))


def output_bound(call: Call) -> int:
    """Return the most tokens, reasoning included, that the provider may produce for this call."""
    return max(1, DEFAULT_MAX_OUTPUT if call.max_output is None else call.max_output)


def input_bound(call: Call | EmbedCall, context: int | None = None) -> int | None:
    """Return the most input tokens this call can be billed for; None when nothing bounds it.

    `context` is the model's context window, where known: a provider rejects what is longer, unbilled. A call with
    parts whose size is not in the request (files, audio or video by reference) is bounded by the context alone.
    """
    if isinstance(call, EmbedCall):
        return sum(text_bytes(text) + MESSAGE_OVERHEAD for text in call.texts)
    if any(_is_opaque(message) for message in call.messages):
        return context
    total = CALL_OVERHEAD + sum(_message_bound(message) for message in call.messages)
    asks_more = call.schema is not None or bool({"tools", "response_format"} & call.parameters.keys())
    total += _json_bytes(call.parameters) + (_json_bytes(call.schema) if call.schema is not None else 0)
    total += PREAMBLE_OVERHEAD if asks_more else 0
    return total if context is None else min(total, context)


def produced_bytes(delta: Delta) -> int:
    """Return how many bytes, an upper bound of its tokens, a piece of a stream holds: text, reasoning, tool calls."""
    return max(text_bytes(delta.text), _json_bytes(delta.raw) if delta.raw else 0)


def text_bytes(text: str) -> int:
    """Return the bytes of a text as they are sent: an unpaired surrogate becomes one question mark."""
    return len(text) if text.isascii() else len(text.encode("utf-8", "replace"))


def embed_batches(call: EmbedCall, *, most_texts: int = 2048, most_tokens: int = 300_000) -> list[EmbedCall]:
    """Split a call so that each part fits one request; each part is an attempt of its own.

    The defaults are the limits of the OpenAI embeddings endpoint; tokens are bounded by bytes.
    """
    batches: list[list[str]] = []
    room = 0
    for text in call.texts:
        size = text_bytes(text)
        if not batches or len(batches[-1]) >= most_texts or size > room:
            batches.append([])
            room = most_tokens
        batches[-1].append(text)
        room -= size
    return [replace(call, texts=tuple(texts)) for texts in batches]


def _message_bound(message: Message) -> int:
    size = MESSAGE_OVERHEAD + (_json_bytes(message.extra) if message.extra else 0)
    if isinstance(message.content, str):
        return size + text_bytes(message.content)
    return size + sum(_part_bound(part) for part in message.content)


def _part_bound(part: Mapping[str, Any]) -> int:
    return IMAGE_TOKENS if part.get("type") in _NO_TEXT else _json_bytes(part)


def _is_opaque(message: Message) -> bool:
    return not isinstance(message.content, str) and any(part.get("type") in _OPAQUE for part in message.content)


def _json_bytes(value: object) -> int:
    return len(json.dumps(value, ensure_ascii=False, default=str).encode("utf-8", "replace"))
