"""Streams that are closed as soon as nobody reads them: closing one cancels the request behind it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from knowledge_system.domain.inference import Delta


class Closing:
    """`async with Closing(stream) as deltas`: closes it at the end, if it can be closed."""

    __slots__ = ("_stream",)

    def __init__(self, stream: AsyncIterator[Delta]) -> None:
        self._stream = stream

    async def __aenter__(self) -> AsyncIterator[Delta]:
        return self._stream

    async def __aexit__(self, *_: object) -> None:
        await close(self._stream)


async def close(stream: AsyncIterator[Delta]) -> None:
    """Close `stream`, if it can be closed."""
    closer = getattr(stream, "aclose", None)
    if closer is not None:
        await closer()


async def following(stream: AsyncIterator[Delta]) -> Delta | None:
    """Return the next delta, None at the end."""
    return await anext(stream, None)
