"""What is told of a process that a service has started for a part of its work."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ProcessStatus:
    """How the process of an index, or of an embedding model, is.

    `state`: up, or why not: `restarting`, `rebuilding` or `down` until a rebuild is asked for (index); `idle` before
    the first text, `starting`, or `down` for a moment (model). `restarts` counts processes started in place of others;
    `reason` says why the last one ended, or what is wrong now. `rss_bytes` is its resident memory, None where the
    system does not tell.
    """

    space: str
    state: str
    pid: int | None
    restarts: int
    rss_bytes: int | None
    reason: str
