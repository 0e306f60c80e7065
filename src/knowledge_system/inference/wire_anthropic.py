"""The Anthropic Messages protocol."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from knowledge_system.domain.clock import SystemClock
from knowledge_system.domain.inference import Delta, FailureKind, Reply, Usage
from knowledge_system.inference import failures
from knowledge_system.inference.structured import parsed_json
from knowledge_system.inference.wire import Outgoing, answered, as_dict, as_list, as_text, count, parameters, refused

if TYPE_CHECKING:
    from collections.abc import Mapping

    from knowledge_system.domain.clock import Clock
    from knowledge_system.domain.inference import Call, EmbedCall, EmbedReply, Message
    from knowledge_system.inference.wire import Event, Target

_VERSION = "2023-06-01"
"""The only version of the protocol there is."""

_ANSWER = "answer"
"""Name of the tool that a schema becomes: the model is made to call it, so its input has the schema's form."""

_FINISH = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "pause_turn": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool",
    "refusal": "refusal",
}
_SAME = ("top_p", "top_k", "thinking", "cache_control")
"""Parameters that are called the same here; the OpenAI ones that have no counterpart are left out."""


class AnthropicWire:
    """Messages; there are no embeddings."""

    events = "sse"

    def __init__(self, clock: Clock | None = None) -> None:
        self._clock = clock or SystemClock()

    def headers(self, key: str | None) -> dict[str, str]:
        """Return the key and the protocol's version."""
        return {"anthropic-version": _VERSION, **({"x-api-key": key} if key else {})}

    def chat(self, call: Call, target: Target, *, stream: bool) -> Outgoing:
        """Translate a call; system messages stand apart, neighbours of one role are joined."""
        given = parameters(call, target)
        body: dict[str, Any] = {name: given[name] for name in _SAME if name in given}
        body |= {"model": target.model, "max_tokens": target.max_output, "messages": _messages(call, target)}
        system = [block for message in call.messages if _is_system(message) for block in _blocks(message, target)]
        if system:
            body["system"] = system
        if "temperature" in given:
            body["temperature"] = min(float(given["temperature"]), 1.0)  # their scale ends at 1
        if stop := given.get("stop"):
            body["stop_sequences"] = [stop] if isinstance(stop, str) else list(stop)
        body |= _tools(given, call)
        if stream:
            body["stream"] = True
        return Outgoing("/messages", body)

    def reply(self, body: Mapping[str, Any], call: Call, target: Target) -> Reply:
        """Translate an answer."""
        if body.get("error"):
            raise failures.from_error(target.provider, body["error"], self._clock.now())
        if not isinstance(body.get("content"), list):
            raise failures.malformed(target.provider, "the answer holds no content")
        blocks = [as_dict(block) for block in body["content"]]
        return _reply(blocks, body.get("stop_reason"), body, (call, target))

    def reader(self, call: Call, target: Target) -> AnthropicReader:
        """Return a reader of one stream."""
        return AnthropicReader(call, target, self._clock)

    def embed(self, call: EmbedCall, target: Target) -> Outgoing:
        """Refuse: this provider has no embeddings."""
        del call
        raise failures.failure(target.provider, FailureKind.MISCONFIGURED, "offers no embeddings", started=False)

    def vectors(self, body: Mapping[str, Any], call: EmbedCall, target: Target) -> EmbedReply:
        """Refuse: this provider has no embeddings."""
        del body, call
        raise failures.malformed(target.provider, "offers no embeddings")


class AnthropicReader:
    """Collects the events of one stream."""

    def __init__(self, call: Call, target: Target, clock: Clock) -> None:
        self.done = False
        self._call = call
        self._target = target
        self._clock = clock
        self._blocks: dict[int, dict[str, Any]] = {}
        self._envelope: dict[str, Any] = {}
        self._usage: dict[str, Any] = {}
        self._stop: object = None

    def feed(self, event: Event) -> list[Delta]:
        """Take one event."""
        data = parsed_json(event.data)
        if not isinstance(data, dict):
            raise failures.malformed(self._target.provider, "an event of the stream is no JSON object")
        kind = data.get("type")
        if kind == "error":
            raise failures.from_error(self._target.provider, data.get("error"), self._clock.now())
        if kind == "message_start":
            message = as_dict(data.get("message"))
            self._envelope["model"] = message.get("model")
            self._usage |= as_dict(message.get("usage"))
        elif kind == "message_delta":
            self._stop = as_dict(data.get("delta")).get("stop_reason") or self._stop
            self._usage |= {name: n for name, n in as_dict(data.get("usage")).items() if n is not None}
        elif kind == "message_stop":
            self.done = True
        return self._block(data)

    def reply(self) -> Reply:
        """Return the answer. Raises ProviderFailed when the stream ended without a stop reason."""
        if self._stop is None:
            raise failures.malformed(self._target.provider, "the stream ended before the answer did")
        for block in self._blocks.values():
            if "partial" in block:
                partial = block.pop("partial") or "{}"
                given = parsed_json(partial)
                block["input"] = given if isinstance(given, dict) else partial
        blocks = [self._blocks[index] for index in sorted(self._blocks)]
        return _reply(blocks, self._stop, {**self._envelope, "usage": self._usage}, (self._call, self._target))

    def _block(self, data: Mapping[str, Any]) -> list[Delta]:
        index = data.get("index")
        if not isinstance(index, int):
            return []
        if data.get("type") == "content_block_start":
            block = dict(as_dict(data.get("content_block")))
            self._blocks[index] = {**block, "partial": ""} if block.get("type") == "tool_use" else block
            return self._opened(index, block)
        if data.get("type") == "content_block_delta":
            return self._grown(index, as_dict(data.get("delta")))
        return []

    def _opened(self, index: int, block: Mapping[str, Any]) -> list[Delta]:
        text = as_text(block.get("text"))
        if text:
            return [Delta(text=text, raw={"content": text})]
        if block.get("type") != "tool_use" or self._is_answer(block):
            return []
        function = {"name": as_text(block.get("name")), "arguments": ""}
        started = {"index": self._ordinal(index), "id": as_text(block.get("id")), "type": "function"}
        return [Delta(raw={"tool_calls": [{**started, "function": function}]})]

    def _grown(self, index: int, delta: Mapping[str, Any]) -> list[Delta]:
        block = self._blocks.setdefault(index, {"type": "text"})
        if text := as_text(delta.get("text")):
            block["text"] = as_text(block.get("text")) + text
            return [Delta(text=text, raw={"content": text})]
        if thought := as_text(delta.get("thinking")):
            return [Delta(raw={"reasoning": thought})]
        if piece := as_text(delta.get("partial_json")):
            block["partial"] = as_text(block.get("partial")) + piece
            if self._is_answer(block):
                return [Delta(text=piece, raw={"content": piece})]
            grown = {"index": self._ordinal(index), "function": {"arguments": piece}}
            return [Delta(raw={"tool_calls": [grown]})]
        return []

    def _is_answer(self, block: Mapping[str, Any]) -> bool:
        return self._call.schema is not None and block.get("name") == _ANSWER

    def _ordinal(self, index: int) -> int:
        return sum(block.get("type") == "tool_use" for number, block in self._blocks.items() if number < index)


def usage_of(body: Mapping[str, Any]) -> Usage | None:
    """Normalise usage: `input_tokens` excludes cached ones here; writes for an hour are told apart. None: not told."""
    told = as_dict(body.get("usage"))
    fresh, output = count(told, "input_tokens"), count(told, "output_tokens")
    if fresh is None or output is None:
        return None
    written = count(told, "cache_creation_input_tokens") or 0
    hour = count(as_dict(told.get("cache_creation")), "ephemeral_1h_input_tokens") or 0
    short = count(as_dict(told.get("cache_creation")), "ephemeral_5m_input_tokens")
    return Usage(
        input=fresh,
        output=output,
        cache_read=count(told, "cache_read_input_tokens") or 0,
        cache_write=max(0, written - hour) if short is None else short,
        cache_write_hour=hour,
    )


def _reply(
    blocks: list[Mapping[str, Any]] | list[dict[str, Any]],
    stop: object,
    body: Mapping[str, Any],
    asked: tuple[Call, Target],
) -> Reply:
    call, target = asked
    text = "".join(as_text(block.get("text")) for block in blocks if block.get("type") == "text")
    uses = [block for block in blocks if block.get("type") == "tool_use"]
    finish = _FINISH.get(as_text(stop), "stop")
    if call.schema is not None and uses and uses[0].get("name") == _ANSWER:
        text = json.dumps(uses.pop(0).get("input"), ensure_ascii=False)
        finish = "stop" if finish == "tool" and not uses else finish
    message: dict[str, Any] = {"role": "assistant", "content": text}
    if uses:
        message["tool_calls"] = [_tool_call(use) for use in uses]
    return Reply(text, target.provider, answered(body, target), usage_of(body), finish=finish, message=message)


def _tool_call(use: Mapping[str, Any]) -> dict[str, Any]:
    arguments = json.dumps(use.get("input") or {}, ensure_ascii=False)
    function = {"name": as_text(use.get("name")), "arguments": arguments}
    return {"id": as_text(use.get("id")), "type": "function", "function": function}


def _is_system(message: Message) -> bool:
    return message.role in {"system", "developer"}


def _messages(call: Call, target: Target) -> list[dict[str, Any]]:
    joined: list[dict[str, Any]] = []
    for message in call.messages:
        if _is_system(message):
            continue
        role = "assistant" if message.role == "assistant" else "user"
        blocks = _blocks(message, target)
        if joined and joined[-1]["role"] == role:
            joined[-1]["content"] += blocks
        elif blocks:
            joined.append({"role": role, "content": blocks})
    return joined or [{"role": "user", "content": [{"type": "text", "text": "Answer as the instructions say."}]}]


def _blocks(message: Message, target: Target) -> list[dict[str, Any]]:
    parts = message.content if not isinstance(message.content, str) else ({"type": "text", "text": message.content},)
    blocks = [_part(part, target) for part in parts if part.get("type") != "text" or part.get("text")]
    if message.role == "tool":
        return [{"type": "tool_result", "tool_use_id": as_text(message.extra.get("tool_call_id")), "content": blocks}]
    for call in as_list(message.extra.get("tool_calls")):
        function = as_dict(as_dict(call).get("function"))
        given = parsed_json(as_text(function.get("arguments")) or "{}")
        used = {"type": "tool_use", "id": as_text(call.get("id")), "name": as_text(function.get("name"))}
        blocks.append({**used, "input": given if isinstance(given, dict) else {}})
    return blocks


def _part(part: Mapping[str, Any], target: Target) -> dict[str, Any]:
    extra = {"cache_control": part["cache_control"]} if "cache_control" in part else {}
    if part.get("type") == "text":
        return {"type": "text", "text": as_text(part.get("text")), **extra}
    if part.get("type") != "image_url":
        raise refused(target, "this kind of content cannot be sent to this provider")
    url = as_text(as_dict(part.get("image_url")).get("url"))
    head, _, data = url.partition(";base64,")
    if data and head.startswith("data:"):
        source = {"type": "base64", "media_type": head.removeprefix("data:"), "data": data}
    else:
        source = {"type": "url", "url": url}
    return {"type": "image", "source": source, **extra}


def _tools(given: Mapping[str, Any], call: Call) -> dict[str, Any]:
    tools = [_tool(as_dict(as_dict(tool).get("function"))) for tool in as_list(given.get("tools"))]
    if call.schema is not None:
        answer = {"name": _ANSWER, "description": "Give the answer.", "input_schema": dict(call.schema)}
        choice = {"type": "any"} if tools else {"type": "tool", "name": _ANSWER}
        return {"tools": [*tools, answer], "tool_choice": choice}
    return {"tools": tools, **_choice(given.get("tool_choice"))} if tools else {}


def _tool(function: Mapping[str, Any]) -> dict[str, Any]:
    schema = function.get("parameters") or {"type": "object", "properties": {}}
    told = {"description": function["description"]} if function.get("description") else {}
    return {"name": as_text(function.get("name")), **told, "input_schema": schema}


def _choice(choice: Any) -> dict[str, Any]:
    if isinstance(choice, str):
        kind = {"auto": "auto", "required": "any", "none": "none"}.get(choice)
        return {"tool_choice": {"type": kind}} if kind else {}
    name = as_text(as_dict(as_dict(choice).get("function")).get("name"))
    return {"tool_choice": {"type": "tool", "name": name}} if name else {}
