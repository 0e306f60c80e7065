"""The verbs behind the tools of an agent: compact hits first, details on demand, saving and judging."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

from knowledge_system.application.arrivals import store
from knowledge_system.domain.clock import to_public, to_stored
from knowledge_system.domain.errors import NotFound, UsageError
from knowledge_system.domain.knowledge import Evidence, KnowledgeItem, KnowledgeType, item_id
from knowledge_system.domain.sessions import exchange_id
from knowledge_system.domain.truth import Learned, Page
from knowledge_system.injection.trust import REMEMBER_TOOL

if TYPE_CHECKING:
    from collections.abc import Sequence

    from knowledge_system.application.system import KnowledgeSystem
    from knowledge_system.domain.sessions import Exchange

Document = dict[str, Any]
SNIPPET = 200
MAX_GET = 20
MAX_AROUND = 20
MAX_CONTENT = 20_000
REMEMBERED_CONFIDENCE = 0.6
"""Of what an agent saves by itself: its word, which nobody has checked."""


def compact(document: Document) -> Document:
    """Return the hits of a search with a line each: enough to choose which to read."""
    hits = [
        {
            "id": hit["id"],
            "kind": hit["kind"],
            "type": hit["type"],
            "title": hit["title"],
            "snippet": " ".join(hit["content"].split())[:SNIPPET],
            "score": hit["score"],
            "confidence": hit["confidence"],
            "project": hit["project"],
            "created_at": hit["created_at"],
            "freshness": hit["freshness"],
            "superseded_by": hit["superseded_by"],
        }
        for hit in document["results"]
    ]
    return {"query": document["query"], "results": hits, "degraded": document["degraded"]}


async def get_many(system: KnowledgeSystem, ids: Sequence[str]) -> Document:
    """Return whole items, exchanges or sessions, and the ids nothing is known under. Raises UsageError for too many."""
    if not 1 <= len(ids) <= MAX_GET:
        raise UsageError(f"{len(ids)} ids at once", hint=f"1 to {MAX_GET}")
    found, missing = [], []
    for identity in dict.fromkeys(ids):
        try:
            found.append(await system.show(identity))
        except NotFound:
            missing.append(identity)
    return {"results": found, "missing": missing}


async def timeline(system: KnowledgeSystem, identity: str, before: int, after: int) -> Document:
    """Return the exchanges around an item or exchange, or the first of a session. Raises NotFound."""
    if not (0 <= before <= MAX_AROUND and 0 <= after <= MAX_AROUND):
        raise UsageError("before and after are out of range", hint=f"0 to {MAX_AROUND}")
    truth = await system.parts.truth()
    items = await truth.items.get([identity])
    centre = items[identity].evidence[0].exchange_id if identity in items and items[identity].evidence else identity
    known = await truth.exchanges.get([centre])
    if centre not in known:
        page, _ = await truth.exchanges.page(Page(limit=before + after + 1, session_id=identity))
        if not page:
            raise NotFound(f"nothing is known under {identity}", hint="ids come from knowledge_search")
        return {"centre": None, "results": [_line(one) for one in reversed(page)]}
    earlier, later = await truth.exchanges.around(centre, before, after)
    return {"centre": centre, "results": [_line(one) for one in (*earlier, known[centre], *later)]}


def _line(exchange: Exchange) -> Document:
    return {
        "id": exchange.id,
        "session_id": exchange.session_id,
        "exchange_index": exchange.index,
        "timestamp": to_public(exchange.timestamp) if exchange.timestamp else None,
        "user": " ".join(exchange.user.split())[: 2 * SNIPPET],
        "assistant": " ".join(exchange.assistant.split())[: 2 * SNIPPET],
        "files": list(exchange.facts.files[:10]),
        "errors": sum(tool.is_error for tool in exchange.tools),
        "intent": exchange.intent,
    }


async def remember(system: KnowledgeSystem, raw: Document) -> Document:
    """Save a statement (`title`, `content`, `type`, `project`, `session_id`) that an agent or user asked to keep.

    What was said is stored as an exchange of its own and is the item's evidence; the same text again changes nothing.
    Raises UsageError for an impossible request.
    """
    from knowledge_system.extraction.arriving import Delivery

    kind, content, title = _checked(raw)
    parts = system.parts
    parts.own()
    truth, project = await parts.truth(), str(raw.get("project") or "unknown")
    digest = hashlib.sha256(json.dumps([title, content, kind]).encode()).hexdigest()[:32]
    session, prompt = f"remembered-{project}", f"Remember: {title} ({digest[:8]})"
    document = {
        "format": "knowledge-transcript/1",
        "session": {"id": session, "project": project, "agent": "mcp", "started_at": to_stored(parts.clock.now())},
        "exchanges": [{"user": prompt, "assistant": content, "tools": [{"name": REMEMBER_TOOL, "input": {}}]}],
    }
    await store(parts, Delivery(digest, parts.clock.now(), "mcp:", session), document)
    identity = exchange_id(session, parts.gatekeeper().scrub(prompt)[0], 0)
    exchange = (await truth.exchanges.get([identity])).get(identity)
    if exchange is None:
        raise UsageError("this was forgotten before and stays forgotten", hint="say it in other words")
    item = _item(exchange, kind, parts.gatekeeper().scrub(title)[0], raw)
    known = await truth.items.get([item.id])
    if item.id not in known:
        await truth.items.learn(
            Learned(judged={identity: "item"}, versions={identity: exchange.content_hash}, created=(item,))
        )
        await (await parts.indexer()).catch_up()
    return {"id": item.id, "known": item.id in known, "sensitivity": exchange.sensitivity.value}


def _checked(raw: Document) -> tuple[KnowledgeType, str, str]:
    content, title = str(raw.get("content", "")).strip(), " ".join(str(raw.get("title", "")).split())
    if not content or len(content) > MAX_CONTENT:
        raise UsageError("nothing to remember, or too much", hint=f"content has 1 to {MAX_CONTENT} characters")
    try:
        kind = KnowledgeType(raw.get("type") or KnowledgeType.CODING_PATTERN)
    except ValueError as error:
        raise UsageError(f"unknown type {raw.get('type')}", hint=f"one of {', '.join(KnowledgeType)}") from error
    return kind, content, title or content.splitlines()[0][:120]


def _item(exchange: Exchange, kind: KnowledgeType, title: str, raw: Document) -> KnowledgeItem:
    moment = exchange.timestamp
    if moment is None:
        raise UsageError("the saying has no time", hint="report this: it is a fault of the system")
    return KnowledgeItem(
        id=item_id(exchange.id, 0),
        type=kind,
        title=title,
        content=exchange.assistant,
        confidence=REMEMBERED_CONFIDENCE,
        project=exchange.project,
        session_id=exchange.session_id,
        created_at=moment,
        updated_at=moment,
        valid_from=moment,
        evidence=(Evidence(exchange.id, "assistant", 0, len(exchange.assistant)),),
        sensitivity=exchange.sensitivity,
        metadata={"extractor": "remembered", "said_in": str(raw.get("session_id") or "")[:200]},
    )
