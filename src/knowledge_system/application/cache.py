"""The verbs of `knowledge cache`: what the caches did, preparing them, emptying them."""

from __future__ import annotations

import time
from collections import Counter
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from knowledge_system.domain.caching import HITS
from knowledge_system.domain.errors import ModelUnavailable, UsageError
from knowledge_system.domain.inference import NANO
from knowledge_system.domain.money import AuditEntry
from knowledge_system.domain.sensitivity import Sensitivity
from knowledge_system.embedding.remembered import key_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from knowledge_system.application.caches import Caches
    from knowledge_system.application.compose import Parts
    from knowledge_system.domain.caching import CacheCount
    from knowledge_system.domain.embedding import Vector
    from knowledge_system.embedding.remembered import RememberingModel

Document = dict[str, Any]

COMMON = (
    "How do I implement authentication?",
    "Best practices for error handling",
    "How to optimize database queries",
    "React hooks usage patterns",
    "API design guidelines",
)
"""The questions of the operations guide (R177): warmed where nothing was asked yet."""
MOST_WARMED = 1_000
LONGEST_DAYS = 400


async def cache_stats(parts: Parts, days: int) -> Document:
    """Return what the caches of all processes did in the last `days`, and what they hold. Counts lag half a minute."""
    _within(days, LONGEST_DAYS, "--days")
    caches = await parts.caches()
    counts = await caches.state.book.counts(parts.clock.now() - timedelta(days=days - 1))
    names = dict.fromkeys(one.operation for one in counts)
    operations = [{"operation": name, **_sums([one for one in counts if one.operation == name])} for name in names]
    results = Counter(dict.fromkeys((*HITS, "miss", "bypass"), 0))
    for one in counts:
        results[one.result] += one.requests
    return {
        "days": days,
        **_sums(counts),
        "results": dict(results),
        "operations": operations,
        **await _levels(parts, caches),
    }


async def cache_clear(parts: Parts, actor: str = "command line") -> Document:
    """Empty both levels in every process, and keep no question any more. Audited."""
    caches = await parts.caches()
    document = await _levels(parts, caches)
    await caches.state.generation.advance()
    if caches.l2 is not None:
        document["l2"]["entries"] = await caches.l2.clear() if document["l2"]["state"] == "up" else None
    document["kept_questions"] = await caches.state.questions.release()
    await caches.follow()
    document["generation"] = await caches.state.generation.current()
    audit = (await parts.database()).engine_state().audit
    await audit.record(AuditEntry(at=parts.clock.now(), kind="cache-clear", outcome="done", actor=actor))
    return document


async def cache_warm(parts: Parts, queries: Sequence[str] | None, limit: int, days: int) -> Document:
    """Prepare questions, so that the next search for one finds its vector: given ones, or those asked most.

    What is prepared is what a search would ask for, and it is computed on this machine: nothing is spent. Questions
    above `internal` are left alone: nothing derived from them is kept. Raises ModelUnavailable when no question could
    be embedded.
    """
    _within(limit, MOST_WARMED, "--limit")
    _within(days, LONGEST_DAYS, "--days")
    began = time.perf_counter()
    source, chosen, hidden = await _chosen(parts, queries, limit, days)
    warming = _Warming(await parts.asker(), parts.gatekeeper().scrub)
    for query in chosen:
        await warming.prepare(query, logged=source == "log")
    if warming.failures and len(warming.failures) == len(chosen):
        raise warming.failures[0]
    await (await parts.caches()).state.questions.keep(parts.model().space, warming.vectors)
    outcomes = Counter(row["outcome"] for row in warming.rows)
    return {
        "source": source,
        "queries": len(chosen),
        **{name: outcomes[name] for name in ("warmed", "known", "sensitive", "failed")},
        "hidden": hidden,
        "results": warming.rows,
        "seconds": round(time.perf_counter() - began, 3),
    }


class _Warming:
    """Embeds questions one after another, as a search would; one that fails stops no other."""

    def __init__(self, asker: RememberingModel, scrub: Callable[[str], tuple[str, Sensitivity]]) -> None:
        self._asker = asker
        self._scrub = scrub
        self.rows: list[Document] = []
        self.vectors: dict[str, Vector] = {}
        self.failures: list[ModelUnavailable] = []

    async def prepare(self, query: str, *, logged: bool) -> None:
        """Embed a question and note how that went; the text of a sensitive one is not even repeated.

        The search log has what was embedded. Doing to that what a search does to a question could change it again.
        """
        from knowledge_system.retrieval.search import asked

        question = asked(query, self._scrub)
        text = query if logged else question.text
        if not text or question.sensitivity.rank > Sensitivity.INTERNAL.rank:
            self.rows.append({"query": None, "outcome": "sensitive"})
            return
        try:
            vector, known = await self._asker.prepare(text)
        except ModelUnavailable as error:
            self.failures.append(error)
            self.rows.append({"query": text, "outcome": "failed", "reason": error.message})
            return
        self.vectors[key_of(text)] = vector
        self.rows.append({"query": text, "outcome": "known" if known else "warmed"})


async def _chosen(parts: Parts, queries: Sequence[str] | None, limit: int, days: int) -> tuple[str, Sequence[str], int]:
    """Return where the questions come from, the questions, and how many of the log are known by their hash only."""
    if queries is not None:
        return "file", list(dict.fromkeys(queries))[:limit], 0
    since = parts.clock.now() - timedelta(days=days)
    often, hidden = await (await parts.caches()).state.questions.most_asked(since, limit)
    if not often and not hidden:
        return "common", COMMON[:limit], 0
    return "log", [one.text for one in often], hidden


async def _levels(parts: Parts, caches: Caches) -> Document:
    """Return what each level holds now."""
    tree = parts.settings.tree.cache
    holding = await caches.state.book.holding()
    entries = None if caches.l2 is None else await caches.l2.entries()
    state = "off" if caches.l2 is None else "down" if entries is None else "up"
    return {
        "l1": {
            "processes": holding.processes,
            "entries": holding.entries,
            "bytes": holding.bytes,
            "max": tree.l1.max,
            "ttl_ms": tree.l1.ttl,
        },
        "l2": {"state": state, "entries": entries, "private": tree.l2.private, "ttl_ms": tree.l2.ttl},
        "kept_questions": await caches.state.questions.count(),
        "generation": await caches.state.generation.current(),
    }


def _sums(counts: Iterable[CacheCount]) -> Document:
    """Return requests, hits, misses, what could not be cached, the share of hits, and dollars saved."""
    sums: Counter[str] = Counter()
    for one in counts:
        kind = "hits" if one.result in HITS else "bypassed" if one.result == "bypass" else "misses"
        sums[kind] += one.requests
        sums["saved_nano"] += one.saved_nano
    asked = sums["hits"] + sums["misses"]
    return {
        "requests": asked + sums["bypassed"],
        "hits": sums["hits"],
        "misses": sums["misses"],
        "bypassed": sums["bypassed"],
        "hit_rate": round(sums["hits"] / asked, 4) if asked else None,
        "saved": sums["saved_nano"] / NANO,
    }


def _within(value: int, most: int, option: str) -> None:
    if not 1 <= value <= most:
        raise UsageError(f"{option} {value} is out of range", hint=f"1 to {most}")
