"""One exchange after the other, a session's path goes on from the last point known; nothing before it is read again."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from knowledge_system.domain.sensitivity import Sensitivity
from knowledge_system.domain.trajectory import TrajectoryPoint
from knowledge_system.trajectory.concepts import active
from knowledge_system.trajectory.goals import content_words, goal_of, turns
from knowledge_system.trajectory.prompts import read_prompt
from knowledge_system.trajectory.states import Situation, Standing, standing
from knowledge_system.trajectory.work import Work, read_work, signatures

if TYPE_CHECKING:
    from collections.abc import Sequence

    from knowledge_system.domain.sessions import Exchange
    from knowledge_system.domain.trajectory import ActiveConcept, Intent
    from knowledge_system.trajectory.intents import Guess, IntentModel
    from knowledge_system.trajectory.prompts import Spoken

LOOKS_BACK: Final = 2
"""Exchanges before one in which an error is looked for that shows up again."""
_UNKNOWN_TIME: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class _Read:
    """An exchange as far as the path needs it."""

    exchange: Exchange
    spoken: Spoken
    work: Work
    errors: frozenset[str]


class Tracker:
    """Says of each exchange what is wanted, what for, and how it goes. Deterministic."""

    def __init__(self, model: IntentModel) -> None:
        self._model = model
        self._last: tuple[str, tuple[str, ...], Intent | None] = ("", (), None)

    @property
    def method(self) -> str:
        """What judges: name and version."""
        return f"words-{self._model.version}"

    def track(
        self, exchanges: Sequence[Exchange], point: TrajectoryPoint | None = None, earlier: Sequence[Exchange] = ()
    ) -> list[TrajectoryPoint]:
        """Return a point for each of `exchanges`, which are of one session and in order.

        `point` is the last one before them, `earlier` the exchanges (`LOOKS_BACK` are used) just before them; with
        these, a session tracked in pieces gets the same points as at once. Never raises for what texts contain.
        """
        past = [_read(one) for one in earlier[-LOOKS_BACK:]]
        points: list[TrajectoryPoint] = []
        for exchange in exchanges:
            read = _read(exchange)
            point = self._next(read, point, past)
            points.append(point)
            past = [*past, read][-LOOKS_BACK:]
        return points

    def _next(self, read: _Read, point: TrajectoryPoint | None, past: Sequence[_Read]) -> TrajectoryPoint:
        exchange = read.exchange
        guess = self._model.judge(read.spoken, point.intent if point else None, read.work)
        stands = standing(_situation(read, guess, point, past))
        open_text = exchange.sensitivity.rank <= Sensitivity.INTERNAL.rank
        concepts = point.concepts if point else ()
        goal = point.goal if point else ""
        if open_text:
            goal = self._goal(read.spoken, guess, goal, concepts)
            concepts = active(concepts, exchange, read.spoken, read.work, guess.intent)
        changed = _changed(point, guess, goal, stands)
        return TrajectoryPoint(
            exchange_id=exchange.id,
            session_id=exchange.session_id,
            index=exchange.index,
            at=exchange.timestamp or (point.at if point else _UNKNOWN_TIME),
            intent=guess.intent,
            intent_confidence=guess.confidence,
            goal=goal,
            state=stands.state,
            state_confidence=stands.confidence,
            concepts=concepts,
            changed=changed,
            trigger=_trigger(point, guess, changed, stands if open_text else _without_words(stands)),
            method=self.method,
        )

    def _goal(self, spoken: Spoken, guess: Guess, goal: str, concepts: Sequence[ActiveConcept]) -> str:
        words, before = self._meant(goal)
        about = content_words([*words, *(one.name.lower() for one in concepts)])
        return goal_of(spoken) if turns(spoken, guess.intent, goal, before, about) else goal

    def _meant(self, goal: str) -> tuple[tuple[str, ...], Intent | None]:
        """Return the words and the intent of a goal; the last one is remembered, it is asked for again and again."""
        if self._last[0] != goal:
            spoken = read_prompt(goal)
            self._last = (goal, spoken.words, self._model.judge(spoken).intent)
        return self._last[1:]


def _read(exchange: Exchange) -> _Read:
    work = read_work(exchange)
    errors = frozenset([*signatures(exchange.user), *work.errors])
    return _Read(exchange, read_prompt(exchange.user), work, errors)


def _situation(read: _Read, guess: Guess, point: TrajectoryPoint | None, past: Sequence[_Read]) -> Situation:
    known = {error for one in past for error in one.errors}
    exchange = read.exchange
    return Situation(
        prompt=exchange.user,
        intent=guess.intent,
        work=read.work,
        answered=bool(exchange.assistant.strip() or exchange.tools),
        interrupted=exchange.facts.interrupted,
        repeated=min(read.errors & known, default=""),
        before=point.state if point else None,
    )


def _without_words(stands: Standing) -> Standing:
    """Return the standing without what the reason quotes: the exchange is confidential."""
    return Standing(stands.state, stands.confidence, stands.reason.partition(":")[0])


def _changed(point: TrajectoryPoint | None, guess: Guess, goal: str, stands: Standing) -> tuple[str, ...]:
    differs = {
        "intent": point is None or point.intent is not guess.intent,
        "goal": goal != (point.goal if point else ""),
        "state": point is None or point.state is not stands.state,
    }
    return tuple(name for name, is_so in differs.items() if is_so)


def _trigger(point: TrajectoryPoint | None, guess: Guess, changed: tuple[str, ...], stands: Standing) -> str:
    said = [stands.reason]
    if "intent" in changed and guess.intent is not None:
        said.append(f"the prompt reads as {guess.intent.value}")
    if "goal" in changed and point is not None and point.goal:
        said.append("the user turned to something else")
    return "; ".join(said)
