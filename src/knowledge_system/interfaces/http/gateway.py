"""The OpenAI protocol and the engine's nouns, one translated into the other. Pure: no connection, no clock."""

from __future__ import annotations

import base64
import json
import sys
from array import array
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from knowledge_system.domain.errors import UsageError
from knowledge_system.domain.inference import NANO, Call, EmbedCall, Message
from knowledge_system.domain.sensitivity import Sensitivity

if TYPE_CHECKING:
    from collections.abc import Mapping

    from knowledge_system.domain.embedding import Vector
    from knowledge_system.domain.inference import Delta, EmbedReply, Reply, Usage

Json = dict[str, Any]

_PASSED = frozenset(
    {"top_p", "top_k", "min_p", "stop", "seed", "presence_penalty", "frequency_penalty", "repetition_penalty"}
    | {"logit_bias", "logprobs", "top_logprobs", "tools", "tool_choice", "parallel_tool_calls", "prompt_cache_key"}
    | {"reasoning_effort", "reasoning", "verbosity", "response_format"}
)
"""Parameters that the engine bounds and providers know."""

_LEFT_OUT = frozenset({"user", "metadata", "safety_identifier"})
"""They name the user: nobody's business."""

_NEUTRAL: Mapping[str, tuple[Any, ...]] = {
    "n": (1,),
    "store": (False,),
    "modalities": (["text"],),
    "service_tier": ("auto", "default"),
}
"""Values that ask for what happens anyway; others would change price or place."""

_OWN = frozenset({"model", "messages", "stream", "stream_options", "temperature", "max_tokens"}) | {
    "max_completion_tokens"
}
_ROLES = ("system", "developer", "user", "assistant", "tool")
_FORMATS = ("text", "json_object", "json_schema")
_FINISH = {"stop": "stop", "length": "length", "tool": "tool_calls", "refusal": "content_filter"}
_PIECES = ("content", "refusal", "tool_calls", "reasoning", "reasoning_content")
_LONGEST_NAME = 200


@dataclass(frozen=True, slots=True)
class Envelope:
    """What the headers of a request say."""

    sensitivity: Sensitivity = Sensitivity.INTERNAL
    project: str = ""
    idempotency_key: str | None = None


@dataclass(frozen=True, slots=True)
class Stamp:
    """What an answer is marked with: its id, the moment in seconds of the epoch, and the model's name as asked for."""

    id: str
    created: int
    model: str


def envelope(headers: Mapping[str, str]) -> Envelope:
    """Read the headers. Raises UsageError for a level that does not exist."""
    level = headers.get("x-knowledge-sensitivity", Sensitivity.INTERNAL.value).strip().lower()
    if level not in set(Sensitivity):
        raise _wrong("X-Knowledge-Sensitivity is not a level", f"one of: {', '.join(Sensitivity)}")
    project = headers.get("x-knowledge-project", "").strip()[:_LONGEST_NAME]
    return Envelope(Sensitivity(level), project, headers.get("idempotency-key"))


def parse(raw: bytes) -> Json:
    """Return the JSON object of a request. Raises UsageError for anything else: NaN, infinity, lone surrogates too."""
    try:
        value = json.loads(raw.decode("utf-8"), parse_constant=_refuse)
        json.dumps(value, ensure_ascii=False, allow_nan=False).encode("utf-8")
    except (ValueError, RecursionError) as error:
        raise _wrong("the body is not valid JSON", "send one JSON object, UTF-8 encoded") from error
    if not isinstance(value, dict):
        raise _wrong("the body must be a JSON object", "see the OpenAI API reference")
    return value


def chat_call(body: Json, head: Envelope, operation: str) -> Call:
    """Translate a chat completion request. Raises UsageError for what is wrong or not supported."""
    temperature = body.get("temperature")
    if temperature is not None and not _is_number(temperature):
        raise _wrong("temperature must be a number", "0 to 2")
    passed = _parameters(body)
    schema = _schema(passed)
    return Call(
        operation,
        _messages(body.get("messages")),
        project=head.project,
        sensitivity=head.sensitivity,
        idempotency_key=head.idempotency_key,
        max_output=_count(body, "max_completion_tokens") or _count(body, "max_tokens"),
        temperature=temperature,
        schema=schema,
        model=_model(body),
        parameters=passed,
    )


def streams(body: Json) -> bool:
    """Tell whether a stream is asked for."""
    return _flag(body.get("stream"), "stream")


def wants_usage(body: Json) -> bool:
    """Tell whether the stream is to end with its usage."""
    options = body.get("stream_options") or {}
    if not isinstance(options, dict):
        raise _wrong("stream_options must be an object", "{'include_usage': true}")
    return _flag(options.get("include_usage"), "stream_options.include_usage")


def embed_call(body: Json, head: Envelope, operation: str) -> EmbedCall:
    """Translate a request for embeddings. Raises UsageError for what is wrong or not supported."""
    given = body.get("input")
    texts = [given] if isinstance(given, str) else given
    if not isinstance(texts, list) or not texts or not all(isinstance(text, str) and text for text in texts):
        raise _wrong("input must be a text or a list of texts, none of them empty", "token numbers are not supported")
    if body.get("encoding_format") not in (None, "float", "base64"):
        raise _wrong("encoding_format is not known", "float or base64")
    return EmbedCall(
        operation,
        tuple(texts),
        project=head.project,
        sensitivity=head.sensitivity,
        idempotency_key=head.idempotency_key,
        model=_model(body),
        dimensions=_count(body, "dimensions"),
    )


def completion(reply: Reply, stamp: Stamp) -> Json:
    """Return a chat completion."""
    choice = {"index": 0, "message": _message(reply), "logprobs": None, "finish_reason": _finish(reply)}
    head = {"id": stamp.id, "object": "chat.completion", "created": stamp.created, "model": reply.model}
    return {**head, "choices": [choice], "usage": usage_of(reply.usage)}


@dataclass(slots=True)
class Chunks:
    """Translates the deltas of one stream. The last chunk names provider, cost and cache in `x_knowledge`."""

    stamp: Stamp
    include_usage: bool = False
    _said: bool = field(default=False, init=False)

    def feed(self, delta: Delta) -> list[Json]:
        """Return the chunks of a delta; the one that carries the reply also brings the end."""
        made = []
        piece = _piece(delta)
        if delta.reply is not None and not self._said and not piece.get("tool_calls"):
            piece |= _calls(delta.reply)  # an answer of the cache comes in one piece
        if piece:
            made.append(self._chunk({**({} if self._said else {"role": "assistant"}), **piece}))
            self._said = True
        return made if delta.reply is None else [*made, *self._end(delta.reply)]

    def _end(self, reply: Reply) -> list[Json]:
        last = self._chunk({} if self._said else {"role": "assistant", "content": ""}, _finish(reply))
        if not self.include_usage:
            return [{**last, "x_knowledge": facts(reply)}]
        counted = {**self._head(), "choices": [], "usage": usage_of(reply.usage), "x_knowledge": facts(reply)}
        return [{**last, "usage": None}, counted]

    def _chunk(self, delta: Json, finish: str | None = None) -> Json:
        return {**self._head(), "choices": [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}]}

    def _head(self) -> Json:
        stamp = self.stamp
        return {"id": stamp.id, "object": "chat.completion.chunk", "created": stamp.created, "model": stamp.model}


def embeddings(reply: EmbedReply, encoding: object) -> Json:
    """Return vectors as numbers, or as base64 of little-endian float32 where that was asked for."""
    write = _base64 if encoding == "base64" else list
    rows = [
        {"object": "embedding", "index": index, "embedding": write(vector)}
        for index, vector in enumerate(reply.vectors)
    ]
    told = usage_of(reply.usage)
    counted = {"prompt_tokens": told["prompt_tokens"], "total_tokens": told["prompt_tokens"]}
    return {"object": "list", "data": rows, "model": reply.model, "usage": counted}


def listed(name: str, owner: str) -> Json:
    """Return a row of the list of models."""
    return {"id": name, "object": "model", "created": 0, "owned_by": owner}


def usage_of(usage: Usage | None) -> Json:
    """Return usage in the protocol's words: `prompt_tokens` includes cached ones. Zeros when it was not told."""
    if usage is None:
        return {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}
    prompt = usage.input + usage.cache_read + usage.cache_write + usage.cache_write_hour
    return {
        "prompt_tokens": prompt,
        "completion_tokens": usage.output,
        "total_tokens": prompt + usage.output,
        "prompt_tokens_details": {"cached_tokens": usage.cache_read},
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning},
    }


def facts(reply: Reply | EmbedReply) -> Json:
    """Return who answered, what it cost in US dollars, and whether it came from the cache."""
    cost = f"{reply.cost_nano // NANO}.{reply.cost_nano % NANO:09d}"
    return {"provider": reply.provider, "cost_usd": cost, "cached": reply.cached}


def fact_headers(reply: Reply | EmbedReply) -> dict[str, str]:
    """Return the same as headers."""
    told = facts(reply)
    return {
        "x-knowledge-provider": told["provider"],
        "x-knowledge-cost-usd": told["cost_usd"],
        "x-knowledge-cached": str(told["cached"]).lower(),
    }


def _parameters(body: Json) -> Json:
    """Return what is passed on. Raises UsageError for parameters that would be ignored silently."""
    passed = {}
    for name, value in body.items():
        if name in _OWN or name in _LEFT_OUT or value is None or value in _NEUTRAL.get(name, ()):
            continue
        if name not in _PASSED:
            raise _wrong(f"the parameter {name[:40]} or this value of it is not supported", "leave it out")
        passed[name] = value
    tools = passed.get("tools", [])
    if not isinstance(tools, list) or not all(
        isinstance(tool, dict) and tool.get("type") == "function" for tool in tools
    ):
        raise _wrong("tools must be a list of function tools", "others have a price of their own")
    return passed


def _schema(passed: Json) -> Json | None:
    """Take a JSON schema out of `passed`: the engine validates answers against it, whoever gives them."""
    wanted = passed.get("response_format")
    if wanted is None:
        return None
    if not isinstance(wanted, dict) or wanted.get("type") not in _FORMATS:
        raise _wrong("response_format is not known", "text, json_object or json_schema")
    if wanted["type"] != "json_schema":
        return None
    named = wanted.get("json_schema")
    schema = named.get("schema") if isinstance(named, dict) else None
    if not isinstance(schema, dict):
        raise _wrong("response_format.json_schema.schema must be an object", "give a JSON schema")
    del passed["response_format"]
    return schema


def _messages(given: object) -> tuple[Message, ...]:
    if not isinstance(given, list) or not given:
        raise _wrong("messages must be a list of at least one message", "[{'role': 'user', 'content': '…'}]")
    return tuple(_one_message(message) for message in given)


def _one_message(given: object) -> Message:
    if not isinstance(given, dict) or given.get("role") not in _ROLES:
        raise _wrong("every message needs a role", f"one of: {', '.join(_ROLES)}")
    content = given.get("content")
    if isinstance(content, list) and all(isinstance(part, dict) for part in content):
        content = tuple(content)
    elif content is None and given["role"] == "assistant":
        content = ""
    elif not isinstance(content, str):
        raise _wrong("the content of a message must be a text or a list of parts", "{'type': 'text', 'text': '…'}")
    extra = {name: value for name, value in given.items() if name not in {"role", "content"} and value is not None}
    return Message("system" if given["role"] == "developer" else given["role"], content, extra)


def _model(body: Json) -> str:
    name = body.get("model")
    if not isinstance(name, str) or not name:
        raise _wrong("model must be named", "a provider, provider/model, or auto")
    return name


def _count(body: Json, name: str) -> int | None:
    value = body.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise _wrong(f"{name} must be a whole number", "at least 1")
    return value


def _flag(value: object, name: str) -> bool:
    if not isinstance(value, bool | None):
        raise _wrong(f"{name} must be true or false", "without quotes")
    return bool(value)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _message(reply: Reply) -> Json:
    calls = {"tool_calls": list(reply.message["tool_calls"])} if reply.message.get("tool_calls") else {}
    content = None if calls and not reply.text else reply.text
    extra = {name: reply.message[name] for name in ("reasoning", "reasoning_content") if reply.message.get(name)}
    return {"role": "assistant", "content": content, "refusal": reply.message.get("refusal"), **calls, **extra}


def _calls(reply: Reply) -> Json:
    calls = reply.message.get("tool_calls")
    return {"tool_calls": [{"index": index, **call} for index, call in enumerate(calls)]} if calls else {}


def _piece(delta: Delta) -> Json:
    piece = {name: delta.raw[name] for name in _PIECES if delta.raw.get(name)}
    return piece or ({"content": delta.text} if delta.text else {})


def _finish(reply: Reply) -> str:
    return _FINISH.get(reply.finish, "stop")


def _base64(vector: Vector) -> str:
    values = array("f", vector)
    if sys.byteorder == "big":
        values.byteswap()
    return base64.b64encode(values.tobytes()).decode("ascii")


def _refuse(name: str) -> Any:
    raise ValueError(name)


def _wrong(message: str, hint: str) -> UsageError:
    return UsageError(message, hint=hint)
