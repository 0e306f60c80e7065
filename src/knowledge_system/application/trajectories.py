"""The path of sessions: made while learning, shown as a timeline, summed up, and compared with each other."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from typing import TYPE_CHECKING, Any, Final

from knowledge_system.domain.clock import to_public
from knowledge_system.domain.errors import ModelUnavailable, NotFound
from knowledge_system.domain.truth import Page
from knowledge_system.trajectory.intents import shipped_model
from knowledge_system.trajectory.similar import Path, alike, cosine, shortlist
from knowledge_system.trajectory.tracking import LOOKS_BACK, Tracker

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from knowledge_system.application.compose import Parts
    from knowledge_system.application.system import Progress
    from knowledge_system.domain.sessions import Exchange
    from knowledge_system.domain.trajectory import TrajectoryPoint, TrajectoryStatistics

Document = dict[str, Any]
BATCH: Final = 64
"""Exchanges tracked in one transaction."""
COMPARED: Final = 500
"""Newest sessions that are looked through for similar ones."""
EMBEDDED: Final = 48
"""Of those, the most alike by words and concepts whose goals are compared by meaning."""


async def track(parts: Parts, progress: Progress | None = None) -> int:
    """Give every exchange without one its point, oldest first, and return how many; begun again it goes on.

    Sets the intent of the exchanges, which items learned from them inherit. Needs no model and no index.
    """
    truth = await parts.truth()
    trajectories = (await parts.database()).path_state().trajectories
    tracker, done = Tracker(shipped_model()), 0
    while batch := await trajectories.untracked(BATCH):
        points: list[TrajectoryPoint] = []
        for session in _by_session(batch):
            earlier, _ = await truth.exchanges.around(session[0].id, LOOKS_BACK, 0)
            before = [one.id for one in earlier[-1:]]
            point = (await trajectories.of(before)).get(before[0]) if before else None
            points += await asyncio.to_thread(tracker.track, session, point, earlier)
        await trajectories.save(points, {one.id: one.content_hash for one in batch})
        done += len(batch)
        if progress is not None:
            progress("tracking", done, 0)
    return done


def _by_session(batch: Sequence[Exchange]) -> list[list[Exchange]]:
    found: defaultdict[str, list[Exchange]] = defaultdict(list)
    for one in batch:
        found[one.session_id].append(one)
    return list(found.values())


async def trajectory(parts: Parts, session: str) -> Document:
    """Return the timeline of a session, one point an exchange. Raises NotFound for a session that is not known."""
    points = await _history(parts, session)
    last = points[-1] if points else None
    return {
        "session": session,
        "goal": last.goal if last else "",
        "state": last.state.value if last else None,
        "intent": last.intent.value if last and last.intent else None,
        "points": [_shown(one) for one in points],
    }


async def _history(parts: Parts, session: str) -> list[TrajectoryPoint]:
    points = await (await parts.database()).path_state().trajectories.history(session)
    if not points:
        known, _ = await (await parts.truth()).exchanges.page(Page(limit=1, session_id=session))
        if not known:
            raise NotFound(f"no session is known under {session}", hint="`knowledge sessions` lists them")
    return points


def _shown(point: TrajectoryPoint) -> Document:
    return {
        "exchange_id": point.exchange_id,
        "index": point.index,
        "at": to_public(point.at),
        "intent": point.intent.value if point.intent else None,
        "intent_confidence": round(point.intent_confidence, 3),
        "goal": point.goal,
        "state": point.state.value,
        "state_confidence": round(point.state_confidence, 3),
        "concepts": [_concept(one.name, one.engagement.value, one.weight) for one in point.concepts],
        "changed": list(point.changed),
        "trigger": point.trigger,
        "method": point.method,
    }


def _concept(name: str, engagement: str, weight: float) -> Document:
    return {"name": name, "engagement": engagement, "weight": round(weight, 3)}


async def trajectory_statistics(parts: Parts, project: str | None = None, since: datetime | None = None) -> Document:
    """Return how time and exchanges divide among states and intents, and the transitions, the most common first."""
    found = await (await parts.database()).path_state().trajectories.statistics(project, since)
    return {
        "project": project,
        "since": to_public(since) if since else None,
        "sessions": found.sessions,
        "exchanges": found.points,
        "states": _shares(found),
        "intents": _ranked(found.intents),
        "state_transitions": _moves(found.state_transitions),
        "intent_transitions": _moves(found.intent_transitions),
    }


def _shares(found: TrajectoryStatistics) -> Document:
    total = sum(found.seconds_in_state.values())
    return {
        state: {
            "exchanges": count,
            "seconds": round(found.seconds_in_state.get(state, 0.0), 1),
            "share_of_time": round(found.seconds_in_state.get(state, 0.0) / total, 3) if total else None,
        }
        for state, count in _ranked(found.states).items()
    }


def _ranked(counts: Any) -> dict[str, int]:
    return dict(sorted(counts.items(), key=lambda pair: (-pair[1], pair[0])))


def _moves(counts: Any) -> list[Document]:
    ordered = sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))
    return [{"from": before, "to": after, "count": count} for (before, after), count in ordered]


async def similar_sessions(parts: Parts, session: str, limit: int = 5) -> Document:
    """Return sessions whose goal, intent and concepts are like those of `session`, best first. Raises NotFound.

    Goals are compared by meaning where the local model can be used, else by their words (`degraded` says so).
    """
    points = await _history(parts, session)
    if not points:
        return {"session": session, "goal": "", "results": [], "degraded": []}
    trajectories = (await parts.database()).path_state().trajectories
    own = Path(points[-1])
    newest, _ = await (await parts.truth()).exchanges.sessions(Page(limit=COMPARED))
    others = await trajectories.latest([one.id for one in newest if one.id != session])
    near = shortlist(own, [Path(one) for one in others.values()], EMBEDDED)
    meaning, degraded = await _by_meaning(parts, own, near)
    ranked = sorted(near, key=lambda one: (-alike(own, one, meaning.get(one.goal)), one.session_id))
    results = [_like(own, one, meaning.get(one.goal)) for one in ranked[:limit]]
    return {"session": session, "goal": own.goal, "results": results, "degraded": degraded}


async def _by_meaning(parts: Parts, own: Path, others: Sequence[Path]) -> tuple[dict[str, float], list[str]]:
    goals = list(dict.fromkeys(one.goal for one in others if one.goal))
    if not own.goal or not goals:
        return {}, []
    try:
        first, *rest = await (await parts.asker()).embed([own.goal, *goals])
    except ModelUnavailable:
        return {}, ["embedding-unavailable"]
    return {goal: cosine(first, vector) for goal, vector in zip(goals, rest, strict=True)}, []


def _like(own: Path, other: Path, meaning: float | None) -> Document:
    point = other.point
    return {
        "session": point.session_id,
        "similarity": round(alike(own, other, meaning), 3),
        "goal": point.goal,
        "intent": point.intent.value if point.intent else None,
        "state": point.state.value,
        "at": to_public(point.at),
        "shared_concepts": sorted(own.weights.keys() & other.weights.keys()),
    }
