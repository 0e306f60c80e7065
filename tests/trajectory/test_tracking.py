"""What the path says of sessions as they really go."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.trajectory import sessions
from tests.trajectory.sessions import PASSES, edit, exchange, read, run

from knowledge_system.domain.sensitivity import Sensitivity
from knowledge_system.domain.sessions import Exchange, ExchangeFacts, ToolCall
from knowledge_system.domain.trajectory import Engagement, Intent, SessionState, TrajectoryPoint
from knowledge_system.trajectory.intents import shipped_model
from knowledge_system.trajectory.tracking import LOOKS_BACK, Tracker


def tracked(exchanges: list[Exchange]) -> list[TrajectoryPoint]:
    return Tracker(shipped_model()).track(exchanges)


def states(exchanges: list[Exchange]) -> list[str]:
    return [one.state.value for one in tracked(exchanges)]


def test_a_bug_that_is_found_fixed_and_accepted() -> None:
    first, second, third = tracked(sessions.fixed_bug())
    assert (first.intent, first.state) == (Intent.DEBUGGING, SessionState.EXPLORING)
    assert (second.state, second.trigger) == (SessionState.ON_TRACK, "changes were made and the last check passed")
    assert (third.intent, third.state) == (None, SessionState.ON_TRACK)
    assert first.goal.startswith("The checkout crashes with")
    assert {first.goal} == {second.goal, third.goal}


def test_the_same_error_again_blocks_and_is_named() -> None:
    first, second, third = tracked(sessions.blocked_loop())
    assert first.state is SessionState.VERIFYING
    assert (second.state, third.state) == (SessionState.BLOCKED, SessionState.BLOCKED)
    assert "cannot find module 'sharp'" in second.trigger


def test_a_correction_puts_the_session_off_track_and_a_passing_check_back() -> None:
    first, second, third = tracked(sessions.corrected())
    assert (first.intent, first.state) == (Intent.FEATURE_DEV, SessionState.IMPLEMENTING)
    assert (second.state, second.trigger.split(";")[0]) == (SessionState.OFF_TRACK, "the user corrects the agent")
    assert third.state is SessionState.ON_TRACK
    assert {first.goal} == {second.goal, third.goal}


def test_a_feature_its_tests_its_docs_and_another_task() -> None:
    points = tracked(sessions.from_feature_to_docs())
    assert [one.intent for one in points] == [
        Intent.FEATURE_DEV, Intent.TESTING, Intent.DOCUMENTATION, None, Intent.OPTIMIZATION,
    ]  # fmt: skip
    assert {one.goal for one in points[:4]} == {points[0].goal}
    assert "backup" in points[4].goal
    assert "goal" in points[4].changed
    assert "turned to something else" in points[4].trigger


def test_many_failing_checks_in_one_exchange_block() -> None:
    failing = run("cargo test", "error[E0502]: cannot borrow\n3 failed", failed=True)
    (point,) = tracked([exchange(0, "make the borrow checker happy", tools=(failing, edit("a.rs"), failing, failing))])
    assert (point.state, point.trigger.split(";")[0]) == (SessionState.BLOCKED, "3 checks failed, the last one too")


def test_failing_first_and_passing_in_the_end_is_on_track() -> None:
    failing = run("cargo test", "error[E0502]: cannot borrow\n3 failed", failed=True)
    assert states(
        [exchange(0, "fix it", tools=(failing, failing, failing, edit("a.rs"), run("cargo test", "ok")))]
    ) == ["on_track"]


def test_an_interruption_puts_the_session_off_track() -> None:
    (point,) = tracked([exchange(0, "rename the helper", "", (edit("a.py"),), interrupted=True)])
    assert (point.state, point.trigger.split(";")[0]) == (SessionState.OFF_TRACK, "the user interrupted the agent")


def test_an_agent_that_cannot_go_on_is_blocked() -> None:
    answer = "I cannot access the staging database. Please provide the credentials."
    assert states([exchange(0, "check how many orders are open on staging", answer)]) == ["blocked"]


def test_looking_around_is_exploring_and_running_checks_is_verifying() -> None:
    looked = exchange(0, "get an overview of the project", tools=(read("a.py"), run("ls -la", "a.py")))
    assert states([looked, exchange(1, "run the tests", tools=(PASSES,))]) == ["exploring", "verifying"]


def test_a_prompt_without_an_answer_yet_leaves_the_state_with_little_confidence() -> None:
    done, waiting = tracked([sessions.fixed_bug()[1], exchange(2, "now add the same for the wish list", "")])
    assert waiting.state is done.state
    assert waiting.state_confidence < done.state_confidence


def test_an_empty_exchange_changes_nothing() -> None:
    first, empty = tracked([sessions.fixed_bug()[0], exchange(1, "", "")])
    assert (empty.intent, empty.goal, empty.state) == (None, first.goal, first.state)


def test_concepts_are_applied_or_learned_about_and_fade() -> None:
    asked = exchange(0, "what is the difference between redis and postgres for a queue?", "Redis keeps it in memory.")
    worked = exchange(1, "add a celery worker", tools=(edit("jobs/worker.py"),), files=("jobs/worker.py",))
    other = [
        exchange(at, "center the title on the page", tools=(edit("a.css"),), files=("a.css",)) for at in range(2, 8)
    ]
    points = tracked([asked, worked, *other])
    first = {one.name: one.engagement for one in points[0].concepts}
    assert first["redis"] is first["postgres"] is Engagement.LEARNING
    then = {one.name: one for one in points[1].concepts}
    assert then["python"].engagement is then["worker.py"].engagement is Engagement.APPLYING
    assert then["redis"].weight < 0.5
    assert {one.name for one in points[-1].concepts} == {"css", "a.css"}


def test_a_confidential_exchange_gives_neither_goal_nor_concepts() -> None:
    secret = replace(
        exchange(0, "Add the merger with Initech to the redis importer", tools=(edit("m.py"),)),
        sensitivity=Sensitivity.CONFIDENTIAL,
    )
    (point,) = tracked([secret])
    assert (point.goal, point.concepts) == ("", ())
    assert "Initech" not in point.trigger


def test_what_changed_is_named() -> None:
    points = tracked(sessions.from_feature_to_docs())
    assert points[0].changed == ("intent", "goal", "state")
    assert points[1].changed == ("intent", "state")
    assert all(one.method == "words-1" for one in points)


STORIES = [sessions.fixed_bug, sessions.blocked_loop, sessions.corrected, sessions.from_feature_to_docs]


def in_pieces(exchanges: list[Exchange], cuts: list[int]) -> list[TrajectoryPoint]:
    points: list[TrajectoryPoint] = []
    for start, end in zip([0, *cuts], [*cuts, len(exchanges)], strict=True):
        earlier = exchanges[max(0, start - LOOKS_BACK) : start]
        points += Tracker(shipped_model()).track(exchanges[start:end], points[-1] if points else None, earlier)
    return points


@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.__name__)
def test_a_session_that_grows_between_runs_gets_the_same_points(story: object) -> None:
    exchanges = story()  # type: ignore[operator]
    every = list(range(1, len(exchanges)))
    assert in_pieces(exchanges, every) == tracked(exchanges)
    assert in_pieces(exchanges, every[:1]) == tracked(exchanges)


WORDS = st.sampled_from(
    [
        "fix",
        "the",
        "tests",
        "Error: boom",
        "why",
        "add",
        "`name`",
        "\n",
        "```",
        "no, wrong",
        "thanks",
        "\u4fee\u590d",
        "a.py",
        "1",
        "?",
    ]
)
TEXTS = st.one_of(st.text(max_size=200), st.lists(WORDS, max_size=30).map(" ".join))
CALLS = st.builds(
    ToolCall,
    name=st.sampled_from(["Bash", "Edit", "Read", "", "mcp__x", "apply_patch"]),
    input=TEXTS,
    output=TEXTS,
    is_error=st.booleans(),
)


@st.composite
def stories(draw: st.DrawFn) -> list[Exchange]:
    parts = draw(st.lists(st.tuples(TEXTS, TEXTS, st.lists(CALLS, max_size=4), st.booleans()), min_size=1, max_size=6))
    return [
        replace(exchange(at, user, answer, tuple(calls)), facts=ExchangeFacts(interrupted=stopped))
        for at, (user, answer, calls, stopped) in enumerate(parts)
    ]


@settings(max_examples=60, deadline=None)
@given(stories(), st.integers(0, 6))
def test_any_session_has_sound_points_whatever_it_says_and_however_it_is_cut(
    exchanges: list[Exchange], cut: int
) -> None:
    points = tracked(exchanges)
    assert [one.exchange_id for one in points] == [one.id for one in exchanges]
    for one in points:
        assert 0 <= one.intent_confidence <= 1
        assert 0 <= one.state_confidence <= 1
        assert all(0 < concept.weight <= 1 for concept in one.concepts)
        assert len(one.goal) <= 160
    if 0 < cut < len(exchanges):
        assert in_pieces(exchanges, [cut]) == points
