"""The goal in the user's words, and which sessions are alike."""

from __future__ import annotations

from array import array

import pytest
from tests.trajectory import sessions

from knowledge_system.domain.trajectory import Intent, SessionState
from knowledge_system.trajectory.goals import goal_of, turns
from knowledge_system.trajectory.influence import confidence_in
from knowledge_system.trajectory.intents import shipped_model
from knowledge_system.trajectory.prompts import read_prompt
from knowledge_system.trajectory.similar import Path, alike, cosine, shortlist
from knowledge_system.trajectory.tracking import Tracker
from knowledge_system.trajectory.work import signatures

GOALS = {
    "ok great, now please add a search bar to the header. It should be small.": "Add a search bar to the header.",
    "# Plan: Soft delete for projects\n\n## Context\nPeople lose work.": "Soft delete for projects",
    "Implement the following plan:\n\n# Plan: Rate limits for the API\n\n## Context": "Rate limits for the API",
    "implement it that way.": "",
    "yes": "",
    "": "",
}


@pytest.mark.parametrize("prompt", GOALS, ids=["polite", "plan", "handed-over", "pointing", "approval", "empty"])
def test_the_goal_is_the_sentence_that_says_what_is_wanted(prompt: str) -> None:
    assert goal_of(read_prompt(prompt)) == GOALS[prompt]


def test_a_goal_is_cut_at_a_word() -> None:
    goal = goal_of(read_prompt("add " + "very " * 60 + "long names"))
    assert len(goal) <= 160
    assert goal.endswith("very\u2026")


def test_a_question_in_between_does_not_turn_the_session_but_a_plan_does() -> None:
    goal = "Add a search bar to the header."
    about = frozenset({"search", "bar", "header"})
    asked = read_prompt("what is the difference between debounce and throttle?")
    planned = read_prompt("Implement the following plan: # Plan: Invoice archive")
    assert not turns(asked, Intent.LEARNING, goal, Intent.FEATURE_DEV, about)
    assert turns(planned, Intent.FEATURE_DEV, goal, Intent.FEATURE_DEV, about)


def test_work_after_questions_turns_the_session() -> None:
    prompt = read_prompt("write a bash script that rotates the logs every night")
    assert turns(prompt, Intent.FEATURE_DEV, "What is logrotate good for?", Intent.LEARNING, frozenset({"logrot"}))


def path(name: str, story: list[sessions.Exchange]) -> Path:
    return Path(Tracker(shipped_model()).track(sessions.renamed(story, name))[-1])


def test_sessions_about_the_same_thing_are_more_alike() -> None:
    bug, twin, docs = (
        path("a", sessions.fixed_bug()),
        path("b", sessions.fixed_bug()),
        path("c", sessions.from_feature_to_docs()),
    )
    assert alike(bug, twin) > 0.8
    assert alike(bug, docs) < 0.3
    assert alike(bug, docs, meaning=1.0) > alike(bug, docs, meaning=-1.0) >= 0
    assert [one.session_id for one in shortlist(bug, [docs, twin], 1)] == ["b"]


def test_the_cosine_of_nothing_is_nothing() -> None:
    one = array("f", [1, 0]).tobytes()
    assert cosine(one, one) == pytest.approx(1)
    assert cosine(one, array("f", [0, 1]).tobytes()) == pytest.approx(0)
    assert cosine(one, array("f", [0, 0]).tobytes()) == 0.0


def test_errors_are_the_same_whatever_varies_from_run_to_run() -> None:
    first = signatures("FAILED /tmp/a1/test_x.py:12 - ValueError: 3 is odd after 0x7f3a")
    assert first
    assert first == signatures("noise\nFAILED /tmp/b22/test_x.py:99 - ValueError: 7 is odd after 0x11")
    assert first != signatures("FAILED /tmp/a1/test_x.py:12 - TypeError: no")


def test_being_blocked_makes_less_sure_and_a_passed_check_a_little_surer() -> None:
    assert confidence_in(0.8, SessionState.BLOCKED) < 0.8 < confidence_in(0.8, SessionState.ON_TRACK) < 1
    assert confidence_in(0.8, SessionState.EXPLORING) == confidence_in(0.8, None) == 0.8
    assert 0 <= confidence_in(0.0, SessionState.BLOCKED) <= confidence_in(1.0, SessionState.ON_TRACK) <= 1
