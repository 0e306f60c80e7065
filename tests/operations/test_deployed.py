"""Each question of the checklist can pass, fail, and not be known."""

from __future__ import annotations

import pytest

from knowledge_system.operations import deployed
from knowledge_system.operations.deployed import Answer

UP, DEGRADED = {"status": "up"}, {"status": "degraded"}


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        (deployed.health("healthy", {"sqlite": UP}), "passed"),
        (deployed.health("degraded", {"sqlite": UP, "cache": DEGRADED}), "failed"),
        (deployed.errors(0, 19), "unknown"),
        (deployed.errors(5, 100), "passed"),
        (deployed.errors(6, 100), "failed"),
        (deployed.metrics(["a"], {"sqlite-size": 1e6}), "passed"),
        (deployed.metrics(["a"], {"sqlite-size": 9e8}), "failed"),
        (deployed.metrics([], {}), "unknown"),
        (deployed.hit_rate(None, 0), "unknown"),
        (deployed.hit_rate(0.9, 19), "unknown"),
        (deployed.hit_rate(0.41, 20), "passed"),
        (deployed.hit_rate(0.4, 20), "failed"),
        (deployed.inference([0.1] * 19), "unknown"),
        (deployed.inference([0.1] * 19 + [9.0]), "passed"),
        (deployed.inference([0.1] * 18 + [9.0] * 2), "failed"),
        (deployed.vector_search([0.49] * 20), "passed"),
        (deployed.vector_search([0.5] * 20), "failed"),
        (deployed.breakers({"groq": "closed"}), "passed"),
        (deployed.breakers({"groq": "closed", "local": "half-open"}), "failed"),
        (deployed.budget("", "held"), "passed"),
        (deployed.budget("the ledger cannot be written", ""), "failed"),
        (deployed.learning("", "learned: bug_solution"), "passed"),
        (deployed.learning("nothing was learned", ""), "failed"),
    ],
)
def test_outcomes(answer: Answer, outcome: str) -> None:
    assert answer.outcome == outcome, answer
    assert answer.evidence
    assert answer.document()["id"].startswith("R392.")
