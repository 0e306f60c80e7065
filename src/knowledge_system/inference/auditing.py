"""Writes down every remote attempt: what left, for whom, under which level, at what cost. Never content."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from knowledge_system.domain.errors import KnowledgeError
from knowledge_system.domain.events import AuditFailed
from knowledge_system.domain.money import AuditEntry
from knowledge_system.inference.canonical import content_hash
from knowledge_system.inference.streams import Closing

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from knowledge_system.domain.clock import Clock
    from knowledge_system.domain.events import Emit
    from knowledge_system.domain.inference import Call, Delta, EmbedCall, EmbedReply, LanguageModel, Reply
    from knowledge_system.domain.money import AuditLog
    from knowledge_system.inference.candidates import Bill
    from knowledge_system.inference.finishing import Finishing

KIND = "model-call"


class Audited:
    """Records an entry after each remote attempt that was sent, however it ended; local attempts leave nothing."""

    def __init__(self, inner: LanguageModel, bill: Bill, auditor: Auditor) -> None:
        self._inner = inner
        self._bill = bill
        self._auditor = auditor

    async def infer(self, call: Call) -> Reply:
        """Answer, and record."""
        try:
            return await self._inner.infer(call)
        finally:
            await self._auditor.record(self._bill, call)

    async def stream(self, call: Call) -> AsyncGenerator[Delta, None]:
        """Stream, and record at the end or when the caller goes away."""
        try:
            async with Closing(self._inner.stream(call)) as deltas:
                async for delta in deltas:
                    yield delta
        finally:
            await self._auditor.record(self._bill, call)

    async def embed(self, call: EmbedCall) -> EmbedReply:
        """Embed, and record."""
        try:
            return await self._inner.embed(call)
        finally:
            await self._auditor.record(self._bill, call)


class Auditor:
    """Knows the log and the clock."""

    def __init__(self, audit: AuditLog, clock: Clock, emit: Emit, finishing: Finishing) -> None:
        self._audit = audit
        self._clock = clock
        self._emit = emit
        self._finishing = finishing

    async def record(self, bill: Bill, call: Call | EmbedCall) -> None:
        """Append the entry of an attempt. A log that fails is reported; the answer is paid for and is kept."""
        if bill.candidate.local or not bill.sent:
            return
        entry = AuditEntry(
            at=self._clock.now(),
            kind=KIND,
            operation=call.operation,
            provider=bill.candidate.provider,
            model=bill.candidate.model,
            content_hash=content_hash(call),
            sensitivity=call.sensitivity,
            layer=call.layer,
            project=call.project,
            cost_nano=bill.cost_nano,
            outcome=bill.outcome,
        )
        await self._finishing.finish(self._append(entry))

    async def _append(self, entry: AuditEntry) -> None:
        for last in (False, True):
            try:
                await self._audit.record(entry)
            except KnowledgeError as error:
                if last:
                    self._emit(AuditFailed(entry.provider, entry.content_hash, error.message))
                await asyncio.sleep(0)
            else:
                return
