from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.extraction.episodes import BUG, episode, run

from knowledge_system.domain.knowledge import Episode, KnowledgeType
from knowledge_system.extraction.compose import CONTENT_CHARACTERS, TITLE_CHARACTERS, Composed, compose, shown_files
from knowledge_system.extraction.signals import read_signals


def composed(one: Episode, kind: KnowledgeType = KnowledgeType.BUG_SOLUTION) -> Composed:
    found = compose(read_signals(one), kind)
    assert found is not None
    return found


def lines(found: Composed) -> dict[str, str]:
    return dict(line.split(": ", 1) for line in found.content.splitlines() if ": " in line)


def test_a_bug_reads_problem_cause_fix_check() -> None:
    told = lines(composed(BUG))
    assert told["Problem"] == "The nightly report is empty on mondays: KeyError: 'weekday'"
    assert told["Cause"].startswith("`load_rows()` filters by `date.today()`")
    assert told["Fix"].startswith("Changed `load_rows()` in `report/rows.py`")
    assert told["Verified by"] == "All 57 tests pass, including a new one for Mondays."
    assert told["Files"] == "shop/report/rows.py"


def test_the_title_says_the_insight_not_the_request() -> None:
    title = composed(BUG).title
    assert "load_rows()" in title
    assert len(title) <= TITLE_CHARACTERS
    assert not title.startswith(("I ", "Let me", "The root cause"))


@pytest.mark.parametrize(
    ("kind", "labels"),
    [
        (KnowledgeType.ARCHITECTURAL_DECISION, {"Question", "Decision"}),
        (KnowledgeType.TOOL_USAGE, {"Question", "Answer"}),
        (KnowledgeType.REFACTORING, {"Goal", "Change"}),
        (KnowledgeType.OPTIMIZATION, {"Problem", "Measure"}),
    ],
)
def test_labels_follow_the_type(kind: KnowledgeType, labels: set[str]) -> None:
    one = episode(
        "one queue or a queue per customer?",
        "I'd use one queue with a key per customer, because a queue each means thousands of consumers. Ordering holds"
        " per key. The drawback is that one slow customer delays those that share its partition.",
    )
    assert labels <= lines(composed(one, kind)).keys()


def test_a_request_that_says_nothing_is_not_quoted() -> None:
    one = episode(
        "yes, do it", "The timeout was too short because the proxy adds two seconds. Raised it to ten seconds."
    )
    assert "Problem" not in lines(composed(one))


def test_an_error_is_quoted_once() -> None:
    one = episode(
        "the build stopped:\n\nerror[E0502]: cannot borrow `x` as mutable",
        "The borrow of `x` lives until the end of the loop because `iter()` holds it. Collected the keys first.",
    )
    assert composed(one).content.count("E0502") == 1


def test_a_short_command_is_quoted_a_long_listing_is_not() -> None:
    short = episode(
        "how do I list them?",
        "The list command needs no plugin, because it is built-in.\n\n```sh\ntool list --all\n```\n",
    )
    listing = "\n".join(f"line {n} of a long listing" for n in range(40))
    long = episode(
        "how do I list them?", f"The list command needs no plugin, because it is built-in.\n\n```\n{listing}\n```\n"
    )
    assert "tool list --all" in composed(short, KnowledgeType.TOOL_USAGE).content
    assert "line 7" not in composed(long, KnowledgeType.TOOL_USAGE).content


def test_a_check_is_told_even_when_only_the_tools_show_it() -> None:
    one = episode(
        "fix it", "The handler returned early because `done` was set. Reset `done` per call.", tools=[run("npm test")]
    )
    assert lines(composed(one))["Verified by"] == "`npm test`"


def test_an_answer_without_a_statement_makes_no_item() -> None:
    assert (
        compose(read_signals(episode("go", "Let me look at it. Should I continue?")), KnowledgeType.TOOL_USAGE) is None
    )


def test_files_are_shown_once_and_shortened() -> None:
    one = episode("x", "Changed `app.py` and `time.Now` in it.", files=("/home/ann/work/shop/src/app.py",))
    assert shown_files(read_signals(one)) == ["shop/src/app.py"]


def fields(one: Episode) -> dict[str, str]:
    return {"user": one.exchange.user, "assistant": one.exchange.assistant}


def check_evidence(one: Episode, found: Composed) -> None:
    assert found.evidence
    for span in found.evidence:
        assert span.exchange_id == one.exchange.id
        text = fields(one)[span.field]
        assert 0 <= span.start < span.end <= len(text)
        assert text[span.start : span.end].strip()


def test_evidence_is_the_sentences_used() -> None:
    found = composed(BUG)
    check_evidence(BUG, found)
    quoted = [fields(BUG)[span.field][span.start : span.end] for span in found.evidence]
    assert any(text.startswith("The root cause is that `load_rows()`") for text in quoted)
    assert "All 57 tests pass, including a new one for Mondays." in quoted


SENTENCES = st.sampled_from(
    [
        "The lock is kept because the worker never returns.",
        "Let me check the log.",
        "**Moved** the check to `guard.py`, so that both paths use it!",
        "- Removed the flag `--fast`",
        "```py\nx = 1\n```",
        "All 3 tests pass.",
        "Would you like more?",
        "缓存没有失效,因为键不同。",
        "| a | b |",
        "I used `Map` instead of `dict` since order matters \U0001f389",
    ]
)


@given(st.lists(SENTENCES, max_size=12), st.sampled_from(list(KnowledgeType)), st.text(max_size=120))
def test_whatever_is_composed_holds_its_limits_and_its_evidence(
    parts: list[str], kind: KnowledgeType, user: str
) -> None:
    one = episode(user, "\n\n".join(parts))
    found = compose(read_signals(one), kind)
    if found is None:
        return
    check_evidence(one, found)
    assert 0 < len(found.title) <= TITLE_CHARACTERS + 1
    assert len(found.content) <= CONTENT_CHARACTERS
    assert "\n\n" not in found.content
