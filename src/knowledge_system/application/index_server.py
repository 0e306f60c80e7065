"""The index on a Qdrant server: how it is opened, equals the truth again after an outage, and what is told of it."""

from __future__ import annotations

import asyncio
import contextlib
import os
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any, Final

from knowledge_system.domain.errors import DependencyUnavailable, ModelUnavailable
from knowledge_system.domain.events import IndexRebuilt, IndexServerBack, IndexServerLost
from knowledge_system.operations.diagnosis import Finding

if TYPE_CHECKING:
    from pathlib import Path

    from knowledge_system.application.compose import Parts
    from knowledge_system.domain.embedding import EmbeddingSpace
    from knowledge_system.storage.index_server import ServerIndex

Document = dict[str, Any]
KEY: Final = "QDRANT_API_KEY"
WITHIN: Final = 4.0
"""Seconds that the server has for one request."""
FIRST_WITHIN: Final = 2.0
"""Seconds that it has for the first requests of a command: who waits knows within five what is wrong."""
LOGS: Final = (
    "its log is on its own machine: `docker compose logs qdrant` for the container, `journalctl -u qdrant` for a unit"
)
AWAY: Final = f"start the server, or correct vectors.url and {KEY}; what is stored waits for it"
_OTHER_SERVER: Final = "the index on this server was not followed while another one was in use"


def is_used(parts: Parts) -> bool:
    """Tell whether the index of this system is on a server."""
    return parts.settings.tree.vectors.backend == "qdrant"


async def open_index(parts: Parts, space: EmbeddingSpace) -> ServerIndex:
    """Open the index of a space on the server; a server that is away does not keep this process from going on.

    A resident service looks after it. Raises UsageError for a key that no header may carry.
    """
    from knowledge_system.storage.index_generations import remove_all
    from knowledge_system.storage.index_server import Care, ServerIndex
    from knowledge_system.storage.qdrant_server import QdrantIndex, QdrantOptions

    url = parts.settings.tree.vectors.url or ""
    options = QdrantOptions(url, _key(), within=WITHIN)
    await parts.truth()  # closed after the index: a recovery reads it
    directory = parts.home().index
    # Nobody follows the embedded index any more: it would keep what is forgotten.
    await asyncio.to_thread(remove_all, directory)

    async def connect() -> QdrantIndex:
        if not parts.resident:
            await (await QdrantIndex.open(space, replace(options, within=FIRST_WITHIN))).close()
        return await QdrantIndex.open(space, options)

    care = Care(
        recover=(lambda index: _recover(parts, space, index)) if parts.resident else None,
        distrust="" if _followed(directory, space) == url else _OTHER_SERVER,
        followed=lambda: _follow(directory, space, url),
        lost=lambda reason: parts.emit(IndexServerLost(space.key, reason)),
        back=lambda seconds: parts.emit(IndexServerBack(space.key, seconds)),
    )
    index = await ServerIndex.open(space, url, connect, care)
    parts.servers.append(index)
    return index


def _key() -> str | None:
    from knowledge_system.inference.vendors import read_key

    return read_key(KEY, os.environ)


def _place(directory: Path, space: EmbeddingSpace) -> Path:
    return directory / f"{space.collection}.server"


def _followed(directory: Path, space: EmbeddingSpace) -> str:
    """Return the address of the server whose index of `space` followed the truth last; empty when none did."""
    with contextlib.suppress(OSError, ValueError):
        url, _, key = _place(directory, space).read_text("utf-8").partition("\n")
        return url if key == space.key else ""
    return ""


def _follow(directory: Path, space: EmbeddingSpace, url: str) -> None:
    """Note that the index of `space` at `url` follows the truth from now on; without the note it is rebuilt again."""
    with contextlib.suppress(OSError):
        _place(directory, space).write_text(f"{url}\n{space.key}", "utf-8")


def forget(directory: Path, space: EmbeddingSpace) -> None:
    """Note that no server's index of `space` follows the truth: the embedded one is in use."""
    from knowledge_system.storage.index_files import usable

    with usable(_place(directory, space)):
        _place(directory, space).unlink(missing_ok=True)


async def _recover(parts: Parts, space: EmbeddingSpace, index: ServerIndex) -> None:
    """Make the index equal to the truth after a connection: nobody knows what the server lost meanwhile."""
    if space == parts.model().space:
        await parts.repaired(index)
        indexer = await parts.indexer()
        # What is written between the two readings of a comparison looks like a difference, but not twice.
        if any(await indexer.compare()) and any(await indexer.compare()):
            await indexer.reconcile()
            while await indexer.index_words():
                pass
    else:
        second = await parts.second()
        status = await index.status()
        if not status.healthy:
            parts.emit(IndexRebuilt(status.detail, (await second.rebuild()).points))
        await second.reconcile()
    index.trust()
    with contextlib.suppress(ModelUnavailable):
        await (await parts.indexer()).catch_up()


def is_away(parts: Parts) -> bool:
    """Tell whether a server has the index and does not answer."""
    return any(not server.usable for server in parts.servers)


def documents(parts: Parts) -> list[Document]:
    """Return `index_server`: space, address, state, outages and trouble of each index on a server; cheap."""
    return [asdict(server.server()) for server in parts.servers]


async def told(parts: Parts) -> list[Document]:
    """Return the same with what each server tells of itself now: version, readiness, collections, optimiser."""
    found = []
    for server in parts.servers:
        facts = await server.telemetry()
        told = {} if facts is None else asdict(facts)
        reachable = facts is not None and bool(facts.version or facts.ready)
        found.append({**asdict(server.server()), "reachable": reachable, "facts": told, "logs": LOGS})
    return found


def findings(parts: Parts) -> list[Finding]:
    """Return how the servers are, for `doctor`."""
    return [_finding(one) for one in documents(parts)]


def _finding(one: Document) -> Finding:
    facts = f"{one['space']} on {one['url']}: {one['state']}"
    if one["state"] == "away":
        return Finding("index_server", "error", f"{facts}: {one['reason']}", AWAY, DependencyUnavailable.exit_code)
    if one["state"] == "recovering" or one["reason"]:
        return Finding("index_server", "warning", f"{facts}: {one['reason']}", "nothing is lost; it goes on by itself")
    return Finding("index_server", "ok", facts)
