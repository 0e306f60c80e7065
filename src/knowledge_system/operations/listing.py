"""One page of what is stored, as the doors list it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from knowledge_system.domain.clock import to_public
from knowledge_system.operations.portable import sources_of
from knowledge_system.operations.records import dump_exchange, dump_item

if TYPE_CHECKING:
    from collections.abc import Callable

    from knowledge_system.domain.knowledge import KnowledgeItem
    from knowledge_system.domain.truth import Page, Truth


async def list_items(truth: Truth, page: Page, freshness: Callable[[KnowledgeItem], str]) -> dict[str, Any]:
    """Return `{"results": [...], "next": cursor}` of items, newest first."""
    found, after = await truth.items.page(page)
    sources = await sources_of(truth, found)
    return {"results": [dump_item(item, sources[item.id], freshness(item)) for item in found], "next": after}


async def list_exchanges(truth: Truth, page: Page) -> dict[str, Any]:
    """Return one page of exchanges, newest first."""
    found, after = await truth.exchanges.page(page)
    return {"results": [dump_exchange(exchange) for exchange in found], "next": after}


async def list_sessions(truth: Truth, page: Page) -> dict[str, Any]:
    """Return one page of sessions, newest first."""
    found, after = await truth.exchanges.sessions(page)
    rows = [
        {
            "kind": "session",
            "id": one.id,
            "project": one.project,
            "agent": one.agent,
            "format": one.format,
            "path": one.path,
            "title": one.title,
            "started_at": to_public(one.started_at) if one.started_at else None,
            "ended_at": to_public(one.ended_at) if one.ended_at else None,
        }
        for one in found
    ]
    return {"results": rows, "next": after}
