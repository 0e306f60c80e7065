"""The verbs of the derived indexes: that of the local model, and that of the larger space where it is in use."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from knowledge_system.application import larger
from knowledge_system.domain.errors import IntegrityFailure
from knowledge_system.operations.diagnosis import index_document

if TYPE_CHECKING:
    from knowledge_system.application.compose import Parts

Document = dict[str, Any]


async def status(parts: Parts) -> Document:
    """Return the state of both indexes, and how much of the truth the larger space covers."""
    document = index_document(await (await parts.index()).status())
    space = await larger.coverage(parts)
    if await larger.in_use(parts):
        space |= index_document(await (await parts.second()).index.status())
    document |= {"outbox": await (await parts.truth()).outbox.depth(), "larger_space": space}
    from knowledge_system.application.index_process import holders

    return {**document, **holders(parts)}


async def rebuild(parts: Parts) -> Document:
    """Build the indexes again from the truth, embedding what has no vector in the local model's space yet.

    What models before left on a server is removed: nobody follows it, so it would keep what is forgotten. Only here,
    where somebody asked: two services with different models on one server would remove each other's for ever.
    """
    indexer = await parts.indexer()
    report = await indexer.rebuild(await parts.index())
    embedded = await indexer.catch_up()
    document: Document = {"points": report.points, "embedded": embedded, "seconds": round(report.seconds, 3)}
    if await larger.in_use(parts):
        again = await (await parts.second()).rebuild()
        document["larger_space"] = {"points": again.points, "seconds": round(again.seconds, 3)}
    if parts.servers:
        document["removed_collections"] = sum([await server.remove_other_spaces() for server in parts.servers])
    return document


async def optimize(parts: Parts) -> Document:
    """Build or improve the graphs on copies and swap them in when recall holds."""
    report = await (await parts.index()).optimize()
    document: Document = {
        "swapped": report.swapped,
        "points": report.points,
        "recall": round(report.recall, 4),
        "seconds": round(report.seconds, 3),
        "detail": report.detail,
    }
    if await larger.in_use(parts):
        other = await (await parts.second()).maintenance.optimize()
        document["larger_space"] = {
            "swapped": other.swapped,
            "points": other.points,
            "recall": round(other.recall, 4),
            "detail": other.detail,
        }
    return document


async def verify(parts: Parts) -> Document:
    """Verify files and content, compare with the truth, and repair what differs. Raises IntegrityFailure.

    The index of the larger space is rebuilt where anything is wrong with it: that needs no model.
    """
    report = await (await parts.index()).verify()
    if not report.ok:
        raise IntegrityFailure(
            f"the index is damaged: {'; '.join(report.problems)}", hint="run `knowledge index rebuild`"
        )
    indexer = await parts.indexer()
    missing, surplus = await indexer.reconcile()
    await indexer.catch_up()
    document: Document = {"ok": True, "points": report.points, "missing": missing, "surplus": surplus}
    if await larger.in_use(parts):
        document["larger_space"] = await _verify_larger(parts)
    return document


async def _verify_larger(parts: Parts) -> Document:
    second = await parts.second()
    report = await second.maintenance.verify()
    if not report.ok:
        await second.rebuild()
    missing, surplus = await second.reconcile()
    return {"ok": report.ok, "problems": list(report.problems), "missing": missing, "surplus": surplus}
