"""Portable JSONL: one record a line with its `kind`, lossless both ways."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, TypeAlias

from knowledge_system.domain.clock import from_stored, to_public, to_stored
from knowledge_system.domain.errors import UsageError
from knowledge_system.domain.knowledge import Evidence, ItemStatus, KnowledgeItem, KnowledgeType
from knowledge_system.domain.sensitivity import Sensitivity
from knowledge_system.domain.sessions import Exchange, ExchangeFacts, Session, TokenUsage, ToolCall

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime

Record: TypeAlias = KnowledgeItem | Exchange | Session
FORMAT = "knowledge-export/1"


def dump_session(session: Session) -> dict[str, Any]:
    """Return a session as a record."""
    times = {"started_at": _time(session.started_at), "ended_at": _time(session.ended_at)}
    return {"kind": "session", **asdict(session), **times}


def dump_exchange(exchange: Exchange) -> dict[str, Any]:
    """Return an exchange as a record: the fields of the contract first, then what makes it lossless."""
    return {
        "kind": "exchange",
        "id": exchange.id,
        "session_id": exchange.session_id,
        "exchange_index": exchange.index,
        "path": exchange.path,
        "project": exchange.project,
        "timestamp": _time(exchange.timestamp),
        "user": exchange.user,
        "assistant": exchange.assistant,
        "tools": [asdict(tool) for tool in exchange.tools],
        "sensitivity": exchange.sensitivity.value,
        "agent": exchange.agent,
        "intent": exchange.intent,
        "redactions": exchange.redactions,
        "content_hash": exchange.content_hash,
        "facts": asdict(exchange.facts),
    }


def dump_item(item: KnowledgeItem, sources: list[dict[str, Any]], freshness: str) -> dict[str, Any]:
    """Return an item as a record: the fields of a search result without scores, its evidence, and the rest."""
    return {
        "kind": "item",
        "id": item.id,
        "type": item.type.value,
        "title": item.title,
        "content": item.content,
        "confidence": item.confidence,
        "freshness": freshness,
        "project": item.project,
        "session_id": item.session_id,
        "created_at": to_public(item.valid_from),
        "sensitivity": item.sensitivity.value,
        "superseded_by": item.superseded_by,
        "source": sources,
        "evidence": [asdict(one) for one in item.evidence],
        "status": item.status.value,
        "intent": item.intent,
        "support": item.support,
        "metadata": item.metadata,
        "stored_at": to_stored(item.created_at),
        "updated_at": to_stored(item.updated_at),
        "valid_from": to_stored(item.valid_from),
        "valid_to": _time(item.valid_to),
    }


def parse(line: str, number: int) -> Record:
    """Return the record on `line`. Raises UsageError naming line and fault."""
    try:
        raw = json.loads(line)
        return _PARSERS[raw["kind"]](raw)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        fault = "it is not JSON" if isinstance(error, json.JSONDecodeError) else f"{type(error).__name__} {error}"
        raise UsageError(
            f"line {number} is not an exported record: {fault}",
            hint="import reads what `knowledge export` wrote, one JSON object a line",
        ) from error


def _session(raw: Mapping[str, Any]) -> Session:
    fields = {key: raw[key] for key in Session.__slots__ if key in raw}
    times = {key: _parsed_time(raw.get(key)) for key in ("started_at", "ended_at")}
    return Session(**{**fields, **times})


def _exchange(raw: Mapping[str, Any]) -> Exchange:
    facts = dict(raw.get("facts", {}))
    usage = TokenUsage(**facts.pop("usage", {}))
    listed: dict[str, Any] = {key: tuple(one) if isinstance(one, list) else one for key, one in facts.items()}
    return Exchange(
        id=_text(raw, "id"),
        session_id=_text(raw, "session_id"),
        index=int(raw["exchange_index"]),
        path=_text(raw, "path"),
        project=_text(raw, "project"),
        agent=raw.get("agent", "any"),
        user=_text(raw, "user"),
        assistant=_text(raw, "assistant"),
        content_hash=_text(raw, "content_hash"),
        timestamp=_parsed_time(raw.get("timestamp")),
        tools=tuple(ToolCall(**tool) for tool in raw.get("tools", ())),
        facts=ExchangeFacts(usage=usage, **listed),
        sensitivity=Sensitivity(raw["sensitivity"]),
        redactions=int(raw.get("redactions", 0)),
        intent=raw.get("intent"),
    )


def _item(raw: Mapping[str, Any]) -> KnowledgeItem:
    return KnowledgeItem(
        id=_text(raw, "id"),
        type=KnowledgeType(raw["type"]),
        title=_text(raw, "title"),
        content=_text(raw, "content"),
        confidence=float(raw["confidence"]),
        project=_text(raw, "project"),
        session_id=_text(raw, "session_id"),
        created_at=from_stored(raw["stored_at"]),
        updated_at=from_stored(raw["updated_at"]),
        valid_from=from_stored(raw["valid_from"]),
        evidence=tuple(Evidence(**one) for one in raw["evidence"]),
        sensitivity=Sensitivity(raw["sensitivity"]),
        status=ItemStatus(raw["status"]),
        valid_to=_parsed_time(raw.get("valid_to")),
        superseded_by=raw.get("superseded_by"),
        intent=raw.get("intent"),
        support=int(raw.get("support", 1)),
        metadata=dict(raw.get("metadata", {})),
    )


_PARSERS: dict[str, Callable[[Mapping[str, Any]], Record]] = {"session": _session, "exchange": _exchange, "item": _item}


def _text(raw: Mapping[str, Any], key: str) -> str:
    value = raw[key]
    if not isinstance(value, str):
        raise TypeError(f"{key} must be a string")
    return value


def _time(moment: datetime | None) -> str | None:
    return to_stored(moment) if moment else None


def _parsed_time(text: str | None) -> datetime | None:
    return from_stored(text) if text else None
