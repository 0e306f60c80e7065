"""Bounds one attempt in time: a provider that hangs has failed."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from knowledge_system.domain.inference import FailureKind, ProviderFailed
from knowledge_system.inference.streams import Closing, following

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from knowledge_system.domain.inference import Call, Delta, EmbedCall, EmbedReply, Reply
    from knowledge_system.inference.candidates import Candidate


class TimeLimited:
    """Raises ProviderFailed of kind `TIMEOUT` after the candidate's timeout; streams: for each delta."""

    def __init__(self, candidate: Candidate) -> None:
        self._candidate = candidate

    async def infer(self, call: Call) -> Reply:
        """Answer in time or fail."""
        try:
            async with asyncio.timeout(self._candidate.timeout):
                return await self._candidate.port.infer(call)
        except TimeoutError as error:
            raise self._late() from error

    async def stream(self, call: Call) -> AsyncGenerator[Delta, None]:
        """Answer with no pause longer than the timeout."""
        async with Closing(self._candidate.port.stream(call)) as deltas:
            while True:
                try:
                    async with asyncio.timeout(self._candidate.timeout):
                        delta = await following(deltas)
                except TimeoutError as error:
                    raise self._late() from error
                if delta is None:
                    return
                yield delta

    async def embed(self, call: EmbedCall) -> EmbedReply:
        """Embed in time or fail."""
        try:
            async with asyncio.timeout(self._candidate.timeout):
                return await self._candidate.port.embed(call)
        except TimeoutError as error:
            raise self._late() from error

    def _late(self) -> ProviderFailed:
        candidate = self._candidate
        return ProviderFailed(
            f"{candidate.name} gave no answer in {candidate.timeout:g} s",
            kind=FailureKind.TIMEOUT,
            provider=candidate.provider,
        )
