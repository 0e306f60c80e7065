"""Measuring capture: transcripts on disk against the truth, the spool, the backlog, the log of hooks."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from knowledge_system.application.residence import watched_folders
from knowledge_system.domain.clock import to_public
from knowledge_system.domain.events import CaptureMeasured
from knowledge_system.domain.sessions import SkippedFile
from knowledge_system.operations.capture import (
    UNLEARNED,
    CaptureState,
    FileState,
    capture_document,
    longest_wait,
    newest_lines,
)
from knowledge_system.storage.spool import depth_of

if TYPE_CHECKING:
    from pathlib import Path

    from knowledge_system.application.compose import Parts
    from knowledge_system.domain.sessions import SourceState, TranscriptReader

Document = dict[str, Any]
REPORT = "capture.json"
"""File in the home with the last measurement of a running service."""
MOST_COUNTED = 200
"""Changed transcripts that are read to count what is missing; the rest is expected to hold one more each."""


async def measure(parts: Parts) -> Document:
    """Compare what is on disk with what was captured, keep the result for `status`, and announce it."""
    state = await _measured(parts)
    document = capture_document(state, to_public(state.measured_at))
    path = parts.home().path / REPORT
    await asyncio.to_thread(_write, path, document)
    parts.emit(
        CaptureMeasured(state.expected, state.captured, len(state.behind), state.spool_waiting, len(document["alarms"]))
    )
    return document


async def last_measured(parts: Parts) -> Document:
    """Return the last measurement with the spool and the log of hooks as they are now; empty parts before the first."""
    fresh = await _now(parts)
    kept = _kept(parts)
    if kept is None:
        return capture_document(fresh, to_public(fresh.measured_at))
    now = capture_document(fresh, to_public(fresh.measured_at))
    over = {"notices"} if await (await parts.truth()).exchanges.unlearned(1) else {"notices", UNLEARNED}
    standing = (one for one in kept["alarms"] if not any(words in one for words in over))
    alarms = list(dict.fromkeys([*now["alarms"], *standing]))
    return {**kept, "spool": now["spool"], "hook_errors": now["hook_errors"], "alarms": alarms}


def _kept(parts: Parts) -> Document | None:
    """Return the last measurement, None before the first."""
    try:
        kept: Document = json.loads((parts.home().path / REPORT).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return kept


async def _measured(parts: Parts) -> CaptureState:
    truth = await parts.truth()
    state = await _now(parts)
    files = await _files(parts)
    waiting = await truth.exchanges.unlearned(1)
    totals = await truth.ledger.totals()
    now = parts.clock.now()
    said = (now - waiting[0].timestamp).total_seconds() if waiting and waiting[0].timestamp else 0.0
    age = min(said, longest_wait(_kept(parts), now))
    return replace(
        state,
        files=len(files),
        expected=sum(one.expected for one in files),
        captured=sum(one.captured for one in files),
        behind=tuple(sorted((one for one in files if one.expected > one.captured), key=lambda one: -one.waiting)),
        unlearned=totals.unlearned,
        unlearned_age=max(0.0, age),
        judged=totals.exchanges - totals.unlearned,
        items=sum(totals.items.values()),
    )


async def _now(parts: Parts) -> CaptureState:
    """Return what costs next to nothing to look at."""
    home, now = parts.home().path, parts.clock.now()
    depth = await depth_of(home / "spool")
    age = (now - depth.oldest_at).total_seconds() if depth.oldest_at else 0.0
    lines: list[str] = []
    with suppress(OSError):
        lines = (home / "hooks.log").read_text(encoding="utf-8", errors="replace").splitlines()
    return CaptureState(
        measured_at=now,
        spool_waiting=depth.waiting,
        spool_age=max(0.0, age),
        spool_refused=depth.refused,
        hook_errors=newest_lines(lines),
    )


async def _files(parts: Parts) -> list[FileState]:
    truth, reader = await parts.truth(), parts.reader()
    folders = [folder for folder in watched_folders(parts) if folder.is_dir()]
    found = await asyncio.to_thread(lambda: list(reader.discover(folders)))
    states, counted = [], 0
    for path in found:
        if isinstance(path, SkippedFile):
            continue
        try:
            stat = path.stat()
        except OSError:
            continue
        known = await truth.ingest.source(str(path))
        if known is not None and (known.size, known.modified_ns) == (stat.st_size, stat.st_mtime_ns):
            states.append(FileState(str(path), known.exchanges, known.exchanges, 0.0))
            continue
        captured = known.exchanges if known else 0
        expected = await _counted(reader, path, known) if counted < MOST_COUNTED else captured + 1
        counted += 1
        if expected:
            waiting = parts.clock.now().timestamp() - stat.st_mtime
            states.append(FileState(str(path), max(expected, captured), captured, max(0.0, waiting)))
    return states


async def _counted(reader: TranscriptReader, path: Path, known: SourceState | None) -> int:
    """Return how many exchanges a transcript holds by now; 0 for a file that is none."""
    total = known.exchanges if known else 0
    async for batch in reader.read(path, known):
        if not isinstance(batch, SkippedFile):
            total = max(total, batch.state.exchanges)
    return total


def _write(path: Path, document: Document) -> None:
    part = path.with_name(f".{path.name}.part")
    part.write_text(json.dumps(document), encoding="utf-8")
    part.chmod(0o600)
    part.replace(path)
