"""Work that ends when the client that asked for it has gone."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from starlette.types import Receive

_T = TypeVar("_T")


class ClientGone(Exception):
    """The client closed its connection: nobody reads the answer."""


async def while_connected(receive: Receive, work: Coroutine[Any, Any, _T]) -> _T:
    """Return what `work` returns. Raises ClientGone, after cancelling it, when the client closes first."""
    working = asyncio.ensure_future(work)
    leaving = asyncio.ensure_future(_left(receive))
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientGone
        return working.result()
    finally:
        for task in (working, leaving):
            task.cancel()
        await asyncio.gather(working, leaving, return_exceptions=True)


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
