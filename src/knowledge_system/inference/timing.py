"""Bounds one attempt in time: a provider that hangs has failed."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, TypeVar

from knowledge_system.domain.inference import FailureKind, ProviderFailed
from knowledge_system.inference.streams import Closing, following

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable

    from knowledge_system.domain.inference import Call, Delta, EmbedCall, EmbedReply, Reply
    from knowledge_system.inference.candidates import Candidate

_T = TypeVar("_T")


class TimeLimited:
    """Raises ProviderFailed of kind `TIMEOUT` after the candidate's timeout; streams: for each delta.

    The error is chained to nothing: the one it replaces holds the frames of the request, and with them the prompt.
    """

    def __init__(self, candidate: Candidate) -> None:
        self._candidate = candidate

    async def infer(self, call: Call) -> Reply:
        """Answer in time or fail."""
        return await self._in_time(self._candidate.port.infer(call))

    async def stream(self, call: Call) -> AsyncGenerator[Delta, None]:
        """Answer with no pause longer than the timeout."""
        async with Closing(self._candidate.port.stream(call)) as deltas:
            while (delta := await self._in_time(following(deltas))) is not None:
                yield delta

    async def embed(self, call: EmbedCall) -> EmbedReply:
        """Embed in time or fail."""
        return await self._in_time(self._candidate.port.embed(call))

    async def _in_time(self, work: Awaitable[_T]) -> _T:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._candidate.timeout):
                return await work
        candidate = self._candidate
        raise ProviderFailed(
            f"{candidate.name} gave no answer in {candidate.timeout:g} s",
            kind=FailureKind.TIMEOUT,
            provider=candidate.provider,
        )
