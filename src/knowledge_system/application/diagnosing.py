"""`knowledge doctor latency|memory|locks|index`: measured where it matters, in the process that owns the directory."""

from __future__ import annotations

import asyncio
import math
import sqlite3
import time
from array import array
from dataclasses import asdict
from random import Random
from typing import TYPE_CHECKING, Any

from knowledge_system.application import index_server
from knowledge_system.domain.errors import KnowledgeError, UsageError
from knowledge_system.domain.index import IndexQuery
from knowledge_system.operations import latency as rows
from knowledge_system.operations import locks as lock_rows
from knowledge_system.operations.diagnosis import index_document

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from pathlib import Path

    from knowledge_system.application.compose import Parts
    from knowledge_system.application.system import KnowledgeSystem

Document = dict[str, Any]
TIMES = 5
SLOWEST = 5
_TEXT = (
    "The checkout test number {number} fails in CI because the repository opens a session and never closes it when an "
    "order is missing, so every lookup leaks a pooled connection; the query was wrapped in a block that returns it."
)
"""A text as long as a usual passage; the number makes each one new to every cache."""
_REBUILD = "run `knowledge index rebuild`: everything in it comes from the database"
_READ_WITHIN, _LOCK_WITHIN, _CHECKPOINT_WITHIN = 5.0, 0.5, 1.0


async def diagnosed(system: KnowledgeSystem, what: str) -> Document:
    """Return one of `WHAT`: of the running service where there is one, else of what this process opens for it."""
    from knowledge_system.application.served import ServedSystem

    if not isinstance(system, ServedSystem):
        return await diagnose(system.parts, what)
    if what == "locks":
        return await locks(system.parts, lambda: system.diagnose("transactions"))
    return await system.diagnose(what)


async def diagnose(parts: Parts, what: str) -> Document:
    """Return one of `WHAT` for the process that runs this. Raises UsageError for anything else."""
    if what not in WHAT:
        raise UsageError(f"{what!r} cannot be diagnosed", hint=f"one of: {', '.join(WHAT)}")
    return await WHAT[what](parts)


async def latency(parts: Parts) -> Document:
    """Measure embedding, search, inference and the machine; say which is slow, why, and what helps (R313)."""
    found = [
        await _embedding(parts),
        await _searching(parts),
        await _inference(parts),
        rows.machine_row(await asyncio.to_thread(rows.look, parts.home().path)),
    ]
    return {"rows": [one.document() for one in found], "slowest": _slowest(parts), "exit_code": 0}


async def _embedding(parts: Parts) -> rows.Row:
    model, taken, loaded, problem = parts.model(), list[float](), 0.0, ""
    try:
        began = time.perf_counter()
        await model.load()
        loaded = time.perf_counter() - began
        for number in range(TIMES):
            began = time.perf_counter()
            await model.embed([_TEXT.format(number=f"{number}-{began}")])
            taken.append(time.perf_counter() - began)
    except KnowledgeError as error:
        problem = error.message
    return rows.embedding_row(taken, loaded, _durations(parts, "generate-embedding"), problem)


async def _searching(parts: Parts) -> rows.Row:
    taken, facts, problem = list[float](), Document(), ""
    try:
        index = await parts.index()
        status = await index.status()
        facts = {name: getattr(status, name) for name in ("points", "vectors", "indexed_vectors")}
        numbers = Random(0)  # noqa: S311 -- directions to search in, no secrets
        for _ in range(TIMES):
            drawn = [numbers.gauss() for _ in range(status.space.dimension)]
            length = math.hypot(*drawn)
            query = IndexQuery(limit=50, vector=array("f", [one / length for one in drawn]))
            began = time.perf_counter()
            await index.query([query])
            taken.append(time.perf_counter() - began)
    except KnowledgeError as error:
        problem = error.message
    return rows.search_row(taken, facts, _durations(parts, "vector-search"), problem)


async def _inference(parts: Parts) -> rows.Row:
    from knowledge_system.application.engine import provider_status

    status = await provider_status(parts)
    return rows.inference_row(status["providers"], _durations(parts, "model-call"))


def _durations(parts: Parts, name: str) -> Sequence[float]:
    """Return how long a step took in the requests of this process; none outside a service."""
    return [] if parts.telemetry is None else parts.telemetry.store.durations(name)


def _slowest(parts: Parts) -> list[Document]:
    """Return the slowest requests of this process with their longest steps."""
    if parts.telemetry is None:
        return []
    return [
        {
            "trace": trace.id,
            "operation": trace.operation,
            "ms": round(1000 * trace.seconds, 1),
            "steps": {
                span.name: round(1000 * span.seconds, 1)
                for span in sorted(trace.spans[1:], key=lambda one: -one.seconds)[:3]
            },
        }
        for trace in parts.telemetry.store.slowest()[:SLOWEST]
    ]


async def memory(parts: Parts) -> Document:
    """Return what this process has in memory, how that moved, and what to make of it (R320, R321)."""
    return await parts.memory().document()


async def transactions(parts: Parts) -> Document:
    """Return the open transactions of this process."""
    return {"transactions": (await parts.database()).connections.transactions.now()}


async def locks(parts: Parts, ask: Callable[[], Awaitable[Document]] | None = None) -> Document:
    """Return who locks the database and whether its log can be emptied (R331); `ask` asks the running service.

    Looks at the files and locks from outside, so it answers although the service does not.
    """
    connections = (await parts.database()).connections
    ours, trouble = await _transactions(parts, ask)
    document: Document = {
        "engine": "sqlite" if connections.sqlite else "postgresql",
        "in_use_by": parts.home().holder(),
        "service": trouble,
        "transactions": ours,
        "holders": None,
        "write_lock": None,
        "log_bytes": 0,
        "checkpoint": None,
    }
    if connections.sqlite:
        document |= await asyncio.to_thread(_file_locks, connections.place)
    found = lock_rows.findings(document)
    return {**document, "findings": found, "exit_code": max((one["exit_code"] for one in found), default=0)}


async def _transactions(
    parts: Parts, ask: Callable[[], Awaitable[Document]] | None
) -> tuple[list[Document] | None, str]:
    try:
        return (await (transactions(parts) if ask is None else ask()))["transactions"], ""
    except KnowledgeError as error:
        return None, error.message


def _file_locks(place: str) -> Document:
    """Return holders, state of the write lock, size of the log, and what a checkpoint says."""
    from knowledge_system.storage import probing

    held = probing.lock_holders(place)
    left = probing.log_bytes(place)
    try:
        probed = probing.probe(place, _READ_WITHIN, _LOCK_WITHIN)
        done = probing.checkpoint(place, _CHECKPOINT_WITHIN)
    except sqlite3.Error as error:
        return {
            "holders": None if held is None else [asdict(one) for one in held],
            "write_lock": "held",
            "log_bytes": left,
            "problem": f"{type(error).__name__}: {error}",
        }
    words = lock_rows.meaning(done.busy, done.log_pages, done.moved_pages)
    return {
        "holders": None if held is None else [asdict(one) for one in held],
        "write_lock": "free" if probed.write_lock is not None else "held",
        "read_ms": round(1000 * probed.seconds, 3),
        "log_bytes": left,
        "checkpoint": {**asdict(done), "seconds": round(done.seconds, 4), "meaning": words},
    }


async def index(parts: Parts) -> Document:
    """Return the processes or servers, collections and segments of the index, and its last troubles (R330)."""
    collections, problems = [], list[str]()
    try:
        status = await (await parts.index()).status()
        document = index_document(status)
        segments = await asyncio.to_thread(_segments, parts.home().index)
        collections.append({**document, "name": f"knowledge_{status.space.dimension}"})
        problems += [status.detail] if status.detail else []
    except KnowledgeError as error:
        segments = await asyncio.to_thread(_segments, parts.home().index)
        problems.append(error.message)
    processes, servers = parts.index_processes(), await index_server.told(parts)
    problems += [f"process {one['pid']}: {one['reason']}" for one in processes if one["reason"]]
    problems += [problem for one in servers if (problem := one["reason"] or one["facts"].get("error", ""))]
    away = index_server.is_away(parts)
    sound = bool(collections) and collections[0]["healthy"] and all(one["state"] != "down" for one in processes)
    return {
        "backend": parts.settings.tree.vectors.backend,
        "apart": bool(processes),
        "processes": processes,
        "servers": servers,
        "collections": collections,
        "files": segments,
        "outbox": await (await parts.truth()).outbox.depth(),
        "problems": list(dict.fromkeys(problems)),
        "advice": index_server.AWAY if away else "" if sound else _REBUILD,
        "exit_code": 0 if sound else 5,
    }


def _segments(directory: Path) -> list[Document]:
    """Return the collections on the disk with their segments."""
    found = []
    for place in sorted(one for one in directory.glob("knowledge_*") if one.is_dir()):
        segments = [one for one in place.glob("g*/shard/segments/*") if one.is_dir()]
        generations = sorted({one.parts[-4] for one in segments})
        found.append({"collection": place.name, "generations": generations, "segments": len(segments)})
    return found


WHAT: dict[str, Callable[[Parts], Awaitable[Document]]] = {
    "latency": latency,
    "memory": memory,
    "locks": locks,
    "transactions": transactions,
    "index": index,
}
