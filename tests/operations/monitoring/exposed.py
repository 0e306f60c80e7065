"""The series that exist, ours from the code that exposes them, others' by name; and what may be asked of each."""

from __future__ import annotations

import inspect
from functools import cache

import promql_parser
from prometheus_client.utils import floatToGoString

from knowledge_system.domain import errors, inference
from knowledge_system.domain.feedback import FeedbackVerdict
from knowledge_system.operations import gauges
from knowledge_system.operations.exposition import Exposition
from knowledge_system.operations.series import CACHE_RESULTS, LEARNED, REFUSALS

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


OF_A_TARGET = {"job", "instance", "exported_job", "le"}
"""Labels that Prometheus puts on every series, gives another name, or makes of buckets."""
OF_COUNTERS, OF_GAUGES = {"rate", "irate", "increase"}, {"delta", "deriv", "predict_linear"}


@cache
def _rows() -> dict[str, tuple[str, set[str]]]:
    """Return the kind and the labels of each of our series by the name that Prometheus stores."""
    found = {}
    for row in [*Exposition().series.rows(), *gauges.rows()]:
        for part in ("_bucket", "_sum", "_count") if row.kind == "histogram" else ("",):
            found[row.name + part] = ("counter" if part else row.kind, set(row.labels) | OF_A_TARGET)
    return found


@cache
def _values() -> dict[tuple[str, str], set[str]]:
    """Return the values of labels that have a fixed set, by series and label."""
    kinds = [*vars(errors).values(), *vars(inference).values()]
    codes = {kind.code for kind in kinds if inspect.isclass(kind) and issubclass(kind, errors.KnowledgeError)}
    bounds = {
        (f"{row.name}_bucket", "le"): {floatToGoString(bound) for bound in (*row.buckets, float("inf"))}
        for row in Exposition().series.rows()
    }
    return bounds | {
        ("knowledge_cache_requests_total", "result"): set(CACHE_RESULTS),
        ("knowledge_learning_outcomes_total", "outcome"): set(LEARNED),
        ("knowledge_http_refused_total", "reason"): set(REFUSALS),
        ("knowledge_feedback_total", "verdict"): {str(one) for one in FeedbackVerdict},
        ("knowledge_inference_requests_total", "outcome"): codes | {"answered", "cancelled"},
        ("knowledge_searches_total", "degraded"): {"yes", "no"},
        ("knowledge_spend_usd", "window"): set(gauges.WINDOWS),
        ("knowledge_capture_exchanges", "state"): {"expected", "captured"},
    }


def mistakes(expression: str) -> set[str]:
    """Return what an expression asks in vain: labels and values that a series never has, a rate of what is no counter.

    A query for them is no error for Prometheus: it has no data, or data that mean nothing, for ever.
    """
    found: set[str] = set()

    def visit(node: promql_parser.Expr) -> None:
        if isinstance(node, promql_parser.VectorSelector) and node.name in _rows():
            found.update(_wrong_matchers(node))
        elif isinstance(node, promql_parser.MatrixSelector) and node.vector_selector.name in _rows():
            found.update(_wrong_matchers(node.vector_selector))
        elif isinstance(node, promql_parser.Call):
            found.update(_wrong_kind(node))

    promql_parser.walk(promql_parser.parse(expression), visit)
    return found


def _wrong_matchers(node: promql_parser.VectorSelector) -> set[str]:
    _, labels = _rows()[node.name]
    named = {one.name: set(one.value.split("|")) for one in node.matchers.matchers}
    wrong = {f"{node.name} has no label {label}" for label in named.keys() - labels}
    return wrong | {
        f"{node.name}: {label} is never {value}"
        for label, values in named.items()
        for value in values - _values().get((node.name, label), values)
    }


def _wrong_kind(node: promql_parser.Call) -> set[str]:
    ranges = [one.vector_selector.name for one in node.args if isinstance(one, promql_parser.MatrixSelector)]
    kinds = {name: _rows()[name][0] for name in ranges if name in _rows()}
    wanted = "counter" if node.func.name in OF_COUNTERS else "gauge" if node.func.name in OF_GAUGES else ""
    return {f"{node.func.name} of the {kind} {name}" for name, kind in kinds.items() if wanted and kind != wanted}
