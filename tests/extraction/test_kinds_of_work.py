"""What tells the types apart: the turns of the request, and the traces of the work."""

from __future__ import annotations

from math import isfinite

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.extraction.episodes import BUG, edit, episode, run

from knowledge_system.extraction.asks import read_ask
from knowledge_system.extraction.request_kinds import REQUEST_KINDS, request_kinds
from knowledge_system.extraction.signals import read_signals
from knowledge_system.extraction.traces import TRACES, traces

SAID = "The report is built once a night from the orders table and then kept in the cache for the day."


@pytest.mark.parametrize(
    ("prompt", "kind"),
    [
        ("the export crashes with a wrong date, please fix it", "repair"),
        ("add a new option that lets users choose the colour", "build"),
        ("extract the duplicate helpers and rename the module", "restructure"),
        ("write unit tests with a mock for the clock", "test"),
        ("the query is too slow, make it faster", "speed"),
        ("deploy it with docker from the release pipeline", "ship"),
        ("connect the webhook to the payment api client", "connect"),
    ],
    ids=lambda value: value.split()[0],
)
def test_a_request_has_the_turns_of_its_kind(prompt: str, kind: str) -> None:
    found = request_kinds(read_ask(prompt))
    assert found[f"req:{kind}"] == max(found.values()) > 0


def test_the_title_of_a_handed_over_plan_is_part_of_the_request() -> None:
    plan = "Implement the following plan:\n\n# Fix: broken totals\n\n## Context\nThe sums are shown twice."
    ask = read_ask(plan)
    assert ask.title == "Fix: broken totals"
    assert request_kinds(ask)["req:repair"] > 0
    assert not read_ask("# Notes\nPlease look at the totals of the year.").title


def test_files_and_commands_leave_traces() -> None:
    found = traces(
        read_signals(
            episode(
                "go",
                SAID,
                tools=[edit("x"), run("pytest -q", "3 passed"), run("docker build ."), run("git push")],
                files=("/p/.github/workflows/ci.yml", "/p/tests/test_report.py", "/p/src/report.py", "/p/README.md"),
            )
        )
    )
    assert found["files_test"] == found["files_deploy"] == found["files_document"] == 0.25
    assert (found["ran_tests"], found["ran_deploy"], found["ran_git"], found["ran_measure"]) == (1.0, 1.0, 1.0, 0.0)


def test_blocks_of_code_are_told_by_their_language() -> None:
    answer = f"{SAID}\n\n```bash\nmake\n```\n\n```yaml\na: 1\n```\n\n```ts:src/a.ts\nlet a = 1\n```\n\n```\nout\n```"
    found = traces(read_signals(episode("how?", answer)))
    assert found["block_shell"] == found["block_config"] == found["block_code"] > 0


def test_measured_change_counts_more_than_a_number() -> None:
    plain = traces(
        read_signals(episode("how?", "The nightly job needs 40 ms and is started by the scheduler each day."))
    )
    change = traces(read_signals(episode("how?", "The nightly job dropped to 40 ms and is started by the scheduler.")))
    assert 0 < plain["said_measures"] < change["said_measures"]


def test_only_what_the_key_statements_say_counts() -> None:
    steps = "Let me deploy it.\n\n" * 12
    told = "The total was wrong because `sum_lines()` rounded each line, so I changed it to round once at the end."
    facts = (
        "It is called by `close_month()` and by `close_year()`, which both expect whole cents in the result.\n\n" * 6
    )
    found = traces(read_signals(episode("fix", f"{steps}{told}\n\n{facts}")))
    assert found["said_ship"] == 0.0
    assert found["said_repair"] > 0


@given(st.text(max_size=300), st.text(max_size=300))
def test_names_are_the_same_for_any_text(user: str, assistant: str) -> None:
    one = read_signals(episode(user, assistant))
    found = {**traces(one), **request_kinds(one.ask)}
    assert found.keys() == {*TRACES, *(f"req:{kind}" for kind in REQUEST_KINDS)}
    assert all(isfinite(value) and value >= 0 for value in found.values())
    assert found.keys() == {**traces(read_signals(BUG)), **request_kinds(read_signals(BUG).ask)}.keys()
