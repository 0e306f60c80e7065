"""Splits a large embedding call into requests that fit: each is cached, reserved and attempted for itself."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from knowledge_system.domain.inference import EmbedReply, Usage
from knowledge_system.inference.tokens import embed_batches

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from knowledge_system.domain.inference import Call, Delta, EmbedCall, LanguageModel, Reply


class Batched:
    """Passes calls through and cuts `embed` at a number of texts and of tokens (bounded by bytes)."""

    def __init__(self, inner: LanguageModel, most_texts: int, most_tokens: int) -> None:
        self._inner = inner
        self._most_texts = most_texts
        self._most_tokens = most_tokens

    async def infer(self, call: Call) -> Reply:
        """Answer."""
        return await self._inner.infer(call)

    def stream(self, call: Call) -> AsyncIterator[Delta]:
        """Stream."""
        return self._inner.stream(call)

    async def embed(self, call: EmbedCall) -> EmbedReply:
        """Embed all texts in order. The batches go one after another: a failure stops the spending."""
        parts = embed_batches(call, most_texts=self._most_texts, most_tokens=self._most_tokens)
        if not parts:
            return EmbedReply((), call.provider or "", call.model or "", cached=True)
        first = await self._inner.embed(parts[0])
        # The rest goes to the space of the first: two models never share one answer.
        model = first.attempts[-1].model if first.attempts else call.model
        rest = [dataclasses.replace(part, provider=first.provider, model=model) for part in parts[1:]]
        return joined([first, *[await self._inner.embed(part) for part in rest]])


def joined(replies: Sequence[EmbedReply]) -> EmbedReply:
    """Return one reply for many: vectors in order, tokens, cost and attempts added up."""
    if len(replies) == 1:
        return replies[0]
    usages = [reply.usage for reply in replies if reply.usage is not None]
    return dataclasses.replace(
        replies[0],
        vectors=tuple(vector for reply in replies for vector in reply.vectors),
        usage=Usage(input=sum(usage.input for usage in usages)) if usages else None,
        cost_nano=sum(reply.cost_nano for reply in replies),
        cached=all(reply.cached for reply in replies),
        attempts=tuple(attempt for reply in replies for attempt in reply.attempts),
    )
