"""What is running (`status`) and what is wrong and what to do (`doctor`)."""

from __future__ import annotations

import shutil
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from knowledge_system.domain.clock import to_public
from knowledge_system.domain.errors import KnowledgeError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from knowledge_system.domain.index import IndexStatus
    from knowledge_system.domain.truth import Totals, Truth

LOW_DISK_BYTES = 500_000_000

Grade = Literal["ok", "warning", "error"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One check: its grade, what was seen, and what to do when it is not ok."""

    check: str
    grade: Grade
    detail: str
    advice: str = ""
    exit_code: int = 0

    def document(self) -> dict[str, Any]:
        """Return the finding as JSON."""
        return {"check": self.check, "grade": self.grade, "detail": self.detail, "advice": self.advice}


def status_document(
    totals: Totals, outbox: dict[str, int], holder: dict[str, Any] | None, home: Path
) -> dict[str, Any]:
    """Return what the truth holds and how far learning, words and vectors have followed."""
    waiting = outbox.get("words", 0) + outbox.get("vectors", 0)
    owners = totals.exchanges + sum(totals.items.values())
    return {
        "home": str(home),
        "in_use_by": holder,
        "sessions": totals.sessions,
        "exchanges": totals.exchanges,
        "items": dict(totals.items),
        "evidence": totals.evidence,
        "searches": totals.searches,
        "sensitivity": dict(totals.sensitivity),
        "backlog": {
            "learning": totals.unlearned,
            "words": outbox.get("words", 0),
            "vectors": outbox.get("vectors", 0),
            "embedded_share": round(1 - waiting / owners, 4) if owners else 1.0,
        },
        "vectors": dict(totals.vectors),
        "bytes": totals.bytes_on_disk,
        "last_exchange_at": to_public(totals.last_exchange_at) if totals.last_exchange_at else None,
    }


def index_document(status: IndexStatus) -> dict[str, Any]:
    """Return the state of the index as JSON."""
    return {
        "backend": status.backend,
        "space": status.space.key,
        "points": status.points,
        "vectors": status.vectors,
        "indexed_vectors": status.indexed_vectors,
        "bytes": status.bytes_on_disk,
        "healthy": status.healthy,
        "detail": status.detail,
    }


def check_home(home: Path) -> list[Finding]:
    """Check that the data directory is private, writable, and has room."""
    findings = []
    mode = stat.S_IMODE(home.stat().st_mode)
    private = not mode & 0o077
    findings.append(
        Finding("home", "ok", f"{home} is private")
        if private
        else Finding("home", "warning", f"{home} is open to others ({mode:o})", f"run `chmod 700 {home}`")
    )
    free = shutil.disk_usage(home).free
    enough = free >= LOW_DISK_BYTES
    findings.append(
        Finding("disk", "ok", f"{free // 1_000_000} MB free")
        if enough
        else Finding("disk", "warning", f"only {free // 1_000_000} MB free", "free some space: ingest stops when full")
    )
    key = home / "key"
    if key.exists() and stat.S_IMODE(key.stat().st_mode) & 0o077:
        findings.append(
            Finding("key", "warning", "the installation key is readable by others", f"run `chmod 600 {key}`")
        )
    return findings


async def check_truth(truth: Truth) -> list[Finding]:
    """Check the database's integrity, its invariants, and how far the backlog is."""
    problems = await truth.ledger.check()
    totals = await truth.ledger.totals()
    depth = await truth.outbox.depth()
    findings = [
        Finding("database", "error", problem, "restore from a backup or export what is readable", 6)
        for problem in problems
    ] or [Finding("database", "ok", f"sound: {totals.exchanges} exchanges, {sum(totals.items.values())} items")]
    waiting = totals.unlearned + sum(depth.values())
    findings.append(
        Finding(
            "backlog", "warning", f"{waiting} entries wait to be learned or indexed", "run `knowledge ingest` again"
        )
        if waiting
        else Finding("backlog", "ok", "nothing waits")
    )
    return findings


async def attempt(check: str, step: Callable[[], Awaitable[str]]) -> Finding:
    """Run one check that may fail with a known error and turn that into a finding with its advice."""
    try:
        return Finding(check, "ok", await step())
    except KnowledgeError as error:
        return Finding(check, "error", error.message, error.hint, error.exit_code)
