"""What systemd is told, over a real socket."""

from __future__ import annotations

import asyncio
import os
import socket
from pathlib import Path

from knowledge_system.application.notifying import Supervisor, supervised


async def test_ready_alive_and_stopping_are_told(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.setblocking(False)  # noqa: FBT003 -- the signature of sockets
        loop = asyncio.get_running_loop()
        variables = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "30000"}
        supervisor = Supervisor(variables)
        async with supervised(supervisor):
            supervisor.ready()
            heard = [await loop.sock_recv(manager, 100) for _ in range(4)]
        assert b"READY=1" in heard
        assert heard.count(b"WATCHDOG=1") >= 2
        while heard[-1] != b"STOPPING=1":
            heard.append(await loop.sock_recv(manager, 100))


async def test_nobody_is_told_when_nobody_listens_or_asked(tmp_path: Path) -> None:
    for variables in (
        {},
        {"NOTIFY_SOCKET": str(tmp_path / "missing"), "WATCHDOG_USEC": "soon"},
        {"NOTIFY_SOCKET": "@nobody", "WATCHDOG_USEC": "1000", "WATCHDOG_PID": str(os.getppid())},
    ):
        supervisor = Supervisor(variables)
        async with supervised(supervisor):
            supervisor.ready()
        await asyncio.wait_for(supervisor.watch(), 10)
