"""The checklist after a deployment (R392): each question answered by what was measured, or not answered at all."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from knowledge_system.operations.latency import p95
from knowledge_system.operations.thresholds import metric

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Outcome = Literal["passed", "failed", "unknown"]
LEAST_REQUESTS = 20
"""Requests below which a share or a percentile says nothing: a new process must have been used."""
ERROR_SHARE = 0.05
"""Share of failed requests that counts as a spike (operations guide: error rate above 5 %)."""


@dataclass(frozen=True, slots=True)
class Answer:
    """One question with its outcome; `evidence` is what was seen. `unknown`: there was too little to see."""

    id: str
    question: str
    outcome: Outcome
    evidence: str

    def document(self) -> dict[str, Any]:
        """Return the answer as JSON."""
        return {"id": self.id, "question": self.question, "outcome": self.outcome, "evidence": self.evidence}


def health(status: str, checks: Mapping[str, Mapping[str, Any]]) -> Answer:
    """Return whether the health checks pass; degraded is not enough for a deployment."""
    wrong = [name for name, one in checks.items() if one["status"] not in {"up", "ok"}]
    evidence = status if not wrong else f"{status}: {', '.join(wrong)}"
    return Answer("R392.1", "health checks pass", _passed(ok=status == "healthy"), evidence)


def errors(failed: int, requests: int) -> Answer:
    """Return whether requests fail more often than they should."""
    evidence = f"{failed} of the last {requests} requests failed"
    outcome = "unknown" if requests < LEAST_REQUESTS else _passed(ok=failed <= ERROR_SHARE * requests)
    return Answer("R392.2", "no spike of errors", outcome, evidence)


def metrics(names: Sequence[str], sizes: Mapping[str, float]) -> Answer:
    """Return whether what has a size is below its first limit; without metrics nobody watches, so nothing is known."""
    over = [f"{name} {value:g}" for name, value in sizes.items() if value > metric(name).alert]
    evidence = f"{len(names)} series; {'over: ' + ', '.join(over) if over else 'sizes are in range'}"
    return Answer("R392.3", "metrics are in range", _passed(ok=not over) if names else "unknown", evidence)


def hit_rate(rate: float | None, requests: int) -> Answer:
    """Return whether the caches answer as often as they should."""
    target = metric("cache-hit-rate").target
    known = rate is not None and requests >= LEAST_REQUESTS
    evidence = f"{'nothing' if rate is None else f'{rate:.0%}'} of {requests} requests, target {target:.0%}"
    return Answer("R392.4", "the caches answer", _passed(ok=(rate or 0) > target) if known else "unknown", evidence)


def inference(seconds: Sequence[float]) -> Answer:
    """Return whether model calls are fast enough."""
    return _late("R392.5", "inference is fast", seconds, metric("inference-latency").target)


def vector_search(seconds: Sequence[float]) -> Answer:
    """Return whether vector searches are fast enough."""
    return _late("R392.6", "vector search is fast", seconds, metric("vector-search").target)


def breakers(phases: Mapping[str, str]) -> Answer:
    """Return whether every breaker is closed."""
    standing = [f"{name} {phase}" for name, phase in phases.items() if phase != "closed"]
    return Answer("R392.7", "no breaker is open", _passed(ok=not standing), ", ".join(standing) or "all closed")


def budget(problem: str, evidence: str) -> Answer:
    """Return whether the ledger reserves and settles."""
    return Answer("R392.8", "the budget is tracked", _passed(ok=not problem), problem or evidence)


def learning(problem: str, evidence: str) -> Answer:
    """Return whether a session with knowledge in it gives items."""
    return Answer("R392.9", "knowledge is extracted", _passed(ok=not problem), problem or evidence)


def _late(identity: str, question: str, seconds: Sequence[float], target: float) -> Answer:
    late = p95(seconds)
    known = late is not None and len(seconds) >= LEAST_REQUESTS
    shown = "nothing" if late is None else f"95 % within {late:.3f} s"
    outcome = _passed(ok=(late or 0) < target) if known else "unknown"
    return Answer(identity, question, outcome, f"{shown} of {len(seconds)}, target {target:g} s")


def _passed(*, ok: bool) -> Outcome:
    return "passed" if ok else "failed"
