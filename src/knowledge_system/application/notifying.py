"""Telling systemd how the service is: that it is ready, that its loop still turns, that it is ending (sd_notify)."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

_OFTEN = 3
"""Signs of life within the time after which systemd would restart the service."""


class Supervisor:
    """The service manager that started this process, if it wants to be told anything. Never raises."""

    def __init__(self, environ: Mapping[str, str] = os.environ) -> None:
        self._address = environ.get("NOTIFY_SOCKET", "")
        mine = environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        usec = environ.get("WATCHDOG_USEC", "")
        self._every = int(usec) / 1e6 / _OFTEN if mine and usec.isdecimal() else 0.0

    def ready(self) -> None:
        """Say that requests are answered from now on."""
        self._tell("READY=1")

    async def watch(self) -> None:
        """Give signs of life until cancelled: they stop when the event loop does. Returns at once if nobody asked."""
        while self._every and self._address:
            self._tell("WATCHDOG=1")
            await asyncio.sleep(self._every)

    def stopping(self) -> None:
        """Say that the service is ending."""
        self._tell("STOPPING=1")

    def _tell(self, message: str) -> None:
        if not self._address:
            return
        place = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end:
            end.setblocking(False)  # noqa: FBT003 -- the signature of sockets
            end.sendto(message.encode(), place)


@contextlib.asynccontextmanager
async def supervised(supervisor: Supervisor) -> AsyncIterator[None]:
    """Give signs of life during the block, and say at its end that the service is ending."""
    watching = asyncio.create_task(supervisor.watch(), name="watchdog")
    try:
        yield
    finally:
        supervisor.stopping()
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
