"""What the system holds: showing, listing, forgetting, replacing, and moving it as records."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from knowledge_system.domain.errors import NotFound, UsageError
from knowledge_system.domain.knowledge import KnowledgeType

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Sequence

    from knowledge_system.application.compose import Parts
    from knowledge_system.domain.search import Scope
    from knowledge_system.domain.truth import Page

Document = dict[str, Any]


async def show(parts: Parts, identity: str) -> Document:
    """Return an item with its evidence, or an exchange. Raises NotFound."""
    truth = await parts.truth()
    items = await truth.items.get([identity])
    if identity in items:
        return await _item(parts, identity)
    exchanges = await truth.exchanges.get([identity])
    if identity in exchanges:
        from knowledge_system.operations.records import dump_exchange

        return dump_exchange(exchanges[identity])
    raise NotFound(f"nothing is known under {identity}", hint="ids come from `knowledge search` and `knowledge list`")


async def _item(parts: Parts, identity: str) -> Document:
    from knowledge_system.operations.portable import quoted, sources_of
    from knowledge_system.operations.records import dump_item
    from knowledge_system.retrieval.ranking import freshness

    truth = await parts.truth()
    item = (await truth.items.get([identity]))[identity]
    sources = (await sources_of(truth, [item]))[identity]
    record = dump_item(item, sources, freshness(item.valid_from, parts.clock.now()))
    return {**record, "evidence": await quoted(truth, item)}


async def listed(parts: Parts, kind: str, page: Page) -> Document:
    """Return one page of items, exchanges or sessions, newest first."""
    from knowledge_system.operations.listing import list_exchanges, list_items, list_sessions
    from knowledge_system.retrieval.ranking import freshness

    if page.type and page.type not in set(KnowledgeType):
        raise UsageError(f"unknown type {page.type}", hint=f"one of {', '.join(KnowledgeType)}")
    truth, now = await parts.truth(), parts.clock.now()
    if kind == "sessions":
        return await list_sessions(truth, page)
    if kind == "exchanges":
        return await list_exchanges(truth, page)
    return await list_items(truth, page, lambda item: freshness(item.valid_from, now))


async def forget(parts: Parts, ids: Sequence[str]) -> Document:
    """Erase items and exchanges for good. Raises NotFound, and forgets nothing, when one of them does not exist."""
    parts.own()
    truth = await parts.truth()
    items = await truth.items.get(ids)
    exchanges = await truth.exchanges.get(ids)
    missing = [one for one in ids if one not in items and one not in exchanges]
    if missing:
        raise NotFound(f"nothing is known under {', '.join(missing)}", hint="nothing was forgotten; correct the ids")
    erased = await truth.items.forget(list(items)) + await truth.exchanges.forget(list(exchanges))
    await (await parts.indexer()).catch_up()
    return {"forgotten": erased, "ids": list(ids)}


async def supersede(parts: Parts, old: str, new: str) -> Document:
    """Mark an item as replaced by another."""
    parts.own()
    await (await parts.truth()).items.supersede(old, new, parts.clock.now())
    await (await parts.indexer()).catch_up()
    return {"superseded": old, "superseded_by": new}


async def exported(parts: Parts, scope: Scope) -> AsyncIterator[Document]:
    """Yield every record of `scope`."""
    from knowledge_system.operations.portable import export
    from knowledge_system.retrieval.ranking import freshness

    now = parts.clock.now()
    async for record in export(await parts.truth(), scope, lambda item: freshness(item.valid_from, now)):
        yield record


async def import_(parts: Parts, lines: Iterable[str]) -> Document:
    """Store exported records; what is known stays as it is."""
    from knowledge_system.application.larger import embed_waiting
    from knowledge_system.operations.portable import load

    parts.own()
    tally = await load(await parts.truth(), lines, parts.gatekeeper())
    await (await parts.indexer()).catch_up()
    await embed_waiting(parts)
    return {"new": tally.new, "known": tally.known, "redactions": tally.redactions}
