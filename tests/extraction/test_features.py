from __future__ import annotations

from math import isfinite

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.extraction.episodes import BUG, episode

from knowledge_system.extraction.cues import cues
from knowledge_system.extraction.features import by_contribution, features, ruled_out
from knowledge_system.extraction.signals import read_signals

LONG = "The importer reads the file twice, which is why it takes so long for the big customers every night."


@pytest.mark.parametrize(
    ("one", "reason"),
    [
        (episode("why?", ""), "no answer"),
        (episode("why?", LONG, interrupted=True), "interrupted"),
        (episode("why?", f"{LONG}\n\nCancelled"), "cancelled"),
        (episode("why?", "Let me look at the file."), "states nothing"),
        (episode("why?", LONG, "revert this"), "undone by the next prompt"),
        (episode("why?", LONG), ""),
        (episode("how do I unset it?", "```\nexport -n NAME\n```\nThe `-n` flag unsets it."), ""),
    ],
)
def test_rules_that_no_model_overrides(one: object, reason: str) -> None:
    assert ruled_out(read_signals(one)) == reason  # type: ignore[arg-type]


def test_a_repaired_bug_shows_its_course() -> None:
    values = features(read_signals(BUG))
    assert values["recovered"] == values["checked"] == values["accepted"] == 1.0
    assert values["repaired"] > 0
    assert values["delivered"] > 0


def test_an_open_diagnosis_is_no_repair() -> None:
    one = episode("it crashes", "The cause might be the cache. Want me to clear it and see?", "hmm are you sure?")
    values = features(read_signals(one))
    assert values["open_diagnosis"] == 1.0
    assert values["ends_asking"] == 1.0


def test_papers_are_told_from_sources() -> None:
    papers = features(
        read_signals(episode("update it", "Updated `docs/plan.md` and `CHANGELOG.md` with the new tasks."))
    )
    sources = features(read_signals(episode("update it", "Updated `src/plan.py` and `src/task.py` with the new rule.")))
    assert papers["document_share"] == 1.0
    assert sources["document_share"] == 0.0


def test_an_offer_at_the_end_is_not_unfinished_work() -> None:
    done = episode("why?", f"{LONG}\n\nLet me know if you want to change that.")
    midway = episode("why?", f"{LONG}\n\nLet me look at the reader:")
    assert features(read_signals(done))["ends_midway"] == 0.0
    assert features(read_signals(midway))["ends_midway"] == 1.0


def test_cues_point_to_the_domain_of_the_words() -> None:
    found = cues(
        read_signals(episode("how to mock the clock in a unit test?", "Use a fixture and assert on the fake clock."))
    )
    assert max((name for name in found if name.startswith("cue:")), key=lambda name: found[name]) == "cue:test_strategy"


def test_contributions_are_ranked_by_size() -> None:
    assert by_contribution({"a": 0.1, "b": -0.5, "c": 0.3}, 2) == {"b": -0.5, "c": 0.3}


@given(st.text(max_size=300), st.text(max_size=300), st.text(max_size=80))
def test_features_are_finite_numbers_for_any_text(user: str, assistant: str, later: str) -> None:
    signals = read_signals(episode(user, assistant, later))
    values = {**features(signals), **cues(signals)}
    assert all(isfinite(value) for value in values.values())
    assert values.keys() == {**features(read_signals(BUG)), **cues(read_signals(BUG))}.keys()
