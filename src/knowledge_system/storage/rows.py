"""Nouns to rows and back, without loss."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING, Any

from knowledge_system.domain.knowledge import Evidence, ItemStatus, KnowledgeItem, KnowledgeType
from knowledge_system.domain.sensitivity import Sensitivity
from knowledge_system.domain.sessions import Exchange, ExchangeFacts, Session, SourceState, TokenUsage, ToolCall

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from sqlalchemy import RowMapping

Row = dict[str, Any]


def text_length(exchange: Exchange) -> int:
    """Return the characters of an exchange: user, assistant and tool outputs."""
    return len(exchange.user) + len(exchange.assistant) + sum(len(tool.output) for tool in exchange.tools)


def exchange_row(exchange: Exchange, ordered_at: datetime, now: datetime) -> Row:
    """Return the row of an exchange that is stored at `now` and not learned."""
    return {
        "id": exchange.id,
        "session_id": exchange.session_id,
        "exchange_index": exchange.index,
        "path": exchange.path,
        "project": exchange.project,
        "agent": exchange.agent,
        "timestamp": exchange.timestamp,
        "ordered_at": ordered_at,
        "content_hash": exchange.content_hash,
        "text_length": text_length(exchange),
        "sensitivity": exchange.sensitivity.value,
        "redactions": exchange.redactions,
        "intent": exchange.intent,
        "created_at": now,
        "updated_at": now,
        "learned_at": None,
        "tracked_at": None,
        "learn_outcome": None,
        "user_text": exchange.user,
        "assistant_text": exchange.assistant,
        "tools": [_tool_json(tool) for tool in exchange.tools],
        "facts": _facts_json(exchange.facts),
    }


def exchange_of(row: RowMapping | Row) -> Exchange:
    """Invert `exchange_row`."""
    return Exchange(
        id=row["id"],
        session_id=row["session_id"],
        index=row["exchange_index"],
        path=row["path"],
        project=row["project"],
        agent=row["agent"],
        user=row["user_text"],
        assistant=row["assistant_text"],
        content_hash=row["content_hash"],
        timestamp=row["timestamp"],
        tools=tuple(_tool_of(tool) for tool in row.get("tools", ())),
        facts=_facts_of(row["facts"]),
        sensitivity=Sensitivity(row["sensitivity"]),
        redactions=row["redactions"],
        intent=row["intent"],
    )


def _tool_json(tool: ToolCall) -> Row:
    value: Row = {"name": tool.name, "input": tool.input, "output": tool.output}
    if tool.is_error:
        value["is_error"] = True
    if tool.agent is not None:
        value["agent"] = tool.agent
    return value


def _tool_of(value: Row) -> ToolCall:
    return ToolCall(value["name"], value["input"], value["output"], value.get("is_error", False), value.get("agent"))


def _facts_json(facts: ExchangeFacts) -> Row:
    usage = facts.usage
    value: Row = {
        "files": list(facts.files),
        "commands": list(facts.commands),
        "model": facts.model,
        "usage": [usage.input, usage.output, usage.cache_read, usage.cache_write],
        "interrupted": facts.interrupted,
        "git_branch": facts.git_branch,
        "notes": list(facts.notes),
    }
    return {key: part for key, part in value.items() if part and part != [0, 0, 0, 0]}


def _facts_of(value: Row) -> ExchangeFacts:
    return ExchangeFacts(
        files=tuple(value.get("files", ())),
        commands=tuple(value.get("commands", ())),
        model=value.get("model", ""),
        usage=TokenUsage(*value.get("usage", ())),
        interrupted=value.get("interrupted", False),
        git_branch=value.get("git_branch", ""),
        notes=tuple(value.get("notes", ())),
    )


def session_row(session: Session) -> Row:
    """Return the columns of a session that come from the session itself."""
    return {
        "id": session.id,
        "project": session.project,
        "agent": session.agent,
        "format": session.format,
        "path": session.path,
        "title": session.title,
        "cwd": session.cwd,
        "git_branch": session.git_branch,
        "parent_id": session.parent_id,
        "started_at": session.started_at,
        "ended_at": session.ended_at,
        "metadata": session.metadata,
    }


def session_of(row: RowMapping) -> Session:
    """Invert `session_row`."""
    return Session(
        id=row["id"],
        project=row["project"],
        agent=row["agent"],
        format=row["format"],
        path=row["path"],
        title=row["title"],
        cwd=row["cwd"],
        git_branch=row["git_branch"],
        parent_id=row["parent_id"],
        started_at=row["started_at"],
        ended_at=row["ended_at"],
        metadata=row["metadata"],
    )


def source_row(state: SourceState, now: datetime) -> Row:
    """Return the row of a source read at `now`."""
    return {
        "path": state.path,
        "format": state.format,
        "size": state.size,
        "modified_ns": state.modified_ns,
        "head": state.head,
        "exchanges": state.exchanges,
        "resume": state.resume,
        "read_at": now,
    }


def source_of(row: RowMapping) -> SourceState:
    """Invert `source_row`."""
    return SourceState(
        path=row["path"],
        format=row["format"],
        size=row["size"],
        modified_ns=row["modified_ns"],
        head=row["head"],
        exchanges=row["exchanges"],
        resume=row["resume"],
    )


def item_row(item: KnowledgeItem) -> Row:
    """Return the row of an item, without its evidence."""
    return {
        "id": item.id,
        "type": item.type.value,
        "title": item.title,
        "content": item.content,
        "confidence": item.confidence,
        "project": item.project,
        "session_id": item.session_id,
        "sensitivity": item.sensitivity.value,
        "status": item.status.value,
        "superseded_by": item.superseded_by,
        "intent": item.intent,
        "support": item.support,
        "created_at": item.created_at,
        "updated_at": item.updated_at,
        "valid_from": item.valid_from,
        "valid_to": item.valid_to,
        "metadata": item.metadata,
    }


# Members by their values: an enumeration called takes five times as long, and a search reads sixty.
_type_of = cache(KnowledgeType)
_status_of = cache(ItemStatus)
_sensitivity_of = cache(Sensitivity)


def item_of(row: RowMapping | Row, evidence: tuple[Evidence, ...]) -> KnowledgeItem:
    """Invert `item_row`."""
    return KnowledgeItem(
        id=row["id"],
        type=_type_of(row["type"]),
        title=row["title"],
        content=row["content"],
        confidence=row["confidence"],
        project=row["project"],
        session_id=row["session_id"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
        valid_from=row["valid_from"],
        evidence=evidence,
        sensitivity=_sensitivity_of(row["sensitivity"]),
        status=_status_of(row["status"]),
        valid_to=row["valid_to"],
        superseded_by=row["superseded_by"],
        intent=row["intent"],
        support=row["support"],
        metadata=row["metadata"],
    )


def evidence_rows(item_id: str, evidence: Iterable[Evidence], start: int = 0, *, imported: bool = False) -> list[Row]:
    """Return the rows of an item's evidence, numbered from `start`."""
    return [
        {
            "item_id": item_id,
            "exchange_id": one.exchange_id,
            "field": one.field,
            "span_start": one.start,
            "span_end": one.end,
            "position": position,
            "imported": int(imported),
        }
        for position, one in enumerate(evidence, start)
    ]


def evidence_of(row: RowMapping | Row) -> Evidence:
    """Invert `evidence_rows` for one row."""
    return Evidence(row["exchange_id"], row["field"], row["span_start"], row["span_end"])


def resting_on(item: KnowledgeItem, evidence: tuple[Evidence, ...]) -> KnowledgeItem:
    """Return `item` with what is left of its evidence, its support counted anew if it lost any."""
    if evidence == item.evidence:
        return item
    return replace(item, evidence=evidence, support=len({one.exchange_id for one in evidence}))
