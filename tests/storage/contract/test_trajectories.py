"""What every implementation of `Trajectories` promises."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

import pytest
from tests.storage.conftest import POSTGRES
from tests.storage.samples import START, HandClock, exchange, minute, save

from knowledge_system.domain.sensitivity import Sensitivity
from knowledge_system.domain.sessions import Exchange
from knowledge_system.domain.trajectory import (
    ActiveConcept,
    Engagement,
    Intent,
    SessionState,
    Trajectories,
    TrajectoryPoint,
)
from knowledge_system.domain.truth import Learned, Truth
from knowledge_system.storage.database import Database
from knowledge_system.testing.trajectory import MemoryTrajectories
from knowledge_system.testing.truth import memory_truth
from knowledge_system.testing.truth_store import Store

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@dataclass
class Both:
    truth: Truth
    paths: Trajectories

    async def track(self, *points: TrajectoryPoint) -> None:
        known = await self.truth.exchanges.get([one.exchange_id for one in points])
        await self.paths.save(points, {key: one.content_hash for key, one in known.items()})

    async def waiting(self) -> list[str]:
        return [one.id for one in await self.paths.untracked(100)]


@pytest.fixture(params=["memory", "sqlite", POSTGRES])
async def both(request: pytest.FixtureRequest, clock: HandClock) -> AsyncIterator[Both]:
    if request.param == "memory":
        store = Store(clock)
        yield Both(memory_truth(clock, store), MemoryTrajectories(store))
        return
    opened = await Database.open(request.getfixturevalue(f"{request.param}_url"), clock)
    yield Both(opened.truth(), opened.path_state().trajectories)
    await opened.close()


def point(name: str, **values: Any) -> TrajectoryPoint:
    one = TrajectoryPoint(
        exchange_id=f"x{name}",
        session_id="s1",
        index=0,
        at=START,
        intent=Intent.DEBUGGING,
        intent_confidence=0.75,
        goal="Find out why the build fails",
        state=SessionState.EXPLORING,
        state_confidence=0.5,
        concepts=(ActiveConcept("pytest", Engagement.APPLYING, 0.5),),
        changed=("intent", "goal"),
        trigger="the agent only looked",
        method="words-1",
    )
    return replace(one, **values)


async def three(both: Both) -> list[Exchange]:
    """Three exchanges of one session, ten minutes apart."""
    made = [exchange(name, index=at, timestamp=minute(10 * at)) for at, name in enumerate("abc")]
    await save(both.truth, *made)
    return made


async def test_a_point_comes_back_as_it_was(both: Both) -> None:
    await three(both)
    await both.track(point("a"))
    assert await both.paths.history("s1") == [point("a")]
    assert await both.paths.latest(["s1", "other"]) == {"s1": point("a")}
    assert await both.paths.history("other") == []


async def test_points_are_found_by_exchange(both: Both) -> None:
    await three(both)
    await both.track(point("a"), point("b", index=1, at=minute(10)))
    assert await both.paths.of(["xb", "xc", "nobody"]) == {"xb": point("b", index=1, at=minute(10))}
    assert await both.paths.of([]) == {}


async def test_a_point_without_intent_and_concepts_comes_back(both: Both) -> None:
    await three(both)
    bare = point("a", intent=None, concepts=(), changed=(), trigger="", goal="")
    await both.track(bare)
    assert await both.paths.history("s1") == [bare]


async def test_untracked_comes_oldest_first_and_bounded(both: Both) -> None:
    await save(both.truth, exchange("b", timestamp=minute(2)), exchange("a", timestamp=minute(1)))
    assert await both.waiting() == ["xa", "xb"]
    assert [one.id for one in await both.paths.untracked(1)] == ["xa"]
    await both.track(point("a"), point("b"))
    assert await both.waiting() == []


async def test_points_stand_in_the_order_of_their_exchanges_even_over_several_files(both: Both) -> None:
    first = exchange("z", index=5, path="/logs/one.jsonl", timestamp=minute(1))
    second = exchange("a", index=0, path="/logs/two.jsonl", timestamp=minute(2))
    await save(both.truth, first, second)
    await both.track(point("z", index=5), point("a", index=0, goal="later"))
    assert [one.exchange_id for one in await both.paths.history("s1")] == ["xz", "xa"]
    assert (await both.paths.latest(["s1"]))["s1"].goal == "later"


async def test_a_point_stands_at_the_moment_its_exchange_is_ordered_by(both: Both) -> None:
    await save(both.truth, exchange("a", timestamp=None))
    await both.track(point("a", at=datetime.fromisoformat("1970-01-01T00:00:00+00:00")))
    assert [one.at for one in await both.paths.history("s1")] == [START]  # the start of the session


async def test_saving_again_replaces_the_point(both: Both) -> None:
    await three(both)
    await both.track(point("a"))
    await both.track(point("a", intent=Intent.TESTING))
    (only,) = await both.paths.history("s1")
    assert only.intent is Intent.TESTING


async def test_the_exchange_gets_the_intent_and_the_index_hears_of_it_once(both: Both) -> None:
    await three(both)
    entries = await both.truth.outbox.pending("words", 9)
    await both.truth.outbox.advance(entries, None)
    await both.track(point("a"))
    found = await both.truth.exchanges.get(["xa", "xb"])
    assert (found["xa"].intent, found["xb"].intent) == ("debugging", None)
    assert [one.owner_id for one in await both.truth.outbox.pending("words", 9)] == ["xa"]
    await both.truth.outbox.advance(await both.truth.outbox.pending("words", 9), None)
    await both.track(point("a", goal="other"))
    assert await both.truth.outbox.depth() == {}


async def test_an_exchange_that_grew_while_it_was_judged_stays_untracked(both: Both) -> None:
    (judged, *_) = await three(both)
    await save(both.truth, replace(judged, assistant="a much longer answer", content_hash="grown"))
    await both.paths.save([point("a")], {"xa": judged.content_hash})
    assert "xa" in await both.waiting()
    assert (await both.truth.exchanges.get(["xa"]))["xa"].intent is None


async def test_an_exchange_that_grew_later_is_tracked_again(both: Both) -> None:
    (first, *_) = await three(both)
    await both.track(point("a"), point("b", index=1), point("c", index=2))
    await save(both.truth, replace(first, assistant="a much longer answer", content_hash="grown"))
    assert await both.waiting() == ["xa"]


async def test_what_follows_a_point_made_again_is_made_again(both: Both) -> None:
    (_, second, _) = await three(both)
    await save(both.truth, exchange("q", session_id="s2", timestamp=minute(90)))
    every = [point(name, index=at) for at, name in enumerate("abc")]
    await both.track(*every, point("q", session_id="s2"))
    await save(both.truth, replace(second, assistant="a much longer answer", content_hash="grown"))
    await both.track(every[1])
    assert await both.waiting() == ["xc"]  # neither what came before nor the other session
    await both.track(every[2])
    assert await both.waiting() == []


async def test_an_exchange_that_arrives_late_reopens_what_follows_it(both: Both) -> None:
    await three(both)
    await both.track(*(point(name, index=at) for at, name in enumerate("abc")))
    await save(both.truth, exchange("late", index=0, timestamp=minute(5)))
    await both.track(point("late"))
    assert await both.waiting() == ["xb", "xc"]


async def test_points_of_unknown_or_forgotten_exchanges_are_left_out(both: Both) -> None:
    await three(both)
    await both.truth.exchanges.forget(["xa"])
    await both.track(point("a"), point("nobody"), point("b", index=1))
    assert [one.exchange_id for one in await both.paths.history("s1")] == ["xb"]


async def test_forgetting_an_exchange_erases_what_later_points_quote_of_it(both: Both) -> None:
    await three(both)
    await both.track(*(point(name, index=at) for at, name in enumerate("abc")))
    await both.truth.exchanges.forget(["xa"])
    assert await both.paths.history("s1") == []
    assert await both.waiting() == ["xb", "xc"]


async def test_an_exchange_that_turns_out_to_be_confidential_is_not_quoted_any_more(both: Both) -> None:
    await three(both)
    await both.track(*(point(name, index=at) for at, name in enumerate("abc")))
    await both.truth.items.learn(Learned(judged={"xb": "none"}, levels={"xb": Sensitivity.CONFIDENTIAL}))
    assert await both.paths.history("s1") == []
    assert await both.waiting() == ["xa", "xb", "xc"]


async def test_a_level_that_changes_nothing_leaves_the_path(both: Both) -> None:
    await three(both)
    await both.track(*(point(name, index=at) for at, name in enumerate("abc")))
    await both.truth.items.learn(Learned(judged={"xb": "none"}, levels={"xb": Sensitivity.INTERNAL}))
    assert await both.waiting() == []


async def test_sums_over_sessions_states_and_transitions(both: Both) -> None:
    await three(both)
    await save(both.truth, exchange("q", session_id="s2", project="web", timestamp=minute(90)))
    await both.track(
        point("a"),
        point("b", index=1, state=SessionState.VERIFYING),
        point("c", index=2, state=SessionState.ON_TRACK, intent=None),
        point("q", session_id="s2", intent=Intent.TESTING),
    )
    found = await both.paths.statistics()
    assert (found.sessions, found.points) == (2, 4)
    assert dict(found.intents) == {"debugging": 2, "none": 1, "testing": 1}
    assert dict(found.states) == {"exploring": 2, "verifying": 1, "on_track": 1}
    assert dict(found.seconds_in_state) == {"exploring": 600.0, "verifying": 600.0}
    assert dict(found.state_transitions) == {("exploring", "verifying"): 1, ("verifying", "on_track"): 1}
    assert dict(found.intent_transitions) == {("debugging", "none"): 1}


async def test_sums_over_a_project_and_since_a_moment(both: Both) -> None:
    await three(both)
    await save(both.truth, exchange("q", session_id="s2", project="web", timestamp=minute(90)))
    await both.track(*(point(name, index=at) for at, name in enumerate("abc")), point("q", session_id="s2"))
    assert (await both.paths.statistics(project="web")).points == 1
    assert (await both.paths.statistics(since=minute(10))).points == 3
    assert (await both.paths.statistics(project="none of ours")).points == 0


async def test_a_break_does_not_count_as_time_in_a_state(both: Both) -> None:
    await save(both.truth, exchange("a", timestamp=minute(0)), exchange("b", index=1, timestamp=minute(600)))
    await both.track(point("a"), point("b", index=1))
    assert dict((await both.paths.statistics()).seconds_in_state) == {"exploring": 1800.0}
