from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.retrieval.nouns import ANSWER, NOW, days_ago, exchange, item

from knowledge_system.domain.knowledge import Evidence, ItemStatus
from knowledge_system.domain.search import SearchRequest
from knowledge_system.domain.sessions import ExchangeFacts
from knowledge_system.retrieval.candidates import UNKNOWN_TIME, Candidate
from knowledge_system.retrieval.fusion import SESSION_WEIGHT, Fused
from knowledge_system.retrieval.ranking import LEAST, MOST, SAME_WORDS, _twin, age, freshness, rank

if TYPE_CHECKING:
    from knowledge_system.domain.knowledge import KnowledgeItem
    from knowledge_system.domain.sessions import Exchange

REQUEST = SearchRequest("q", include_deprecated=True)
SHARED = "one session"


def candidate(row: KnowledgeItem | Exchange, relevance: float) -> Candidate:
    return Candidate(row, Fused(row.id, relevance), relevance)


def ranked(*candidates: Candidate, **values: Any) -> list[Candidate]:
    return rank(SearchRequest("q", **{"include_deprecated": True, **values}), candidates, NOW)


def names(found: list[Candidate]) -> list[str]:
    return [one.id for one in found]


@pytest.mark.parametrize(
    ("days", "expected"), [(0, "fresh"), (30, "fresh"), (31, "recent"), (180, "recent"), (181, "old")]
)
def test_freshness_is_a_matter_of_age(days: int, expected: str) -> None:
    assert freshness(days_ago(days), NOW) == expected


def test_a_future_time_is_fresh_and_the_time_zero_unknown() -> None:
    assert freshness(days_ago(-3), NOW) == "fresh"
    assert freshness(UNKNOWN_TIME, NOW) == "unknown"


@pytest.mark.parametrize(
    ("days", "words"),
    [
        (0, "today"),
        (1, "1 day ago"),
        (3, "3 days ago"),
        (59, "59 days ago"),
        (60, "2 months ago"),
        (729, "24 months ago"),
        (730, "2 years ago"),
        (-5, "today"),
    ],
)
def test_age_in_words(days: int, words: str) -> None:
    assert age(days_ago(days), NOW) == words


def test_relevance_decides_first() -> None:
    found = ranked(
        candidate(exchange("a", "one"), 0.4), candidate(exchange("b", "two", "Other words entirely " * 5), 0.6)
    )
    assert names(found) == ["xb", "xa"]


def test_confidence_and_age_decide_between_equals() -> None:
    sure = item("a", "alpha", session_id=SHARED, confidence=0.9, evidence=())
    doubtful = item("b", "beta", session_id=SHARED, confidence=0.3, evidence=())
    old = item("c", "gamma", session_id=SHARED, confidence=0.9, valid_from=days_ago(400), evidence=())
    found = ranked(*(candidate(one, 0.5) for one in (doubtful, old, sure)))
    assert names(found) == ["ka", "kc", "kb"]
    assert "confidence 0.90" in found[0].why
    assert "learned 10 days ago" in found[0].why
    assert "learned 13 months ago" in found[1].why


@given(st.floats(0.3, 1), st.floats(0, 1), st.floats(0, 1), st.integers(0, 2000), st.integers(0, 2000))
def test_no_adjustment_overturns_a_clear_difference(
    relevance: float, confidence: float, other: float, days: int, other_days: int
) -> None:
    better = item("a", "alpha", session_id=SHARED, confidence=confidence, valid_from=days_ago(days), evidence=())
    worse = item("b", "beta", session_id=SHARED, confidence=other, valid_from=days_ago(other_days), evidence=())
    clear = relevance * LEAST / MOST * (1 - SESSION_WEIGHT) * 0.9
    found = ranked(candidate(worse, clear), candidate(better, relevance))
    assert names(found)[0] == "ka"


def test_interrupted_and_empty_answers_stand_lower() -> None:
    cut = exchange("a", "p", ANSWER, session_id=SHARED, facts=ExchangeFacts(interrupted=True))
    empty = exchange("b", "q", "ok", session_id=SHARED)
    full = exchange(
        "c", "r", "A different but complete answer with everything that one needs to know.", session_id=SHARED
    )
    found = ranked(candidate(cut, 0.5), candidate(empty, 0.5), candidate(full, 0.5))
    assert found[0].id == "xc"
    assert "ranked lower: the answer was interrupted" in found[1].why
    assert "ranked lower: hardly any answer" in found[2].why


def test_an_item_leads_its_exchange_which_is_folded() -> None:
    base = exchange("a", "why", ANSWER)
    other = exchange("b", "what", "Something else altogether that nobody asked for in this place. ")
    learned = item("a", "because")
    found = ranked(candidate(base, 0.6), candidate(other, 0.3), candidate(learned, 0.55))
    assert names(found) == ["ka", "xb", "xa"]
    assert "rests on 1 exchange found as well" in found[0].why
    assert "told by ka above" in found[2].why
    assert found[0].score >= max(one.score for one in found)


def test_an_item_that_hardly_matches_does_not_hide_its_exchange() -> None:
    found = ranked(candidate(exchange("a", "why", ANSWER), 0.6), candidate(item("a", "because"), 0.2))
    assert names(found) == ["xa", "ka"]
    assert not any(one.folded for one in found)


def test_a_replaced_item_stands_right_below_what_replaced_it() -> None:
    old = item(
        "old", "use the old way", status=ItemStatus.SUPERSEDED, superseded_by="knew", valid_to=days_ago(1), evidence=()
    )
    new = item("new", "use the new way instead", evidence=())
    third = item("third", "something in between", evidence=())
    found = ranked(candidate(old, 0.9), candidate(third, 0.5), candidate(new, 0.4))
    assert names(found) == ["kthird", "knew", "kold"]
    assert "supersedes kold" in found[1].why
    assert "superseded by knew" in found[2].why


def test_a_chain_of_replacements_and_even_a_circle_come_to_an_end() -> None:
    def old(name: str, by: str) -> KnowledgeItem:
        return item(
            name,
            f"title {name}",
            status=ItemStatus.SUPERSEDED,
            superseded_by=f"k{by}",
            valid_to=days_ago(1),
            evidence=(),
        )

    chain = ranked(
        candidate(old("1", "2"), 0.9), candidate(old("2", "3"), 0.8), candidate(item("3", "last", evidence=()), 0.3)
    )
    assert names(chain)[0] == "k3"
    assert sorted(names(chain)) == ["k1", "k2", "k3"]
    circle = ranked(candidate(old("1", "2"), 0.9), candidate(old("2", "1"), 0.8))
    assert sorted(names(circle)) == ["k1", "k2"]


def test_what_was_replaced_later_counts_as_current_when_looking_back() -> None:
    old = item("old", "the way", status=ItemStatus.SUPERSEDED, superseded_by="knew", valid_to=days_ago(1))
    (back,) = ranked(candidate(old, 0.5), as_of=days_ago(2))
    (now,) = ranked(candidate(old, 0.5))
    assert back.score > now.score
    assert not any("superseded" in reason for reason in back.why)


def test_the_same_text_again_is_folded_to_the_end() -> None:
    twice = [exchange(name, "how to flush", ANSWER, session_id=name) for name in "ab"]
    other = exchange("c", "unrelated question", "A wholly different reply about another matter, long enough to count.")
    found = ranked(*(candidate(one, 0.6) for one in twice), candidate(other, 0.3))
    assert names(found) == ["xa", "xc", "xb"]
    assert found[-1].folded
    assert "says the same as xa" in found[-1].why


def test_an_item_and_an_exchange_with_the_same_words_are_not_duplicates() -> None:
    row = exchange("a", "how to flush", ANSWER)
    twin = item("b", "how to flush", ANSWER, evidence=(Evidence("xgone", "user", 0, 1),))
    assert not any(one.folded for one in ranked(candidate(row, 0.5), candidate(twin, 0.5)))


def test_nothing_to_rank() -> None:
    assert ranked() == []


@given(st.frozensets(st.integers(0, 60), max_size=50), st.frozensets(st.integers(0, 60), max_size=4))
def test_texts_say_the_same_by_the_jaccard_similarity_of_their_words(
    numbers: frozenset[int], changed: frozenset[int]
) -> None:
    one = frozenset(map(str, numbers))
    other = frozenset(map(str, numbers ^ changed))
    same = bool(one) and len(one & other) >= SAME_WORDS * len(one | other)
    assert _twin(one, [("other", other)] if other else []) == ("other" if same else None)


WAYS = ("flush before the fork", "pin the version", "wait for the lock", "quote the path", "retry once with a pause")


@pytest.mark.parametrize("limit", [1, 3, 5])
def test_what_is_shown_repeats_nothing_although_what_comes_after_it_is_not_compared(limit: int) -> None:
    rows = [item(f"{number}", WAYS[number // 2], WAYS[number // 2]) for number in range(10)]
    found = ranked(*(candidate(row, 0.9 - place / 100) for place, row in enumerate(rows)), limit=limit)
    assert names(found)[:limit] == [f"k{2 * number}" for number in range(limit)]


def test_a_replaced_item_that_moves_down_does_not_bring_a_repetition_up() -> None:
    old = item("old", "port", "use port 80", superseded_by="knew", status=ItemStatus.SUPERSEDED)
    other, again = (item(name, "lock", "wait for the lock") for name in ("other", "again"))
    new = item("new", "port", "use port 8080 behind the proxy")
    rows = (old, 0.9), (other, 0.7), (again, 0.69), (new, 0.5)
    found = ranked(*(candidate(row, score) for row, score in rows), limit=2)
    assert names(found) == ["kother", "knew", "kold", "kagain"]
