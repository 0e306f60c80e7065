"""Says of every remote attempt what left, for whom, under which level. Never content.

The entry is written with the money's reservation, in one step before the first byte leaves, and completed with its
settlement: no call can leave without one, whoever dies when. An attempt that cannot be entered is not made.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from knowledge_system.domain.money import AuditEntry
from knowledge_system.inference.canonical import content_hash

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from knowledge_system.domain.clock import Clock
    from knowledge_system.domain.inference import Call, Delta, EmbedCall, EmbedReply, LanguageModel, Reply
    from knowledge_system.inference.candidates import Bill

KIND = "model-call"


class Audited:
    """Puts the entry of a remote attempt on its bill; local attempts leave nothing."""

    def __init__(self, inner: LanguageModel, bill: Bill, clock: Clock) -> None:
        self._inner = inner
        self._bill = bill
        self._clock = clock

    async def infer(self, call: Call) -> Reply:
        """Answer."""
        self._prepare(call)
        return await self._inner.infer(call)

    def stream(self, call: Call) -> AsyncIterator[Delta]:
        """Stream."""
        self._prepare(call)
        return self._inner.stream(call)

    async def embed(self, call: EmbedCall) -> EmbedReply:
        """Embed."""
        self._prepare(call)
        return await self._inner.embed(call)

    def _prepare(self, call: Call | EmbedCall) -> None:
        candidate = self._bill.candidate
        if candidate.local:
            return
        self._bill.entry = AuditEntry(
            at=self._clock.now(),
            kind=KIND,
            operation=call.operation,
            provider=candidate.provider,
            model=candidate.model,
            content_hash=content_hash(call),
            sensitivity=call.sensitivity,
            layer=call.layer,
            project=call.project,
        )
