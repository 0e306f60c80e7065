"""What a request may take: bytes and seconds for its body, seconds until its answer begins."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Final

from starlette.exceptions import HTTPException

from knowledge_system.interfaces.http.problems import plain

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

MAX_BODY: Final = 10 * 1024 * 1024
"""Bytes of a request body."""
_DRAINED: Final = 4 * MAX_BODY
"""Bytes that are read and thrown away so that a client in the middle of sending still hears why it is refused."""
_DRAINED_WITHIN: Final = 5.0
"""Seconds that this may take."""
_SILENT: Final = 1.0
"""Seconds without a byte after which nobody is taken to be sending any more."""
TOO_LARGE, TIMED_OUT, TOO_LATE = 413, 408, 504
CROWDED: Final = "crowded"
"""In the state of a request: it came on one connection more than there may be."""


async def bounded(app: ASGIApp, scope: Scope, receive: Receive, send: Send, seconds: float) -> None:
    """Run `app`; a request whose answer has not begun within `seconds` is cancelled and answered with 504."""
    begun = False
    timer = asyncio.timeout(seconds)

    async def sending(message: Message) -> None:
        nonlocal begun
        if not begun:
            begun = True
            timer.reschedule(None)
        await send(message)

    try:
        async with timer:
            await app(scope, receive, sending)
    except TimeoutError:
        if begun or not timer.expired():
            raise
        detail = f"no answer within {seconds:g} s"
        await plain(scope["path"], TOO_LATE, detail, {"connection": "close"})(scope, receive, send)


def without_body(send: Send) -> Send:
    """Return `send` that leaves out the body of an answer: what HEAD asks for."""

    async def sending(message: Message) -> None:
        if message["type"] == "http.response.body":
            message = {**message, "body": b""}
        await send(message)

    return sending


def limited(receive: Receive, most: int, seconds: float, told: Callable[[str], object]) -> Receive:
    """Return `receive` that ends a body where it grows too large, or takes longer than `seconds`; `told` why."""
    size, whole = 0, False
    ends = asyncio.get_running_loop().time() + seconds

    async def receiving() -> Message:
        nonlocal size, whole
        if whole:
            return await receive()
        try:
            async with asyncio.timeout_at(ends):
                message = await receive()
        except TimeoutError:
            told("timeout")
            raise HTTPException(
                TIMED_OUT, f"the body took longer than {seconds:g} s", {"connection": "close"}
            ) from None
        whole = not message.get("more_body", False)
        size += len(message.get("body", b""))
        if size > most:
            told("too-large")
            if not whole:
                await drain(receive)
            raise HTTPException(TOO_LARGE, f"the body is larger than {most} bytes", {"connection": "close"})
        return message

    return receiving


def lingering(receive: Receive, send: Send) -> Send:
    """Return `send` that reads what is still coming before it ends an answer: closed at once, nobody would hear it."""

    async def sending(message: Message) -> None:
        if message["type"] == "http.response.body":
            await send({**message, "more_body": True})
            await drain(receive)
            message = {"type": "http.response.body", "body": b""}
        await send(message)

    return sending


async def drain(receive: Receive) -> None:
    """Read what is left of a body, and forget it, as long as it keeps coming."""
    size, more = 0, True
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_DRAINED_WITHIN):
            while more and size <= _DRAINED:
                message = await asyncio.wait_for(receive(), _SILENT)
                size += len(message.get("body", b""))
                more = message.get("more_body", False)
