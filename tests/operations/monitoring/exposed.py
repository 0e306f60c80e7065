"""The series that exist: ours from the code that exposes them, others' by name."""

from __future__ import annotations

from functools import cache

import promql_parser

from knowledge_system.operations import gauges
from knowledge_system.operations.exposition import Exposition

OTHERS = {
    "up": "Prometheus itself",
    "scrape_duration_seconds": "Prometheus itself",
    "memory_resident_bytes": "Qdrant 1.19",
    "process_start_time_seconds": "prometheus-client",
    "process_cpu_seconds_total": "prometheus-client",
}


@cache
def exposed() -> set[str]:
    """Return the names of our series as Prometheus stores them."""
    names = set()
    for row in [*Exposition().series.rows(), *gauges.rows()]:
        parts = ("_bucket", "_sum", "_count") if row.kind == "histogram" else ("",)
        names |= {row.name + part for part in parts}
    return names


def names_in(expression: str) -> set[str]:
    """Return the names of the series that an expression asks for."""
    found = set()

    def visit(node: promql_parser.Expr) -> None:
        selector = node.vector_selector if isinstance(node, promql_parser.MatrixSelector) else node
        if isinstance(selector, promql_parser.VectorSelector) and selector.name:
            found.add(selector.name)

    promql_parser.walk(promql_parser.parse(expression), visit)
    return found


def unknown(expression: str) -> set[str]:
    """Return those that nobody exposes."""
    return names_in(expression) - exposed() - set(OTHERS)
