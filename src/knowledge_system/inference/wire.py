"""What the three wire formats share: a request to send, a reader of answers, and careful access to foreign JSON.

A wire format is pure translation: no connection, no clock, no retry. Whatever an answer holds, reading it ends in a
Reply, deltas, or ProviderFailed; nothing else is raised.
"""

from __future__ import annotations

import base64
import binascii
import math
import sys
from array import array
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import ROUND_CEILING, Decimal
from typing import TYPE_CHECKING, Any, Protocol

from knowledge_system.domain.inference import NANO, FailureKind
from knowledge_system.inference import failures

if TYPE_CHECKING:
    from knowledge_system.domain.embedding import Vector
    from knowledge_system.domain.inference import Call, Delta, EmbedCall, EmbedReply, ProviderFailed, Reply
    from knowledge_system.inference.prices import Price
    from knowledge_system.inference.vendors import Vendor

_MOST_TOKENS = 10**10
"""More than any request can hold: a larger figure is not usage."""

_PASSED = frozenset(
    {
        "temperature",
        "top_p",
        "top_k",
        "min_p",
        "top_a",
        "stop",
        "seed",
        "presence_penalty",
        "frequency_penalty",
        "repetition_penalty",
        "logit_bias",
        "logprobs",
        "top_logprobs",
        "tools",
        "tool_choice",
        "parallel_tool_calls",
        "response_format",
        "reasoning_effort",
        "reasoning",
        "include_reasoning",
        "reasoning_format",
        "verbosity",
        "think",
        "thinking",
        "keep_alive",
        "cache_control",
        "prompt_cache_key",
        "chat_template_kwargs",
    }
)
"""Parameters that reach a provider: none of them can raise the cost above `max_output` and the bytes sent."""

_OURS = frozenset(
    {
        "model",
        "messages",
        "input",
        "stream",
        "stream_options",
        "max_tokens",
        "max_completion_tokens",
        "max_output_tokens",
        "store",
        "user",
        "metadata",
        "safety_identifier",
        "n",
        "service_tier",
        "modalities",
    }
)
"""Parameters that are checked or left out: the engine sets them itself, or they name the user."""

_HARMLESS: dict[str, set[Any]] = {
    "n": {None, 1},
    "service_tier": {None, "auto", "default", "flex", "on_demand"},
    "modalities": {None, "text"},
}
"""Values of parameters that would multiply the price otherwise."""


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A POST: path under the base URL, and the JSON body. `root`: the path stands under the host instead."""

    path: str
    body: Mapping[str, Any]
    root: bool = False


@dataclass(frozen=True, slots=True)
class Event:
    """One event of a stream: the name it was sent under (SSE), and its data."""

    data: str
    name: str = ""


@dataclass(frozen=True, slots=True)
class Target:
    """Whom a request goes to: row, name, model, bound of the output, context in tokens where known, price."""

    vendor: Vendor
    provider: str
    model: str
    max_output: int
    context_tokens: int | None
    price: Price | None


class Reader(Protocol):
    """Collects a streamed answer."""

    done: bool
    """The stream told its end; nothing that follows matters."""

    def feed(self, event: Event) -> list[Delta]:
        """Take one event; return the pieces it carries. Raises ProviderFailed for an error in the stream."""
        ...

    def reply(self) -> Reply:
        """Return what was collected. Raises ProviderFailed when the stream ended before its answer did."""
        ...


class Wire(Protocol):
    """One wire format."""

    events: str
    """How streams are cut: `sse` or `ndjson`."""

    def headers(self, key: str | None) -> dict[str, str]:
        """Return the headers that carry the key and the protocol's version."""
        ...

    def chat(self, call: Call, target: Target, *, stream: bool) -> Outgoing:
        """Translate a call. Raises ProviderFailed (BAD_REQUEST, not started) for what the format cannot carry."""
        ...

    def reply(self, body: Mapping[str, Any], call: Call, target: Target) -> Reply:
        """Translate an answer."""
        ...

    def reader(self, call: Call, target: Target) -> Reader:
        """Return a reader for one streamed answer."""
        ...

    def embed(self, call: EmbedCall, target: Target) -> Outgoing:
        """Translate a request for vectors. Raises ProviderFailed where the format has none."""
        ...

    def vectors(self, body: Mapping[str, Any], call: EmbedCall, target: Target) -> EmbedReply:
        """Translate an answer with vectors: as many as texts, in their order, unit length."""
        ...


def parameters(call: Call, target: Target) -> dict[str, Any]:
    """Return the parameters of `call` that are passed on. Refuses any whose cost no reservation would cover."""
    passed: dict[str, Any] = {}
    for name, value in call.parameters.items():
        if name in _OURS:
            _check_harmless(name, value, target)
            if name == "service_tier" and value is not None:
                passed[name] = value
        elif name not in _PASSED:
            raise refused(target, f"the parameter {_printable(name)} is not supported: its cost is not known")
        elif value is not None:
            passed[name] = value
    for tool in as_list(passed.get("tools")):
        if as_dict(tool).get("type") != "function":
            raise refused(target, "only function tools are supported: others have a price of their own")
    if call.temperature is not None:
        passed["temperature"] = call.temperature
    if target.model.startswith(target.vendor.fixed_temperature or ("\0",)):
        passed.pop("temperature", None)
    return passed


def refused(target: Target, reason: str) -> ProviderFailed:
    """Return the error for a call that is not sent because the fault is ours."""
    return failures.failure(target.provider, FailureKind.BAD_REQUEST, reason, started=False)


def count(values: Mapping[str, Any], name: str) -> int | None:
    """Return a plausible token count, else None."""
    value = values.get(name)
    if isinstance(value, bool) or not isinstance(value, int):
        return None
    return value if 0 <= value <= _MOST_TOKENS else None


def dollars(value: Any) -> int | None:
    """Return a provider's cost in dollars as nano-dollars, rounded up; None for what is no amount of money."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value < 0:
        return None
    return int((Decimal(repr(value)) * NANO).to_integral_value(rounding=ROUND_CEILING))


def as_dict(value: Any) -> Mapping[str, Any]:
    """Return `value` when it is an object, else an empty one."""
    return value if isinstance(value, Mapping) else {}


def as_list(value: Any) -> list[Any]:
    """Return `value` when it is an array, else an empty one."""
    return value if isinstance(value, list) else list(value) if isinstance(value, tuple) else []


def as_text(value: Any) -> str:
    """Return `value` when it is a string, else an empty one."""
    return value if isinstance(value, str) else ""


def answered(body: Mapping[str, Any], target: Target) -> str:
    """Return the model that answered, as the provider says; the one asked for when it does not say."""
    return as_text(body.get("model"))[:200] or target.model


def unit_vector(value: Any) -> Vector | None:
    """Return an embedding (numbers, or base64 of little-endian float32) at unit length; None for anything else."""
    vector = _from_base64(value) if isinstance(value, str) else _from_numbers(value)
    if not vector:
        return None
    length = math.hypot(*vector)
    if not math.isfinite(length) or length == 0.0:
        return None
    near = abs(length - 1.0) < 1e-6  # noqa: PLR2004 -- float32 has about 7 digits
    return vector if near else array("f", [number / length for number in vector])


def check_vectors(vectors: list[Vector | None], call: EmbedCall, target: Target) -> tuple[Vector, ...]:
    """Return the vectors when there is one for each text and all have the dimensions asked for, else raise."""
    complete = tuple(vector for vector in vectors if vector is not None)
    sizes = {len(vector) for vector in complete}
    if len(complete) != len(call.texts) or len(vectors) != len(call.texts):
        raise failures.malformed(target.provider, "the answer does not hold one vector for each text")
    if len(sizes) > 1 or (call.dimensions is not None and sizes - {call.dimensions}):
        raise failures.malformed(target.provider, "the vectors do not have the dimensions asked for")
    return complete


def _check_harmless(name: str, value: Any, target: Target) -> None:
    values = as_list(value) if isinstance(value, list | tuple) else [value]
    known: set[Any] | None = _HARMLESS.get(name)
    if known is not None and not all(isinstance(one, str | int | None) and one in known for one in values):
        raise refused(target, f"this value of {name} is not supported: it would multiply the price")


def _printable(name: object) -> str:
    text = str(name)
    return text if text.isidentifier() and text.isascii() and len(text) <= 40 else "given"  # noqa: PLR2004 -- a name


def _from_base64(text: str) -> Vector | None:
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None
    if not raw or len(raw) % 4:
        return None
    vector = array("f", raw)
    if sys.byteorder == "big":
        vector.byteswap()
    return vector


def _from_numbers(value: Any) -> Vector | None:
    try:
        return array("f", value) if isinstance(value, list) else None
    except (TypeError, OverflowError):
        return None
