"""The native Ollama protocol: the only one of its doors that honours the context size."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from knowledge_system.domain.inference import Delta, EmbedReply, FailureKind, Reply, Usage
from knowledge_system.inference import failures
from knowledge_system.inference.structured import parsed_json
from knowledge_system.inference.tokens import input_bound
from knowledge_system.inference.wire import (
    Outgoing,
    answered,
    as_dict,
    as_list,
    as_text,
    check_vectors,
    count,
    parameters,
    refused,
    unit_vector,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from knowledge_system.domain.inference import Call, EmbedCall, Message, ProviderFailed
    from knowledge_system.inference.wire import Event, Target

_SMALLEST_CONTEXT = 4096
_OPTIONS = ("temperature", "top_p", "top_k", "min_p", "seed", "presence_penalty", "frequency_penalty")
_MOST_BYTES_PER_TOKEN = 12
"""Text with more bytes per token than this does not occur; a count below it means that the prompt was cut."""


class OllamaWire:
    """`/api/chat` and `/api/embed`."""

    events = "ndjson"

    def headers(self, key: str | None) -> dict[str, str]:
        """Return the bearer token of a proxy in front, if there is a key."""
        return {"authorization": f"Bearer {key}"} if key else {}

    def chat(self, call: Call, target: Target, *, stream: bool) -> Outgoing:
        """Translate a call. `num_ctx` fits the prompt; what does not fit is an error, not cut silently."""
        given = parameters(call, target)
        options: dict[str, Any] = {name: given[name] for name in _OPTIONS if name in given}
        options |= {"num_ctx": context_size(call, target), "num_predict": target.max_output}
        if stop := given.get("stop"):
            options["stop"] = [stop] if isinstance(stop, str) else list(stop)
        body: dict[str, Any] = {name: given[name] for name in ("think", "keep_alive", "tools") if name in given}
        body |= {"model": target.model, "messages": [_message(message, target) for message in call.messages]}
        body |= {"stream": stream, "options": options, "truncate": False, "shift": False}
        if call.schema is not None:
            body["format"] = dict(call.schema)
        return Outgoing("/api/chat", body)

    def reply(self, body: Mapping[str, Any], call: Call, target: Target) -> Reply:
        """Translate an answer; one whose prompt was cut is a failure of the request."""
        _check(body, target)
        if not isinstance(body.get("message"), dict):
            raise failures.malformed(target.provider, "the answer holds no message")
        _check_whole(body, call, target)
        return _reply(as_dict(body["message"]), body, target)

    def reader(self, call: Call, target: Target) -> OllamaReader:
        """Return a reader of one stream."""
        return OllamaReader(call, target)

    def embed(self, call: EmbedCall, target: Target) -> Outgoing:
        """Translate a request for vectors; a text that is too long is an error."""
        body: dict[str, Any] = {"model": target.model, "input": list(call.texts), "truncate": False}
        if call.dimensions is not None:
            body["dimensions"] = call.dimensions
        return Outgoing("/api/embed", body)

    def vectors(self, body: Mapping[str, Any], call: EmbedCall, target: Target) -> EmbedReply:
        """Translate an answer with vectors."""
        _check(body, target)
        vectors = [unit_vector(row) for row in as_list(body.get("embeddings"))]
        usage = Usage(input=count(body, "prompt_eval_count") or 0)
        return EmbedReply(check_vectors(vectors, call, target), target.provider, answered(body, target), usage=usage)


class OllamaReader:
    """Collects the lines of one stream."""

    def __init__(self, call: Call, target: Target) -> None:
        self.done = False
        self._call = call
        self._target = target
        self._texts: list[str] = []
        self._tools: list[Any] = []
        self._last: Mapping[str, Any] = {}

    def feed(self, event: Event) -> list[Delta]:
        """Take one line."""
        line = parsed_json(event.data)
        if not isinstance(line, dict):
            raise failures.malformed(self._target.provider, "a line of the stream is no JSON object")
        _check(line, self._target)
        message = as_dict(line.get("message"))
        text, thought = as_text(message.get("content")), as_text(message.get("thinking"))
        tools = as_list(message.get("tool_calls"))
        raw: dict[str, Any] = {"content": text} if text else {}
        if thought:
            raw["reasoning"] = thought
        if tools:
            raw["tool_calls"] = [
                {"index": len(self._tools) + number, **_tool_call(tool, len(self._tools) + number)}
                for number, tool in enumerate(tools)
            ]
        self._texts.append(text)
        self._tools += tools
        if line.get("done") is True:
            self.done, self._last = True, line
        return [Delta(text=text, raw=raw)] if raw else []

    def reply(self) -> Reply:
        """Return the answer. Raises ProviderFailed when the last line never came."""
        if not self.done:
            raise failures.malformed(self._target.provider, "the stream ended before the answer did")
        _check_whole(self._last, self._call, self._target)
        return _reply({"content": "".join(self._texts), "tool_calls": self._tools}, self._last, self._target)


def context_size(call: Call, target: Target) -> int:
    """Return `num_ctx`: a power of two that holds prompt and answer, so that models are rarely reloaded for it."""
    most = target.context_tokens or _SMALLEST_CONTEXT
    needed = (input_bound(call) or most) + target.max_output
    return min(most, max(_SMALLEST_CONTEXT, 1 << (needed - 1).bit_length()))


def _check(body: Mapping[str, Any], target: Target) -> None:
    if body.get("remote_host") or body.get("remote_model"):
        reason = "this model runs on another host: it is not local"
        raise failures.failure(target.provider, FailureKind.MISCONFIGURED, reason)
    error = body.get("error")
    if error:
        text = as_text(error) or as_text(as_dict(error).get("message"))
        raise _failed(text, target)


def _failed(text: str, target: Target) -> ProviderFailed:
    if "not found" in text:
        return failures.failure(target.provider, FailureKind.MISCONFIGURED, "the model is not installed")
    if "context" in text and ("exceed" in text or "length" in text):
        return failures.failure(target.provider, FailureKind.BAD_REQUEST, "the prompt is longer than the context")
    return failures.failure(target.provider, FailureKind.SERVER)


def _check_whole(body: Mapping[str, Any], call: Call, target: Target) -> None:
    """Refuse an answer to half a question: servers that know no `truncate` cut long prompts in silence."""
    bound, size = input_bound(call) or 0, context_size(call, target)
    read = count(body, "prompt_eval_count")
    if bound + target.max_output <= size or read is None:
        return
    if read >= size - 1 or read * _MOST_BYTES_PER_TOKEN < bound:
        raise failures.failure(target.provider, FailureKind.BAD_REQUEST, "the prompt was cut to fit the context")


def _reply(message: Mapping[str, Any], body: Mapping[str, Any], target: Target) -> Reply:
    text = as_text(message.get("content"))
    shaped: dict[str, Any] = {"role": "assistant", "content": text}
    tools = as_list(message.get("tool_calls"))
    if tools:
        shaped["tool_calls"] = [_tool_call(tool, number) for number, tool in enumerate(tools)]
    finish = "length" if body.get("done_reason") == "length" else "tool" if tools else "stop"
    return Reply(text, target.provider, answered(body, target), _usage(body), finish=finish, message=shaped)


def _usage(body: Mapping[str, Any]) -> Usage | None:
    produced = count(body, "eval_count")
    if produced is None:
        return None
    return Usage(input=count(body, "prompt_eval_count") or 0, output=produced)  # a prompt in its cache is not counted


def _tool_call(tool: Any, number: int) -> dict[str, Any]:
    function = as_dict(as_dict(tool).get("function"))
    arguments = json.dumps(function.get("arguments") or {}, ensure_ascii=False)
    named = {"name": as_text(function.get("name")), "arguments": arguments}
    return {"id": as_text(as_dict(tool).get("id")) or f"call_{number}", "type": "function", "function": named}


def _message(message: Message, target: Target) -> dict[str, Any]:
    parts = () if isinstance(message.content, str) else message.content
    text = message.content if isinstance(message.content, str) else "".join(as_text(part.get("text")) for part in parts)
    shaped: dict[str, Any] = {"role": message.role, "content": text}
    images = [_image(part, target) for part in parts if part.get("type") != "text"]
    if images:
        shaped["images"] = images
    if calls := as_list(message.extra.get("tool_calls")):
        shaped["tool_calls"] = [_sent_call(as_dict(call)) for call in calls]
    if name := as_text(message.extra.get("name")):
        shaped["tool_name"] = name
    return shaped


def _sent_call(call: Mapping[str, Any]) -> dict[str, Any]:
    function = as_dict(call.get("function"))
    arguments = parsed_json(as_text(function.get("arguments")) or "{}")
    return {"function": {"name": as_text(function.get("name")), "arguments": as_dict(arguments)}}


def _image(part: Mapping[str, Any], target: Target) -> str:
    url = as_text(as_dict(part.get("image_url")).get("url"))
    head, _, data = url.partition(";base64,")
    if part.get("type") != "image_url" or not data or not head.startswith("data:"):
        raise refused(target, "only text and images inside the request can be sent to this provider")
    return data
