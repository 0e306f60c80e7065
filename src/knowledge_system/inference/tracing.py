"""The outermost wrapper: one event for every logical call, however it ends. It sees no content."""

from __future__ import annotations

import asyncio
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from knowledge_system.domain.errors import KnowledgeError
from knowledge_system.domain.events import ModelCalled
from knowledge_system.domain.inference import NoProvider
from knowledge_system.domain.tracing import span as step
from knowledge_system.inference.streams import Closing

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterator

    from knowledge_system.domain.events import Emit
    from knowledge_system.domain.inference import Call, Delta, EmbedCall, EmbedReply, LanguageModel, Reply


class Traced:
    """Announces `ModelCalled` with outcome, cost and duration."""

    def __init__(self, inner: LanguageModel, emit: Emit, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._inner = inner
        self._emit = emit
        self._monotonic = monotonic

    async def infer(self, call: Call) -> Reply:
        """Answer, and announce."""
        with step("model-call", operation=call.operation), self._span(call) as span:
            span.reply = await self._inner.infer(call)
            return span.reply

    async def stream(self, call: Call) -> AsyncGenerator[Delta, None]:
        """Stream, and announce at the end or when the caller goes away."""
        with self._span(call) as span:
            async with Closing(self._inner.stream(call)) as deltas:
                async for delta in deltas:
                    span.reply = delta.reply or span.reply
                    yield delta

    async def embed(self, call: EmbedCall) -> EmbedReply:
        """Embed, and announce."""
        with step("model-call", operation=call.operation), self._span(call) as span:
            span.reply = await self._inner.embed(call)
            return span.reply

    @contextmanager
    def _span(self, call: Call | EmbedCall) -> Iterator[Span]:
        span = Span()
        begun = self._monotonic()
        try:
            yield span
            span.outcome = "answered"
        except (asyncio.CancelledError, GeneratorExit):
            span.outcome = "answered" if span.reply is not None else "cancelled"
            raise
        except KnowledgeError as error:
            span.outcome, span.requests = error.code, error.requests if isinstance(error, NoProvider) else 0
            raise
        finally:
            self._emit(span.event(call, self._monotonic() - begun))


class Span:
    """What is known of one call so far."""

    __slots__ = ("outcome", "reply", "requests")

    def __init__(self) -> None:
        self.outcome = "crashed"
        self.requests = 0
        self.reply: Reply | EmbedReply | None = None

    def event(self, call: Call | EmbedCall, seconds: float) -> ModelCalled:
        """Return the event."""
        reply = self.reply
        return ModelCalled(
            operation=call.operation,
            provider=reply.provider if reply else call.provider or "",
            model=reply.model if reply else call.model or "",
            outcome=self.outcome,
            seconds=seconds,
            cost_nano=reply.cost_nano if reply else 0,
            cached=reply is not None and reply.cached,
            requests=len(reply.attempts) if reply else self.requests,
            sensitivity=str(call.sensitivity),
            project=call.project,
        )
