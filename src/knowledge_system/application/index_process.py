"""The index in a process of its own: when it is, how it equals the truth again after a restart, what is told of it."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

from knowledge_system.domain.errors import ModelUnavailable
from knowledge_system.domain.events import IndexProcessGivenUp, IndexProcessRestarted, IndexRebuilt
from knowledge_system.operations.diagnosis import Finding
from knowledge_system.storage.edge_live import EdgeOptions
from knowledge_system.storage.index_supervised import SupervisedIndex, Supervision

if TYPE_CHECKING:
    from knowledge_system.application.compose import Parts
    from knowledge_system.domain.embedding import EmbeddingSpace
    from knowledge_system.domain.index import OwnedIndex

Document = dict[str, Any]
LOCK_WITHIN = 10.0
"""Seconds to wait for the index's lock: who has the directory and not the index waits for the process of a dead service
to end."""


def is_apart(parts: Parts) -> bool:
    """Tell whether the index of this system is to live in a process of its own: by default in a resident service."""
    chosen = parts.settings.tree.vectors.process
    return chosen == "child" or (chosen == "auto" and parts.resident)


async def open_index(parts: Parts, space: EmbeddingSpace) -> OwnedIndex:
    """Open the index of a space: on the server where one is configured, in this process, or in one of its own.

    What another model of this dimension has left on the disk is removed: it would keep what is forgotten.
    """
    from knowledge_system.application import index_server
    from knowledge_system.storage.index_generations import remove_other_spaces

    if index_server.is_used(parts):
        return await index_server.open_index(parts, space)
    index_server.forget(parts.home().index, space)
    await asyncio.to_thread(remove_other_spaces, parts.home().index, space)
    options = EdgeOptions(lock_within=LOCK_WITHIN)
    if not is_apart(parts):
        from knowledge_system.storage.edge import EdgeIndex

        return await EdgeIndex.open(parts.home().index, space, options)
    await parts.truth()  # closed after the index: a recovery reads it
    recover = _recover if space == parts.model().space else _recover_larger
    supervision = Supervision(
        restarted=lambda reason: parts.emit(IndexProcessRestarted(reason)),
        given_up=lambda reason: parts.emit(IndexProcessGivenUp(reason)),
        recover=lambda index: recover(parts, index),
    )
    index = await SupervisedIndex.open(parts.home().index, space, options, supervision)
    parts.processes.append(index)
    return index


async def _recover(parts: Parts, index: OwnedIndex) -> None:
    """Make the first index equal to the truth: rebuilt when it is broken, else compared, and led on by the outbox."""
    await parts.repaired(index)
    indexer = await parts.indexer()
    # What is written between the two readings of a comparison looks like a difference, but not twice.
    if any(await indexer.compare()) and any(await indexer.compare()):
        await indexer.reconcile()
    with contextlib.suppress(ModelUnavailable):
        await indexer.catch_up()


async def _recover_larger(parts: Parts, index: OwnedIndex) -> None:
    """Make the index of the larger space equal to the truth; no model is called."""
    second = await parts.second()
    status = await index.status()
    if not status.healthy:
        parts.emit(IndexRebuilt(status.detail, (await second.rebuild()).points))
    await second.reconcile()
    with contextlib.suppress(ModelUnavailable):
        await (await parts.indexer()).catch_up()


def documents(parts: Parts) -> list[Document]:
    """Return `index_process`: space, state, pid, restarts, memory and last trouble of each process; cheap.

    Empty where the index lives in this process, or nothing has needed it yet.
    """
    return parts.index_processes()


def holders(parts: Parts) -> Document:
    """Return what holds the indexes, as `status` tells it: `index_process`, and `index_server` where one is used."""
    from knowledge_system.application import index_server

    servers = index_server.documents(parts)
    return {"index_process": documents(parts), **({"index_server": servers} if servers else {})}


def findings(parts: Parts) -> list[Finding]:
    """Return how the processes are, for `doctor`."""
    return [_finding(one) for one in documents(parts)]


def _finding(one: Document) -> Finding:
    if one["state"] == "down":
        return Finding("index_process", "error", one["reason"], "run `knowledge index rebuild`", 5)
    memory = "" if one["rss_bytes"] is None else f", {one['rss_bytes'] // 1_000_000} MB"
    facts = f"{one['space']}: process {one['pid']} is {one['state']}{memory}"
    if not one["restarts"] and one["state"] == "up":
        return Finding("index_process", "ok", facts)
    told = f"{facts}, started again {one['restarts']} times; the last trouble: {one['reason']}"
    return Finding("index_process", "warning", told, "nothing is lost; a crash that repeats is worth a report")
