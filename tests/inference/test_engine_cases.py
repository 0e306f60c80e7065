"""The table of the engine cases T1 to T38 and the tests that stand for them. A case without a test fails here.

A test says by its name which cases it stands for (`test_t01_…`, `test_t01_t09_…`); `BESIDES` names those that are
called otherwise. `python -m tests.inference.test_engine_cases` prints the table.
"""

from __future__ import annotations

import ast
import re
from collections import defaultdict

import pytest
from tests.conftest import ROOT

CASES = {
    1: "concurrent admission never exceeds the limit, in one process or several",
    2: "a fallback target is priced and reserved anew",
    3: "an unknown price refuses a remote model; local is priced 0 explicitly",
    4: "an exhausted budget never blocks local models",
    5: "a counter that is lost or stale is rebuilt from the durable rows before anybody is admitted",
    6: "a late settlement lands in the month of its reservation; months are one transaction, in UTC",
    7: "a failed settlement does not inflate the counter",
    8: "a crash between reserving and settling: the hold counts, expires by its lease, is swept and reported",
    9: "state is shared by processes, not kept by each",
    10: "each threshold is told once a month, on spent + reserved, at the right percentage",
    11: "a call without max_tokens gets one before it is priced",
    12: "retries, hedges, members of an ensemble and repairs each reserve for themselves",
    13: "a client that goes away is charged its hold or its bill, never zero",
    14: "usage 0 told by a provider is believed",
    15: "a partial stream is priced at the real model, cached tokens included",
    16: "the loser of a hedge is recorded as unmeasured, at most X",
    17: "cached tokens are counted once whatever the provider's convention, writes at their own prices",
    18: "one owner of retries: N retries are N + 1 requests",
    19: "a fallback ends: each target at most once a call",
    20: "no pause while a fallback is ready",
    21: "a breaker trips for a provider that stands alone",
    22: "a longer Retry-After extends an open breaker",
    23: "the state of breakers is visible in other processes within a second",
    24: "half-open permits are leased and returned on cancellation and timeout",
    25: "4xx open no breaker and are not retried; a misconfigured provider is marked; fallbacks use their own model",
    26: "the state of breakers can be read",
    27: "the cache's key covers the whole request, unknown fields included",
    28: "an answer lies under the model that gave it",
    29: "errors, truncations, refusals and invalid schemas are never cached",
    30: "an omitted temperature is not 0",
    31: "sensitive content has a keyspace of its own and is in no shared cache by default",
    32: "coalescing survives the cancellation of leaders and followers",
    33: "nothing from Redis is unpickled",
    34: "labels of metrics are bounded",
    35: "a failing sink does not queue without bound",
    36: "failed attempts keep neither prompt nor response",
    37: "importing calls nobody",
    38: "sensitive content reaches local transports only, and failure is an error",
}
BESIDES = {
    9: ("tests/inference/contract/test_breakers.py", "tests/inference/engine/test_breaking.py"),
    17: (
        "tests/inference/providers/test_wires.py::test_usage_excludes_cached_tokens_and_includes_reasoning",
        "tests/inference/providers/test_wires.py::test_input_excludes_cached_tokens_and_hours_cost_more",
        "tests/inference/providers/test_prices.py::test_cached_tokens_have_their_own_prices",
    ),
    34: ("tests/inference/providers/test_vendors.py::test_labels_are_bounded",),
    38: (
        "tests/inference/engine/test_privacy.py::test_the_layers_are_shown_every_text_that_a_provider_would_see",
        "tests/canaries/test_gateway.py",
    ),
}
_NAMED = re.compile(r"test((?:_t\d{2})+)_")


def defined() -> dict[str, set[str]]:
    """Return the names of the test functions of each file below `tests`."""
    found: dict[str, set[str]] = {}
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        functions = (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))
        found[path.relative_to(ROOT).as_posix()] = {one.name for one in functions if one.name.startswith("test_")}
    return found


def table() -> dict[int, list[str]]:
    """Return the tests of each case by its number, those named otherwise last."""
    tests: defaultdict[int, list[str]] = defaultdict(list)
    for path, names in defined().items():
        for name in sorted(names):
            named = _NAMED.match(name)
            for number in re.findall(r"\d{2}", named[1]) if named else ():
                tests[int(number)].append(f"{path}::{name}")
    for number, others in BESIDES.items():
        tests[number] += others
    return dict(tests)


@pytest.mark.parametrize("number", CASES, ids=lambda number: f"T{number}")
def test_every_case_has_a_test(number: int) -> None:
    assert table().get(number), f"T{number} has no test: {CASES[number]}"


def test_no_test_stands_for_a_case_that_does_not_exist() -> None:
    assert table().keys() == CASES.keys()


def test_the_tests_that_are_named_elsewhere_exist() -> None:
    known = defined()
    for others in BESIDES.values():
        for identity in others:
            path, _, name = identity.partition("::")
            assert name in known[path] if name else known[path], identity


if __name__ == "__main__":
    for case, stands in sorted(table().items()):
        print(f"T{case} {CASES[case]}", *stands, sep="\n  ")  # noqa: T201 -- what it is for
