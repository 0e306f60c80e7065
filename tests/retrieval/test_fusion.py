from __future__ import annotations

from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from knowledge_system.domain.index import IndexHit, IndexHits
from knowledge_system.retrieval.fusion import EVIDENCE_PER_TERM, TYPICAL_COSINE, WORDS_WEIGHT, fuse, with_sessions
from knowledge_system.retrieval.gather import Arms

SCORES = st.dictionaries(st.sampled_from("abcdefgh"), st.floats(-1, 1), max_size=8)
WORD_SCORES = st.dictionaries(st.sampled_from("abcdefgh"), st.floats(0, 60), max_size=8)


def arms(
    whole: dict[str, float] | None = None,
    window: dict[str, float] | None = None,
    words: dict[str, float] | None = None,
    *,
    cut: bool = False,
) -> Arms:
    """Return what was gathered when owners have these scores."""
    near = [IndexHit(owner, 0, "whole", score) for owner, score in (whole or {}).items()]
    near += [IndexHit(owner, 1, "window", score) for owner, score in (window or {}).items()]
    said = [IndexHit(owner, 0, "whole", score) for owner, score in (words or {}).items()]
    return Arms(IndexHits.of(near), IndexHits.of(said), cut)


def test_owner_level_scores_are_the_best_of_the_owners_passages() -> None:
    hits = [IndexHit("a", 3, "window", 0.7), IndexHit("b", 1, "window", 0.5), IndexHit("a", 2, "window", 0.4)]
    found = {one.owner_id: one for one in fuse(Arms(IndexHits.of(hits)), terms=1)}
    assert {owner: (one.similarity, one.ordinal, one.meaning_rank) for owner, one in found.items()} == {
        "a": (0.7, 3, None),
        "b": (0.5, 1, None),
    }


def test_ranks_are_of_owners_and_the_same_for_equal_scores() -> None:
    whole, words = {"a": 0.9, "b": 0.8, "c": 0.8, "d": 0.7}, {"b": 9.0, "d": 9.0, "a": 3.0}
    found = {one.owner_id: (one.meaning_rank, one.words_rank) for one in fuse(arms(whole, words=words), terms=2)}
    assert found == {"a": (1, 3), "b": (2, 1), "c": (2, None), "d": (4, 1)}


def test_a_part_of_the_order_is_that_part_of_the_whole() -> None:
    found = fuse(arms({"a": 0.8, "b": 0.9}, {"c": 0.7, "a": 0.6}, {"b": 3.0, "d": 9.0}), terms=2)
    everything = list(found)
    assert len(found) == len(everything) == 4
    assert [*found[:2], *found[2:9]] == everything
    assert [found[place] for place in (0, 1, -1)] == [everything[place] for place in (0, 1, -1)]


def test_meaning_is_the_mean_of_whole_and_best_window() -> None:
    (one,) = fuse(arms({"a": 0.8}, {"a": 0.6}), terms=3)
    assert one.relevance == pytest.approx(0.7 / (1 + WORDS_WEIGHT))
    assert one.similarity == 0.8
    assert one.meaning_rank == 1
    assert one.words_rank is None


def test_words_count_by_what_the_question_could_reach() -> None:
    full = fuse(arms(words={"a": 2 * EVIDENCE_PER_TERM}), terms=2)[0]
    weak = fuse(arms(words={"a": EVIDENCE_PER_TERM}), terms=10)[0]
    assert full.words_share == pytest.approx(1.0)
    assert weak.words_share == pytest.approx(0.1)
    assert full.similarity == 0.0


def test_a_very_good_match_by_words_is_the_measure_for_the_others() -> None:
    found = fuse(arms(words={"a": 40.0, "b": 10.0}), terms=1)
    assert [one.words_share for one in found] == [1.0, 0.25]


def test_an_owner_missing_from_a_cut_arm_stands_at_its_lowest_score() -> None:
    found = {one.owner_id: one for one in fuse(arms({"a": 0.8, "b": 0.6}, {"c": 0.9}, cut=True), 1)}
    assert found["c"].relevance == pytest.approx((0.6 + 0.9) / 2 / (1 + WORDS_WEIGHT))


def test_an_owner_without_vectors_stands_at_a_typical_cosine() -> None:
    found = {one.owner_id: one for one in fuse(arms({"a": 0.8}, {"a": 0.8}, {"b": 9.0}), 3)}
    assert found["b"].relevance == pytest.approx((TYPICAL_COSINE + WORDS_WEIGHT) / (1 + WORDS_WEIGHT))


@given(SCORES, SCORES, WORD_SCORES, st.integers(0, 20))
def test_relevance_stays_in_its_range_and_every_owner_is_kept(
    whole: dict[str, float], window: dict[str, float], words: dict[str, float], terms: int
) -> None:
    found = list(fuse(arms(whole, window, words), terms))
    assert {one.owner_id for one in found} == {*whole, *window, *words}
    assert all(0 <= one.relevance <= 1 and 0 <= one.similarity <= 1 and 0 <= one.words_share <= 1 for one in found)
    assert found == sorted(found, key=lambda one: (-one.relevance, one.owner_id))


@given(SCORES.filter(bool), WORD_SCORES, st.sampled_from("abcdefgh"), st.floats(0.01, 0.5))
def test_more_similar_is_never_less_relevant(
    whole: dict[str, float], words: dict[str, float], owner: str, more: float
) -> None:
    whole.setdefault(owner, 0.0)
    before = {one.owner_id: one.relevance for one in fuse(arms(whole, whole, words), 4)}
    whole[owner] += more
    after = {one.owner_id: one.relevance for one in fuse(arms(whole, whole, words), 4)}
    assert after[owner] >= before[owner]
    assert all(after[other] == pytest.approx(before[other]) for other in after if other != owner)


def test_a_session_with_more_hits_lifts_its_members() -> None:
    relevance = {"a": 0.6, "b": 0.6, "c": 0.55, "d": 0.5}
    moved = with_sessions(relevance, {"a": "s1", "b": "s2", "c": "s2", "d": "s2"})
    assert moved["b"] > moved["a"]
    assert moved["c"] < moved["b"]


def test_a_clearly_better_loner_stays_first() -> None:
    moved = with_sessions({"a": 0.7, "b": 0.5, "c": 0.5, "d": 0.5}, {"a": "s1", "b": "s2", "c": "s2", "d": "s2"})
    assert max(moved, key=lambda one: moved[one]) == "a"


@given(st.dictionaries(st.text(max_size=3), st.floats(0, 1), max_size=12), st.integers(1, 4))
def test_sessions_keep_range_and_order_inside_a_session(relevance: dict[str, float], count: int) -> None:
    sessions = {owner: str(len(owner) % count) for owner in relevance}
    moved = with_sessions(relevance, sessions)
    assert moved.keys() == relevance.keys()
    assert all(0 <= value <= 1 for value in moved.values())
    for (one, value), (other, less) in permutations(relevance.items(), 2):
        if sessions[one] == sessions[other] and value > less:
            assert moved[one] >= moved[other]
