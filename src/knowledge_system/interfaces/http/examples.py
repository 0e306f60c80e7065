"""Requests and answers as they look, for `/openapi.json`; by path and method."""

from __future__ import annotations

from typing import Any, Final

Json = dict[str, Any]

REQUESTS: Final[dict[tuple[str, str], Json]] = {
    ("/v1/search", "post"): {"query": "the connection pool times out under load", "scope": "items", "limit": 5},
    ("/v1/exchanges", "post"): {
        "format": "knowledge-transcript/1",
        "session": {"id": "s1", "project": "shop", "agent": "any"},
        "exchanges": [{"user": "Why does the checkout fail?", "assistant": "The pool leaks a session."}],
    },
    ("/v1/items/{id}/feedback", "post"): {"verdict": "helpful", "note": "it was the cause"},
    ("/v1/infer", "post"): {"prompt": "Sum up in one sentence: …", "max_output": 100},
    ("/v1/embed", "post"): {"texts": ["retry policy loses updates"]},
    ("/config", "post"): {"inference": {"providerPriority": ["local"], "offlineMode": True}},
    ("/v1/chat/completions", "post"): {"model": "auto", "messages": [{"role": "user", "content": "Say hello."}]},
    ("/v1/embeddings", "post"): {"model": "auto", "input": "retry policy loses updates"},
}

_ITEM: Final[Json] = {
    "id": "k78806eeddeee9ddb414a3a06",
    "kind": "item",
    "type": "bug_solution",
    "title": "The pool leaks a session",
    "content": "Problem: The checkout fails under load.\nFix: Close the session in a finally block.",
    "confidence": 0.83,
    "freshness": "fresh",
    "project": "shop",
    "session_id": "s1",
    "created_at": "2026-01-01T00:00:00Z",
    "sensitivity": "internal",
    "superseded_by": None,
    "source": [{"path": "sessions/s1.json", "session_id": "s1", "exchange_index": 0}],
}
_SESSION: Final[Json] = {
    "kind": "session",
    "id": "s1",
    "project": "shop",
    "agent": "any",
    "title": "Why does the checkout fail?",
    "started_at": "2026-01-01T00:00:00Z",
}
_POINT: Final[Json] = {"exchange_id": "xd275065dad36d1604942058d", "index": 0, "intent": "debugging"}
_BUDGET: Final[Json] = {
    "month": "2026-01",
    "limit": 8.33,
    "spend": 1.25,
    "reserved": 0.0,
    "remaining": 7.08,
    "percentage": 15.006,
    "tier": "normal",
    "frozen": False,
    "offline": False,
}
_COSTS: Final[Json] = {"calls": 12, "tokens": 34_000, "cost": 0.0102}
_PROVIDERS: Final[Json] = {
    "providers": [
        {"provider": "groq", "local": False, "problem": "", "breaker": "closed", "failures": 0, "next_attempt": None}
    ],
    "strategy": "cost-optimized",
}
_MODEL: Final[Json] = {"id": "auto", "object": "model", "created": 0, "owned_by": "knowledge"}
_ANSWERED: Final[Json] = {
    "provider": "groq",
    "model": "openai/gpt-oss-20b",
    "usage": {"input": 120, "output": 30},
    "cost": 0.000024,
    "cached": False,
    "attempts": [],
    "why": "cost-optimized: the cheapest that may see it",
}
_CHANGE: Final[Json] = {
    "id": "8d12c61139a2",
    "key": "inference.offlineMode",
    "value": True,
    "before": None,
    "at": "2026-01-01T00:00:00Z",
    "by": "http:ops",
    "undoes": None,
    "in_force": True,
}
_CHANGED: Final[Json] = {
    "change": "8d12c61139a2",
    "changed": {"inference.offlineMode": True},
    "restart_required": [],
    "config": {"inference": {"offlineMode": True}},
}

ANSWERS: Final[dict[tuple[str, str], Json]] = {
    ("/v1/search", "post"): {
        "query": "the connection pool times out under load",
        "scope": "items",
        "took_ms": 11.2,
        "degraded": [],
        "results": [{**_ITEM, "score": 0.61, "similarity": 0.72, "why": ["matches by meaning (0.72, rank 1)"]}],
    },
    ("/v1/items", "get"): {"results": [_ITEM], "next": None},
    ("/v1/items/{id}", "get"): _ITEM,
    ("/v1/items/{id}", "delete"): {"forgotten": 1, "ids": [_ITEM["id"]]},
    ("/v1/items/{id}/feedback", "post"): {
        "id": _ITEM["id"], "verdict": "helpful", "confidence": 0.86, "status": "active",
    },
    ("/v1/exchanges", "post"): {
        "session_id": "s1",
        "exchanges": {"new": 1, "known": 0, "updated": 0},
        "ids": [_POINT["exchange_id"]],
        "learning": "follows",
    },
    ("/v1/sessions", "get"): {"results": [_SESSION], "next": None},
    ("/v1/trajectory/{session}", "get"): {
        "session": "s1", "goal": "Repair the checkout", "state": "debugging", "intent": "debugging", "points": [_POINT],
    },
    ("/v1/infer", "post"): {
        **_ANSWERED, "text": "The pool leaks a session.", "data": None, "finish": "stop", "confidence": None,
    },
    ("/v1/embed", "post"): {**_ANSWERED, "vectors": [[0.6, 0.8]], "dimension": 2, "space": "an illustration"},
    ("/v1/chat/completions", "post"): {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1_767_225_600,
        "model": "openai/gpt-oss-20b",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hello."}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 10, "completion_tokens": 2, "total_tokens": 12},
    },
    ("/v1/embeddings", "post"): {
        "object": "list",
        "data": [{"object": "embedding", "index": 0, "embedding": [0.6, 0.8]}],
        "model": "text-embedding-3-small",
        "usage": {"prompt_tokens": 5, "total_tokens": 5},
    },
    ("/v1/models", "get"): {"object": "list", "data": [_MODEL]},
    ("/v1/models/{name}", "get"): _MODEL,
    ("/v1/costs/report", "get"): {
        "period": "day",
        "from": "2026-01-01T00:00:00Z",
        "to": "2026-01-01T12:00:00Z",
        "ends": "2026-01-02T00:00:00Z",
        "partial": True,
        "elapsed": 0.5,
        "totals": _COSTS,
        "byProvider": [{"provider": "groq", **_COSTS}],
        "byOperation": [{"operation": "infer", **_COSTS}],
        "byProject": [{"project": "shop", **_COSTS}],
    },
    ("/v1/budget", "get"): _BUDGET,
    ("/config", "get"): {
        "config": _CHANGED["config"], "overrides": [_CHANGE], "restart_required": [], "ignored": [],
    },
    ("/config", "post"): _CHANGED,
    ("/config/undo/{change}", "post"): {**_CHANGED, "changed": {"inference.offlineMode": None}},
    ("/config/history", "get"): {"results": [_CHANGE], "next": None},
    ("/internal/circuit-breaker/status", "get"): _PROVIDERS,
    ("/internal/circuit-breaker/reset/{provider}", "post"): _PROVIDERS,
    ("/internal/budget/reset", "post"): _BUDGET,
    ("/internal/budget/freeze", "post"): {**_BUDGET, "frozen": True},
    ("/internal/budget/unfreeze", "post"): _BUDGET,
    ("/internal/audit", "get"): {
        "results": [
            {"kind": "admin", "operation": "POST /config", "actor": "http:ops", "outcome": "200",
             "at": "2026-01-01T00:00:00Z", "cost": 0.0}
        ],
        "next": None,
    },
}  # fmt: skip
