"""One span an attempt, in the terms of the OpenTelemetry conventions for generative AI. Never any content.

Attributes: `gen_ai.operation.name`, `gen_ai.provider.name`, `gen_ai.request.model`, `gen_ai.response.model`
and `gen_ai.usage.*` (tokens). https://opentelemetry.io/docs/specs/semconv/gen-ai/
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from knowledge_system.domain.tracing import detached, span
from knowledge_system.inference.streams import Closing

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from knowledge_system.domain.inference import Call, Delta, EmbedCall, EmbedReply, LanguageModel, Reply
    from knowledge_system.domain.tracing import Attribute, Step
    from knowledge_system.inference.candidates import Bill

_PROVIDERS = {"gemini": "gcp.gemini"}
"""Our name → the one the conventions have for it; the others are the same in both, or unknown to them."""


class Spanned:
    """Opens a span around an attempt; how long it waited for its breaker and its money is part of it."""

    def __init__(self, inner: LanguageModel, bill: Bill) -> None:
        self._inner = inner
        self._bill = bill

    async def infer(self, call: Call) -> Reply:
        """Answer."""
        with span(self._name("chat"), **self._facts("chat", call)) as step:
            reply = await self._inner.infer(call)
            self._told(step, reply)
            return reply

    async def stream(self, call: Call) -> AsyncGenerator[Delta, None]:
        """Stream; the span ends with the stream, however that ends."""
        step = detached(self._name("chat"), **self._facts("chat", call))
        try:
            async with Closing(self._inner.stream(call)) as deltas:
                async for delta in deltas:
                    if delta.reply is not None:
                        self._told(step, delta.reply)
                    yield delta
        except BaseException as error:
            step.end(error)
            raise
        step.end()

    async def embed(self, call: EmbedCall) -> EmbedReply:
        """Embed."""
        with span(self._name("embeddings"), **self._facts("embeddings", call)) as step:
            reply = await self._inner.embed(call)
            self._told(step, reply)
            return reply

    def _name(self, kind: str) -> str:
        return f"{kind} {self._bill.candidate.model}"

    def _facts(self, kind: str, call: Call | EmbedCall) -> dict[str, Attribute]:
        candidate = self._bill.candidate
        return {
            "gen_ai.operation.name": kind,
            "gen_ai.provider.name": _PROVIDERS.get(candidate.provider, candidate.provider),
            "gen_ai.request.model": candidate.model,
            "knowledge.operation": call.operation,
            "knowledge.sensitivity": str(call.sensitivity),
        }

    def _told(self, step: Step, reply: Reply | EmbedReply) -> None:
        usage = reply.usage
        facts: dict[str, Attribute] = {"gen_ai.response.model": reply.model}
        facts["knowledge.cost_nano"] = self._bill.cost_nano
        if usage is not None:
            facts["gen_ai.usage.input_tokens"] = usage.input + usage.cache_read + usage.cache_write
            facts["gen_ai.usage.output_tokens"] = usage.output
            facts["gen_ai.usage.cache_read.input_tokens"] = usage.cache_read
        step.set(**facts)
