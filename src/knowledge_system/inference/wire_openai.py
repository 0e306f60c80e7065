"""The OpenAI protocol: chat completions and embeddings, as spoken by most providers and local servers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from knowledge_system.domain.clock import SystemClock
from knowledge_system.domain.inference import Delta, EmbedReply, FailureKind, ProviderFailed, Reply, Usage
from knowledge_system.inference import failures
from knowledge_system.inference.structured import is_strict, parsed_json
from knowledge_system.inference.wire import (
    Outgoing,
    answered,
    as_dict,
    as_list,
    as_text,
    check_vectors,
    count,
    dollars,
    parameters,
    unit_vector,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from knowledge_system.domain.clock import Clock
    from knowledge_system.domain.inference import Call, EmbedCall, Message
    from knowledge_system.inference.wire import Event, Target

_FINISH = {
    "stop": "stop",
    "length": "length",
    "max_tokens": "length",
    "tool_calls": "tool",
    "function_call": "tool",
    "content_filter": "refusal",
    "refusal": "refusal",
    "safety": "refusal",
    "recitation": "refusal",
    "prohibited_content": "refusal",
}


class OpenAIWire:
    """Chat completions and embeddings."""

    events = "sse"

    def __init__(self, clock: Clock | None = None) -> None:
        self._clock = clock or SystemClock()

    def headers(self, key: str | None) -> dict[str, str]:
        """Return the bearer token, if there is a key."""
        return {"authorization": f"Bearer {key}"} if key else {}

    def chat(self, call: Call, target: Target, *, stream: bool) -> Outgoing:
        """Translate a call; streams ask for their usage."""
        row = target.vendor
        body: dict[str, Any] = {**parameters(call, target), **row.body, "model": target.model}
        body["messages"] = [_message(message) for message in call.messages]
        body[row.max_tokens_field] = target.max_output
        if call.schema is not None:
            body["response_format"] = _response_format(call.schema)
        if row.caps_price and target.price is not None:
            price = target.price
            ceiling = {"prompt": float(price.input), "completion": float(price.output or 0)}
            body["provider"] = {**as_dict(row.body.get("provider")), "max_price": ceiling}
        if stream:
            body |= {"stream": True, "stream_options": {"include_usage": True}}
        return Outgoing("/chat/completions", body)

    def reply(self, body: Mapping[str, Any], call: Call, target: Target) -> Reply:
        """Translate an answer; one with an error object inside is a failure."""
        del call
        if body.get("error"):
            raise failures.from_error(target.provider, body["error"], self._clock.now())
        choice = as_dict(next(iter(as_list(body.get("choices"))), None))
        if choice.get("error"):
            raise _with_usage(failures.from_error(target.provider, choice["error"], self._clock.now()), body, target)
        message = as_dict(choice.get("message"))
        if not message:
            raise _with_usage(failures.malformed(target.provider, "the answer holds no message"), body, target)
        return _reply(dict(message), choice.get("finish_reason"), body, target)

    def reader(self, call: Call, target: Target) -> OpenAIReader:
        """Return a reader of one stream."""
        del call
        return OpenAIReader(target, self._clock)

    def embed(self, call: EmbedCall, target: Target) -> Outgoing:
        """Translate a request for vectors."""
        body: dict[str, Any] = {"model": target.model, "input": list(call.texts)}
        body["encoding_format"] = target.vendor.embedding_encoding
        if call.dimensions is not None:
            body["dimensions"] = call.dimensions
        return Outgoing("/embeddings", body)

    def vectors(self, body: Mapping[str, Any], call: EmbedCall, target: Target) -> EmbedReply:
        """Translate an answer with vectors; their `index` decides the order, and must name each text once."""
        if body.get("error"):
            raise failures.from_error(target.provider, body["error"], self._clock.now())
        rows = [as_dict(row) for row in as_list(body.get("data"))]
        places = [row.get("index") for row in rows]
        if any(place is not None for place in places):
            if sorted(place for place in places if isinstance(place, int)) != list(range(len(rows))):
                raise failures.malformed(target.provider, "the vectors do not say which text each belongs to")
            rows.sort(key=lambda row: int(row["index"]))
        vectors = check_vectors([unit_vector(row.get("embedding")) for row in rows], call, target)
        return EmbedReply(vectors, target.provider, answered(body, target), usage=usage_of(body, target))


class OpenAIReader:
    """Collects the chunks of one stream."""

    def __init__(self, target: Target, clock: Clock) -> None:
        self.done = False
        self._target = target
        self._clock = clock
        self._texts: list[str] = []
        self._refusals: list[str] = []
        self._tools: dict[int, dict[str, Any]] = {}
        self._finish: str | None = None
        self._envelope: dict[str, Any] = {}

    def feed(self, event: Event) -> list[Delta]:
        """Take one chunk."""
        if event.data.strip() == "[DONE]":
            self.done = True
            return []
        chunk = parsed_json(event.data)
        if not isinstance(chunk, dict):
            raise failures.malformed(self._target.provider, "an event of the stream is no JSON object")
        self._envelope |= {name: chunk[name] for name in ("model", "usage") if chunk.get(name)}
        if isinstance(chunk.get("x_groq"), dict) and isinstance(chunk["x_groq"].get("usage"), dict):
            self._envelope.setdefault("usage", chunk["x_groq"]["usage"])
        choice = as_dict(next(iter(as_list(chunk.get("choices"))), None))
        error = chunk.get("error") or choice.get("error")
        if error:
            failed = failures.from_error(self._target.provider, error, self._clock.now())
            raise _with_usage(failed, self._envelope, self._target)
        self._finish = as_text(choice.get("finish_reason")) or self._finish
        delta = as_dict(choice.get("delta"))
        return [self._piece(delta)] if delta else []

    def reply(self) -> Reply:
        """Return the answer. Raises ProviderFailed when neither a reason nor a mark of the end was seen."""
        if self._finish is None and not self.done:
            failed = failures.malformed(self._target.provider, "the stream ended before the answer did")
            raise _with_usage(failed, self._envelope, self._target)
        message: dict[str, Any] = {"role": "assistant", "content": "".join(self._texts)}
        if self._tools:
            message["tool_calls"] = [self._tools[index] for index in sorted(self._tools)]
        if self._refusals:
            message["refusal"] = "".join(self._refusals)
        return _reply(message, self._finish, self._envelope, self._target)

    def _piece(self, delta: Mapping[str, Any]) -> Delta:
        text = _content(delta.get("content"))
        self._texts.append(text)
        if refusal := as_text(delta.get("refusal")):
            self._refusals.append(refusal)
        for part in as_list(delta.get("tool_calls")):
            self._tool(as_dict(part))
        return Delta(text=text, raw=dict(delta))

    def _tool(self, part: Mapping[str, Any]) -> None:
        index = part.get("index")
        known = self._tools.setdefault(
            index if isinstance(index, int) else len(self._tools),
            {"id": "", "type": "function", "function": {"name": "", "arguments": ""}},
        )
        known["id"] = known["id"] or as_text(part.get("id"))
        function = as_dict(part.get("function"))
        known["function"]["name"] += as_text(function.get("name"))
        known["function"]["arguments"] += as_text(function.get("arguments"))


def usage_of(body: Mapping[str, Any], target: Target) -> Usage | None:
    """Normalise usage: `prompt_tokens` includes cached tokens here. None when it was not told.

    Reasoning is part of `completion_tokens`, except where only `total_tokens` shows it (Gemini): the larger counts.
    """
    told = as_dict(body.get("usage"))
    prompt, completion = count(told, "prompt_tokens"), count(told, "completion_tokens")
    total = count(told, "total_tokens")
    if prompt is None:
        return None
    details, produced = as_dict(told.get("prompt_tokens_details")), as_dict(told.get("completion_tokens_details"))
    read, written = count(details, "cached_tokens") or 0, count(details, "cache_write_tokens") or 0
    read, written = min(read, prompt), min(written, max(0, prompt - read))
    return Usage(
        input=prompt - read - written,
        output=max(completion or 0, (total or 0) - prompt),
        cache_read=read,
        cache_write=written,
        reasoning=count(produced, "reasoning_tokens") or 0,
        cost_nano=_told_cost(told) if target.vendor.tells_cost else None,
    )


def _told_cost(told: Mapping[str, Any]) -> int | None:
    """Return OpenRouter's `cost`; with a key of one's own the upstream's bill comes on top."""
    cost = dollars(told.get("cost"))
    if cost is None or told.get("is_byok") is not True:
        return cost
    return cost + (dollars(as_dict(told.get("cost_details")).get("upstream_inference_cost")) or 0)


def _reply(message: dict[str, Any], finish: object, body: Mapping[str, Any], target: Target) -> Reply:
    text = _content(message.get("content"))
    if finish == "error":
        raise _with_usage(failures.failure(target.provider, FailureKind.SERVER), body, target)
    reason = _FINISH.get(as_text(finish).lower(), "stop")
    if as_text(message.get("refusal")):
        reason = "refusal"
    elif as_list(message.get("tool_calls")) and reason == "stop":
        reason = "tool"
    usage = usage_of(body, target)
    return Reply(text, target.provider, answered(body, target), usage, finish=reason, message=message)


def _with_usage(error: ProviderFailed, body: Mapping[str, Any], target: Target) -> ProviderFailed:
    error.usage = usage_of(body, target)
    return error


def _content(content: Any) -> str:
    if isinstance(content, str):
        return content
    return "".join(as_text(as_dict(part).get("text")) for part in as_list(content))


def _message(message: Message) -> dict[str, Any]:
    content = message.content if isinstance(message.content, str) else [dict(part) for part in message.content]
    calls = message.extra.get("tool_calls")
    return {**message.extra, "role": message.role, "content": None if calls and not content else content}


def _response_format(schema: Mapping[str, Any]) -> dict[str, Any]:
    named = {"name": "answer", "schema": schema, "strict": is_strict(schema)}
    return {"type": "json_schema", "json_schema": named}
