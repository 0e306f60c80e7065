"""What makes a process the resident service of a data directory, put together from its settings."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import json
import os
import sys
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from knowledge_system.application.heap import give_back
from knowledge_system.application.resident import Resident, ResidentOptions
from knowledge_system.application.upkeep import Job
from knowledge_system.domain.capture import by_itself
from knowledge_system.storage.spool import DirectorySpool

if TYPE_CHECKING:
    from knowledge_system.application.compose import Parts
    from knowledge_system.application.system import KnowledgeSystem

CONNECTIONS = "connections.json"
"""File in the home in which `connect` notes which agents are connected and where their transcripts are."""


def give_way() -> None:
    """Let this process, and all that it starts from now on, interrupt nobody when they wake up (Linux, SCHED_BATCH).

    Where a processor is free it is theirs as before. The processes of a service interrupt each other no longer either,
    in the middle of what they have just brought into its caches.
    """
    if sys.platform == "linux":
        with contextlib.suppress(OSError):  # a sandbox may forbid it, and has an opinion of its own then
            if os.sched_getscheduler(0) == os.SCHED_OTHER:
                os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))


def watched_folders(parts: Parts) -> list[Path]:
    """Return the folders to follow: the configured ones and those of connected agents, existing or not."""
    configured = [Path(one).expanduser() for one in parts.settings.tree.capture.folders]
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        noted = json.loads((parts.home().path / CONNECTIONS).read_text(encoding="utf-8"))
        configured += [Path(folder) for one in noted["connections"] for folder in one["transcripts"]]
    return list(dict.fromkeys(configured))


def make_resident(system: KnowledgeSystem) -> Resident:
    """Return the resident service over an open system."""
    parts = system.parts
    chosen = parts.settings.tree.capture
    folders = [folder.resolve() for folder in watched_folders(parts)]
    options = ResidentOptions(
        spool=parts.home().spool,
        folders=lambda: watched_folders(parts),
        roots=(Path.home().resolve(), *folders),
        debounce=chosen.debounce / 1000,
        rescan=chosen.rescan / 1000,
    )
    return Resident(system, DirectorySpool(parts.home().spool), options, parts.emit)


def capture_job(parts: Parts) -> Job:
    """Return the regular comparison of transcripts on disk with what was captured."""
    from knowledge_system.application.capturing import measure

    return Job("measure-capture", timedelta(minutes=5), lambda: measure(parts), timedelta(seconds=30))


def memory_return_job() -> Job:
    """Return the regular return of freed memory: without it a service that is never idle grows by what lies between."""
    return Job("return-memory", timedelta(minutes=1), give_back)


def reside(system: KnowledgeSystem) -> None:
    """Start the resident service beside everything else; it is ended when the system is closed."""
    context = contextvars.copy_context()
    context.run(lambda: by_itself.set(True))
    task = asyncio.get_running_loop().create_task(make_resident(system).run(), name="resident", context=context)

    async def end() -> None:
        task.cancel()
        await asyncio.wait([task])

    system.parts.before_close(end)
