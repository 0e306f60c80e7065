"""What measurements are made into: a cause and something to do, or nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from knowledge_system.operations import latency, locks
from knowledge_system.operations.latency import Machine

GRAPH = {"points": 20_000, "vectors": 20_000, "indexed_vectors": 20_000}
CLOSED = {"provider": "groq", "problem": "", "breaker": "closed"}


def test_a_missing_graph_is_what_makes_search_slow() -> None:
    assert latency.search_row([0.002], GRAPH, [], "").grade == "ok"
    row = latency.search_row([0.002], {**GRAPH, "indexed_vectors": 10}, [], "")
    assert (row.grade, row.solution) == ("slow", "run `knowledge index optimize`")
    small = {"points": 10, "vectors": 10, "indexed_vectors": 0}
    assert latency.search_row([0.002], small, [], "").grade == "ok", "a small index needs no graph"
    assert latency.search_row([0.7], GRAPH, [], "").grade == "slow"
    assert latency.search_row([], {}, [], "the index is gone").grade == "unknown"


def test_an_open_breaker_comes_before_slow_answers() -> None:
    fast, slow = [0.2] * 20, [0.2] * 18 + [9.0] * 2
    assert latency.inference_row([CLOSED], fast).grade == "ok"
    assert "answers slowly" in latency.inference_row([CLOSED], slow).cause
    opened = latency.inference_row([CLOSED, {**CLOSED, "provider": "local", "breaker": "open"}], slow)
    assert "breaker of local" in opened.cause
    off = {**CLOSED, "problem": "GROQ_API_KEY is not set", "breaker": "open"}
    assert latency.inference_row([off], []).grade == "unknown"


def test_embedding_says_when_it_is_only_loading() -> None:
    assert latency.embedding_row([0.01], 0.2, [], "").grade == "ok"
    assert "knowledge serve" in latency.embedding_row([0.01], 3.0, [], "").solution
    assert latency.embedding_row([0.3], 0.2, [], "").grade == "slow"
    assert latency.embedding_row([], 0.0, [], "no weights").cause == "no weights"


@pytest.mark.parametrize(
    ("machine", "said"),
    [
        (Machine(0.5, 4, 0.5, 0.0, (0.001,)), ""),
        (Machine(20, 4, 0.5, 0.0, (0.001,)), "more is running"),
        (Machine(0.5, 4, 0.02, 0.0, (0.001,)), "memory is short"),
        (Machine(0.5, 4, 0.08, 0.5, (0.001,)), "memory is short"),
        (Machine(0.5, 4, 0.5, 0.9, (0.001,)), ""),
        (Machine(0.5, 4, 0.5, 0.0, (0.2, 0.3, 0.1)), "disk is slow"),
    ],
)
def test_the_machine_is_to_blame_for_what_is_short(machine: Machine, said: str) -> None:
    row = latency.machine_row(machine)
    assert row.grade == ("slow" if said else "ok")
    assert said in row.cause


def test_looking_at_the_machine_measures_flushes_and_leaves_nothing(tmp_path: Path) -> None:
    machine = latency.look(tmp_path)
    assert len(machine.fsync) == latency.FSYNCS
    assert all(seconds > 0 for seconds in machine.fsync)
    assert list(tmp_path.iterdir()) == []


def test_percentiles_are_of_values_that_were_there() -> None:
    assert latency.p95([]) is None
    assert latency.p95([3.0]) == 3.0
    assert latency.p95([float(number) for number in range(1, 101)]) == 95.0
    assert latency.spread([0.001, 0.003])["longest_ms"] == 3.0


def document(**changed: Any) -> dict[str, Any]:
    plain = {"write_lock": "free", "transactions": [], "holders": [], "checkpoint": None, "log_bytes": 0, "service": ""}
    return {**plain, **changed}


def test_locks_name_the_holder_and_have_the_code_of_busy() -> None:
    assert locks.findings(document()) == []
    writer = {"pid": 12, "command": "python", "role": "writes"}
    (held,) = locks.findings(document(write_lock="held", holders=[writer]))
    assert held["exit_code"] == 7
    assert "process 12 (python)" in held["problem"]


def test_an_old_transaction_and_a_busy_checkpoint_are_told_and_are_no_failure() -> None:
    old = {"kind": "read", "purpose": "SqlItems.get", "state": "open", "seconds": 60.0, "thread": "t"}
    young = {**old, "purpose": "SqlItems.save", "seconds": 0.1}
    reader = {"pid": 13, "command": "sqlite3", "role": "reads"}
    done = {"busy": True, "log_pages": 9, "moved_pages": 2}
    found = locks.findings(document(transactions=[old, young], holders=[reader], checkpoint=done, log_bytes=100))
    assert [one["exit_code"] for one in found] == [0, 0]
    assert "SqlItems.get (read) has been open for 60.0 s" in found[0]["problem"]
    assert "process 13 (sqlite3)" in found[1]["problem"]


def test_a_service_that_does_not_answer_is_a_failure_of_its_own() -> None:
    (found,) = locks.findings(document(transactions=None, service="timed out"))
    assert found["exit_code"] == 5


def test_a_checkpoint_is_told_in_words() -> None:
    assert "2 of 9 pages" in locks.meaning(True, 9, 2)  # noqa: FBT003 -- the columns of the pragma
    assert "empty" in locks.meaning(False, 0, 0)  # noqa: FBT003 -- as above
    assert "no write-ahead log" in locks.meaning(False, -1, -1)  # noqa: FBT003 -- as above
