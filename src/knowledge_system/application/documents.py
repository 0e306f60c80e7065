"""The JSON documents of the contract, the same behind every door."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from knowledge_system.domain.clock import to_public

if TYPE_CHECKING:
    from knowledge_system.domain.errors import KnowledgeError
    from knowledge_system.domain.search import SearchHit, SearchResponse
    from knowledge_system.extraction.ingestion import IngestTally
    from knowledge_system.extraction.learning import LearningTally


def ingest_document(
    read: IngestTally, learned: LearningTally, seconds: float, missing: KnowledgeError | None = None
) -> dict[str, Any]:
    """Return what `ingest --json` prints; `missing` is what kept the backlog from being learned."""
    levels = {level: read.levels.get(level, 0) for level in ("internal", "confidential", "secret")}
    return {
        "sessions": {
            "found": len(read.found) + read.unchanged_files,
            "ingested": len(read.ingested),
            "unchanged": read.unchanged,
            "failed": read.failed,
        },
        "exchanges": {"new": read.new, "known": read.known, "updated": read.updated},
        "items": {
            "created": learned.created,
            "merged": learned.merged,
            "superseded": learned.superseded,
            "rejected": sum(learned.rejected.values()),
        },
        "sensitivity": {**levels, "public": read.levels.get("public", 0), "redactions": read.redactions},
        "skipped": [{"path": one.path, "reason": one.reason} for one in read.skipped],
        "warnings": [{"path": one.path, "place": one.place, "reason": one.reason} for one in read.warnings],
        "files": read.files,
        "degraded": [f"{missing.message} — {missing.hint}"] if missing else [],
        "seconds": round(seconds, 3),
    }


def hit_document(hit: SearchHit) -> dict[str, Any]:
    """Return one search result."""
    return {
        "id": hit.id,
        "kind": hit.kind,
        "type": hit.type,
        "title": hit.title,
        "content": hit.content,
        "score": round(hit.score, 4),
        "similarity": round(hit.similarity, 4),
        "confidence": None if hit.confidence is None else round(hit.confidence, 4),
        "freshness": hit.freshness,
        "project": hit.project,
        "session_id": hit.session_id,
        "created_at": to_public(hit.created_at),
        "sensitivity": hit.sensitivity.value,
        "superseded_by": hit.superseded_by,
        "why": list(hit.why),
        "source": [
            {"path": one.path, "session_id": one.session_id, "exchange_index": one.exchange_index} for one in hit.source
        ],
    }


def search_document(response: SearchResponse) -> dict[str, Any]:
    """Return what `search --json` prints."""
    return {
        "query": response.request.query,
        "scope": response.request.scope.value,
        "took_ms": round(response.took_ms, 3),
        "degraded": list(response.degraded),
        "results": [hit_document(hit) for hit in response.results],
    }
