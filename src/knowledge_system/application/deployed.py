"""The checklist after a deployment, asked of a running system: every answer is measured now, and nothing is stored."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from knowledge_system.domain.errors import KnowledgeError
from knowledge_system.domain.money import Hold, Settlement
from knowledge_system.operations import deployed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from knowledge_system.application.compose import Parts
    from knowledge_system.domain.money import BudgetLedger
    from knowledge_system.operations.deployed import Answer

Document = dict[str, Any]
OPERATION = "checklist"
ATTEMPTS = 3
"""Reservations that are tried: others may settle theirs in between, so that one alone need not show."""
_USER = "The checkout test fails in CI with `TimeoutError: QueuePool limit of size 5 overflow 10 reached`. Why?"
_ASSISTANT = (
    "The root cause is that `OrderRepository.find()` opens a session and never closes it when an order is missing, "
    "so every 404 leaks a pooled connection. I wrapped the query in `with Session(engine) as session:` in "
    "`orders/repository.py`, which returns the connection on every path. The whole suite passes now: 212 passed."
)


async def after_deployment(parts: Parts) -> Document:
    """Return the nine answers (R392). `passed` only when all of them are; a new process does not know some of them."""
    answers = await asked(parts)
    return {
        "passed": all(one.outcome == "passed" for one in answers),
        "failed": [one.id for one in answers if one.outcome == "failed"],
        "answers": [one.document() for one in answers],
    }


async def asked(parts: Parts) -> list[Answer]:
    """Return the answers in the order of the checklist."""
    checks = (report := await parts.health().report()).document()
    phases = {name: str(one["circuitBreaker"]) for name, one in checks.items() if name.startswith("provider_")}
    rate, requests = await _cache(parts)
    return [
        deployed.health(report.status, {name: one for name, one in checks.items() if report.entries[name].counts}),
        deployed.errors(*_errors(parts)),
        await _metrics(parts),
        deployed.hit_rate(rate, requests),
        deployed.inference(_durations(parts, "model-call")),
        deployed.vector_search(_durations(parts, "vector-search")),
        deployed.breakers(phases),
        await _budget(parts),
        await _learning(parts),
    ]


async def _cache(parts: Parts) -> tuple[float | None, int]:
    from knowledge_system.application.cache import cache_stats

    stats = await cache_stats(parts, 1)
    return stats["hit_rate"], stats["hits"] + stats["misses"]


def _errors(parts: Parts) -> tuple[int, int]:
    if parts.telemetry is None:
        return 0, 0
    failed = [trace.root.status == "error" for trace in parts.telemetry.store.recent()]
    return failed.count(True), len(failed)


def _durations(parts: Parts, name: str) -> Sequence[float]:
    return [] if parts.telemetry is None else parts.telemetry.store.durations(name)


async def _metrics(parts: Parts) -> Answer:
    """Read the metrics as Prometheus would, and compare what has a size with its first limit."""
    from knowledge_system.application.index_process import documents
    from knowledge_system.application.index_server import is_used

    if parts.telemetry is None:
        return deployed.metrics([], {})
    text = (await parts.telemetry.exposition())[0].decode()
    names = [line.split()[2] for line in text.splitlines() if line.startswith("# TYPE knowledge_")]
    stored = await (await parts.database()).census().storage()
    sizes = {"sqlite-size": float(stored.bytes)} if stored.bytes is not None else {}
    if not is_used(parts):  # a server tells its own memory to Prometheus
        apart = [one["rss_bytes"] or 0 for one in documents(parts)]
        sizes["vector-store-memory"] = float(sum(apart) or parts.memory().resident())
    return deployed.metrics(names, sizes)


async def _budget(parts: Parts) -> Answer:
    """Reserve one nano-dollar and settle it to nothing: the ledger must have moved, and be as it was."""
    from knowledge_system.application.engine import engine_state

    ledger = (await engine_state(parts)).ledger
    try:
        return deployed.budget(*await _reserved(ledger))
    except KnowledgeError as error:
        refused = error.code == "budget-exhausted"
        return deployed.budget("" if refused else error.message, f"the limit holds: {error.message}")


async def _reserved(ledger: BudgetLedger) -> tuple[str, str]:
    for _ in range(ATTEMPTS):
        before = await ledger.status()
        held = await ledger.reserve(Hold(1, "local", "none", OPERATION, "", timedelta(minutes=1)))
        between = await ledger.status()
        await ledger.settle(held, Settlement(0, None, "checked"))
        if between.reserved_nano > before.reserved_nano:
            return "", "a reservation was made and settled"
    return "a reservation did not change what is reserved", ""


async def _learning(parts: Parts) -> Answer:
    """Have a made-up exchange judged, as any other would be; nothing of it is stored."""
    from knowledge_system.domain.knowledge import Episode
    from knowledge_system.domain.sessions import Exchange, ToolCall

    ran = '{"command": "pytest -q"}'
    exchange = Exchange(
        id="x" + 24 * "0",
        session_id="checklist",
        index=0,
        path="",
        project="checklist",
        agent="any",
        user=_USER,
        assistant=_ASSISTANT,
        content_hash="",
        timestamp=parts.clock.now(),
        tools=(
            ToolCall("Bash", ran, "E TimeoutError: QueuePool limit\n1 failed", is_error=True),
            ToolCall("Edit", '{"file_path": "orders/repository.py"}', "ok"),
            ToolCall("Bash", ran, "212 passed in 9.1s"),
        ),
    )
    text = f"{_USER}\n{_ASSISTANT}"
    try:
        (vector,) = await parts.model().embed([text])
        passages = ((text, vector),)
        (verdict,) = await parts.extractor().judge([Episode(exchange, (), (), passages)])
    except KnowledgeError as error:
        return deployed.learning(error.message, "")
    found = ", ".join(str(one.type) for one in verdict.candidates)
    return deployed.learning("" if found else f"nothing was learned: {verdict.reason}", f"learned: {found}")
