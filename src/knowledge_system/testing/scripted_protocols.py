"""What the scripted provider says, in each of the three protocols: bodies, stream events, vectors, errors."""

from __future__ import annotations

import base64
import hashlib
import json
import math
from array import array
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

Protocol = Literal["openai", "anthropic", "ollama", "other"]

TOLD = object()
"""Marks usage that is computed from the request and the answer, as a provider would."""


@dataclass(frozen=True, slots=True)
class Step:
    """One scripted answer. Defaults: status 200, `text` as the answer, usage as a provider would count it.

    Faults: `delay` waits so many seconds before the status line, `hang` never answers (`start`) or stops for ever
    after half of the body or stream (`middle`), `cut` closes the connection before the status line (`start`) or after
    half (`middle`), `declared_length` lies about the length, `body` is sent as it is.

    Usage: `usage` is sent as it is, in the protocol's own words; None leaves it out; by default `input_tokens` (else a
    quarter of the request's bytes) and `output_tokens` (else a quarter of the answer's bytes, at least 1) are told.

    Streams: `pieces` cuts the text in that many, `chunk_delay` waits before each, `error_after` sends an error event
    instead of piece number N, `end_mark` False leaves the mark of the end away, `finish` None the reason as well.
    """

    text: str = "scripted answer"
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | str | Mapping[str, Any] | list[Any] | None = None
    error: Any = None
    usage: Any = TOLD
    input_tokens: int | None = None
    output_tokens: int | None = None
    finish: str | None = "stop"
    model: str | None = None
    tools: tuple[tuple[str, str], ...] = ()
    delay: float = 0.0
    hang: Literal["", "start", "middle"] = ""
    cut: Literal["", "start", "middle"] = ""
    declared_length: int | None = None
    pieces: int = 3
    chunk_delay: float = 0.0
    error_after: int | None = None
    end_mark: bool = True
    dimensions: int = 8
    encoding: str = ""

    @property
    def failed(self) -> bool:
        """Whether the answer is an error."""
        return self.status >= 400 or self.error is not None  # noqa: PLR2004 -- HTTP's range of errors

    @property
    def streamable(self) -> bool:
        """Whether a client that asked for a stream gets one: not for errors told by the status or instead of it."""
        told_at_once = self.status >= 300 or (self.error is not None and self.error_after is None)  # noqa: PLR2004 -- as above
        return self.body is None and not told_at_once


@dataclass(frozen=True, slots=True)
class Asked:
    """A request as far as an answer depends on it."""

    protocol: Protocol
    path: str
    body: Mapping[str, Any]
    size: int

    @property
    def model(self) -> str:
        """The model asked for."""
        return str(self.body.get("model", "scripted"))

    @property
    def texts(self) -> list[str]:
        """The texts to embed."""
        given = self.body.get("input", [])
        return [given] if isinstance(given, str) else [str(text) for text in given]

    @property
    def embeds(self) -> bool:
        """Whether vectors are asked for."""
        return self.path.endswith(("/embeddings", "/embed"))

    @property
    def streams(self) -> bool:
        """Whether the answer is to be streamed."""
        default = self.protocol == "ollama"
        return not self.embeds and bool(self.body.get("stream", default))


def protocol_of(path: str) -> Protocol:
    """Return the protocol that a path belongs to."""
    if path.endswith(("/chat/completions", "/embeddings", "/models")):
        return "openai"
    if path.endswith("/messages"):
        return "anthropic"
    return "ollama" if path.startswith("/api/") else "other"


def whole(step: Step, asked: Asked) -> Any:
    """Return the JSON value of an answer that is not streamed."""
    if step.failed:
        return _error(step, asked.protocol)
    if asked.embeds:
        return _vectors(step, asked)
    if asked.path.endswith("/show"):
        return {"model_info": {}, "details": {"family": "scripted"}}
    if asked.protocol == "anthropic":
        return _anthropic(step, asked)
    return _ollama(step, asked) if asked.protocol == "ollama" else _openai(step, asked)


def events(step: Step, asked: Asked) -> list[str]:
    """Return the pieces of a streamed answer, framed as the protocol frames them."""
    made = {"anthropic": _anthropic_events, "ollama": _ollama_events}.get(asked.protocol, _openai_events)
    return made(step, asked)


def vector(text: str, dimensions: int) -> list[float]:
    """Return a unit vector that depends on the text only."""
    seed = hashlib.sha256(text.encode("utf-8", "replace")).digest()
    values = [((seed[number % 32] + number) % 17) - 8.0 + 0.5 for number in range(dimensions)]
    length = math.hypot(*values)
    return [value / length for value in values]


def _counts(step: Step, asked: Asked) -> tuple[int, int]:
    told = asked.size // 4 if step.input_tokens is None else step.input_tokens
    made = max(1, len(step.text.encode("utf-8", "replace")) // 4) if step.output_tokens is None else step.output_tokens
    return told, made


def _usage(step: Step, asked: Asked) -> Any:
    if step.usage is not TOLD:
        return step.usage
    given, made = _counts(step, asked)
    if asked.protocol == "anthropic":
        return {"input_tokens": given, "output_tokens": made}
    return {"prompt_tokens": given, "completion_tokens": made, "total_tokens": given + made}


def _cut(text: str, pieces: int) -> list[str]:
    size = max(1, math.ceil(len(text) / max(1, pieces)))
    return [text[start : start + size] for start in range(0, len(text), size)]


def _error(step: Step, protocol: Protocol) -> Any:
    error = step.error if step.error is not None else {"message": "scripted failure", "type": "scripted_error"}
    if protocol == "anthropic":
        return {"type": "error", "error": error}
    if protocol == "ollama" and isinstance(error, dict):
        return {"error": str(error.get("message", ""))}
    return {"error": error}


def _sse(data: Any, name: str = "") -> str:
    text = data if isinstance(data, str) else json.dumps(data, ensure_ascii=False)
    return (f"event: {name}\n" if name else "") + f"data: {text}\n\n"


def _openai_reason(step: Step) -> str | None:
    return {"tool": "tool_calls", "refusal": "content_filter"}.get(step.finish or "", step.finish)


def _openai(step: Step, asked: Asked) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": step.text}
    if step.tools:
        message["tool_calls"] = [_openai_tool(number, tool) for number, tool in enumerate(step.tools)]
    choice = {"index": 0, "message": message, "finish_reason": _openai_reason(step)}
    body = {"id": "scripted", "object": "chat.completion", "created": 0, "model": step.model or asked.model}
    usage = _usage(step, asked)
    return {**body, "choices": [choice], **({} if usage is None else {"usage": usage})}


def _openai_tool(number: int, tool: tuple[str, str]) -> dict[str, Any]:
    return {"id": f"call_{number}", "type": "function", "function": {"name": tool[0], "arguments": tool[1]}}


def _openai_events(step: Step, asked: Asked) -> list[str]:
    model = step.model or asked.model
    base = {"id": "scripted", "object": "chat.completion.chunk", "created": 0, "model": model}

    def chunk(delta: Mapping[str, Any], reason: str | None = None) -> str:
        return _sse({**base, "choices": [{"index": 0, "delta": delta, "finish_reason": reason}]})

    deltas: list[dict[str, Any]] = [{"content": piece} for piece in _cut(step.text, step.pieces)]
    deltas += [{"tool_calls": [{"index": n, **_openai_tool(n, tool)}]} for n, tool in enumerate(step.tools)]
    made = [": keep-alive comment\n\n", *(chunk(delta) for delta in deltas)]
    if step.error_after is not None:
        return [*made[: step.error_after + 1], _sse(_error(step, "openai"))]
    if step.finish is not None:
        made.append(chunk({}, _openai_reason(step)))
    usage = _usage(step, asked)
    if usage is not None and asked.body.get("stream_options", {}).get("include_usage"):
        made.append(_sse({**base, "choices": [], "usage": usage}))
    return [*made, _sse("[DONE]")] if step.end_mark else made


def _anthropic_reason(step: Step) -> str | None:
    return {"stop": "end_turn", "length": "max_tokens", "tool": "tool_use"}.get(step.finish or "", step.finish)


def _anthropic_blocks(step: Step, asked: Asked) -> list[dict[str, Any]]:
    forced = asked.body.get("tool_choice", {}).get("name")
    if forced:
        try:
            given = json.loads(step.text)
        except ValueError:
            given = step.text
        return [{"type": "tool_use", "id": "toolu_0", "name": forced, "input": given}]
    blocks: list[dict[str, Any]] = [{"type": "text", "text": step.text}]
    for number, (name, arguments) in enumerate(step.tools):
        blocks.append({"type": "tool_use", "id": f"toolu_{number}", "name": name, "input": json.loads(arguments)})
    return blocks


def _anthropic(step: Step, asked: Asked) -> dict[str, Any]:
    usage = _usage(step, asked)
    body: dict[str, Any] = {
        "id": "scripted",
        "type": "message",
        "role": "assistant",
        "model": step.model or asked.model,
    }
    body |= {"content": _anthropic_blocks(step, asked), "stop_reason": _anthropic_reason(step), "stop_sequence": None}
    return {**body, **({} if usage is None else {"usage": usage})}


def _anthropic_events(step: Step, asked: Asked) -> list[str]:
    usage = _usage(step, asked)
    message = {**_anthropic(step, asked), "content": [], "stop_reason": None}
    if usage is not None:
        message["usage"] = {**usage, "output_tokens": 1}
    made = [_typed({"type": "message_start", "message": message}), _typed({"type": "ping"})]
    pieces: list[str] = []
    for index, block in enumerate(_anthropic_blocks(step, asked)):
        pieces += _anthropic_block(index, block, step)
    if step.error_after is not None:
        return [*made, *pieces[: step.error_after + 1], _typed(_error(step, "anthropic"))]
    made += pieces
    if step.finish is not None:
        told = {} if usage is None else {"usage": {"output_tokens": usage.get("output_tokens", 0)}}
        made.append(_typed({"type": "message_delta", "delta": {"stop_reason": _anthropic_reason(step)}, **told}))
    return [*made, _typed({"type": "message_stop"})] if step.end_mark else made


def _anthropic_block(index: int, block: Mapping[str, Any], step: Step) -> list[str]:
    is_text = block["type"] == "text"
    empty = {**block, "text": ""} if is_text else {**block, "input": {}}
    whole_text = block["text"] if is_text else json.dumps(block["input"])
    made = [_typed({"type": "content_block_start", "index": index, "content_block": empty})]
    for piece in _cut(whole_text, step.pieces):
        kind = {"type": "text_delta", "text": piece} if is_text else {"type": "input_json_delta", "partial_json": piece}
        made.append(_typed({"type": "content_block_delta", "index": index, "delta": kind}))
    return [*made, _typed({"type": "content_block_stop", "index": index})]


def _typed(data: Mapping[str, Any]) -> str:
    return _sse(data, str(data["type"]))


def _ollama_counts(step: Step, asked: Asked) -> dict[str, Any]:
    if step.usage is not TOLD:
        return dict(step.usage or {})
    given, made = _counts(step, asked)
    return {"prompt_eval_count": given, "eval_count": made}


def _ollama_message(step: Step, text: str) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": text}
    if step.tools:
        message["tool_calls"] = [
            {"function": {"name": name, "arguments": json.loads(arguments)}} for name, arguments in step.tools
        ]
    return message


def _ollama(step: Step, asked: Asked) -> dict[str, Any]:
    body = {"model": step.model or asked.model, "message": _ollama_message(step, step.text), "done": True}
    return {**body, "done_reason": step.finish, **_ollama_counts(step, asked)}


def _ollama_events(step: Step, asked: Asked) -> list[str]:
    base = {"model": step.model or asked.model, "done": False}
    made = [
        json.dumps({**base, "message": {"role": "assistant", "content": piece}}) + "\n"
        for piece in _cut(step.text, step.pieces)
    ]
    if step.error_after is not None:
        return [*made[: step.error_after], json.dumps(_error(step, "ollama")) + "\n"]
    if step.tools:
        made.append(json.dumps({**base, "message": _ollama_message(step, "")}) + "\n")
    last = {**base, "message": {"role": "assistant", "content": ""}, "done": True, "done_reason": step.finish}
    return [*made, json.dumps({**last, **_ollama_counts(step, asked)}) + "\n"] if step.end_mark else made


def _vectors(step: Step, asked: Asked) -> dict[str, Any]:
    size = int(asked.body.get("dimensions") or step.dimensions)
    made = [vector(text, size) for text in asked.texts]
    model = step.model or asked.model
    if asked.protocol == "ollama":
        counts = {"prompt_eval_count": asked.size // 4} if step.usage is TOLD else dict(step.usage or {})
        return {"model": model, "embeddings": made, **counts}
    as_text = (step.encoding or asked.body.get("encoding_format")) == "base64"
    rows = [
        {"object": "embedding", "index": number, "embedding": _base64(one) if as_text else one}
        for number, one in enumerate(made)
    ]
    told = {"prompt_tokens": asked.size // 4, "total_tokens": asked.size // 4} if step.usage is TOLD else step.usage
    return {"object": "list", "model": model, "data": rows, **({} if told is None else {"usage": told})}


def _base64(values: list[float]) -> str:
    return base64.b64encode(array("f", values).tobytes()).decode("ascii")
