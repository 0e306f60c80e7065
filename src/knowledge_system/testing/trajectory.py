"""Trajectories in memory: the same answers as the databases, over the store of `memory_truth`."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING

from knowledge_system.domain.sensitivity import Sensitivity
from knowledge_system.domain.trajectory import TrajectoryPoint, TrajectoryStatistics
from knowledge_system.testing.truth_store import kept

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from knowledge_system.domain.sessions import Exchange
    from knowledge_system.testing.truth_store import Key, Store

LONGEST_STAY = 1800.0


@dataclass(slots=True)
class _Tracked:
    point: TrajectoryPoint
    project: str
    version: str | None
    level: Sensitivity


class MemoryTrajectories:
    """The port `Trajectories` in memory; it passes the contract suite of the databases."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._tracked: dict[str, _Tracked] = {}

    async def untracked(self, limit: int) -> list[Exchange]:
        """Return exchanges that have no point for their present content, oldest first."""
        self._sweep()
        waiting = [one for key, one in self._store.exchanges.items() if not self._current(key)]
        return [one.exchange for one in sorted(waiting, key=lambda one: one.key)[:limit]]

    async def save(self, points: Sequence[TrajectoryPoint], versions: Mapping[str, str]) -> None:
        """Store points and the intent of their exchanges; what has been forgotten is left out."""
        self._sweep()
        store = self._store
        living = [kept(point) for point in points if point.exchange_id in store.exchanges]
        for point in living:
            stored = store.exchanges[point.exchange_id]
            exchange, version = stored.exchange, versions.get(point.exchange_id)
            placed = replace(point, at=stored.ordered_at)
            self._tracked[point.exchange_id] = _Tracked(placed, exchange.project, version, exchange.sensitivity)
            if version == exchange.content_hash:
                if exchange.intent != point.intent:
                    store.announce([exchange.id])
                stored.exchange = replace(exchange, intent=point.intent.value if point.intent else None)
        self._reopen([point.exchange_id for point in living])

    async def history(self, session_id: str) -> list[TrajectoryPoint]:
        """Return the points of a session in the order of its exchanges."""
        self._sweep()
        return [one.point for one in self._ordered() if one.point.session_id == session_id]

    async def of(self, exchange_ids: Sequence[str]) -> dict[str, TrajectoryPoint]:
        """Return the points of these exchanges, as far as there are any, by exchange id."""
        self._sweep()
        return {key: self._tracked[key].point for key in exchange_ids if key in self._tracked}

    async def latest(self, session_ids: Sequence[str]) -> dict[str, TrajectoryPoint]:
        """Return the last point of each session that has one."""
        found = {session: await self.history(session) for session in session_ids}
        return {session: points[-1] for session, points in found.items() if points}

    async def statistics(self, project: str | None = None, since: datetime | None = None) -> TrajectoryStatistics:
        """Return sums over all sessions, or over those of a project or since a moment."""
        self._sweep()
        rows = [one for one in self._ordered() if project is None or one.project == project]
        points = [one.point for one in rows if since is None or one.point.at >= since]
        pairs = [(a, b) for a, b in pairwise(points) if a.session_id == b.session_id]
        seconds: Counter[str] = Counter()
        for a, b in pairs:
            seconds[a.state.value] += min(LONGEST_STAY, max(0.0, (b.at - a.at).total_seconds()))  # type: ignore[assignment]
        intents = [(a.intent or "none", b.intent or "none") for a, b in pairs]
        return TrajectoryStatistics(
            sessions=len({one.session_id for one in points}),
            points=len(points),
            intents=Counter(str(one.intent or "none") for one in points),
            states=Counter(one.state.value for one in points),
            seconds_in_state=dict(seconds),
            state_transitions=Counter((a.state.value, b.state.value) for a, b in pairs if a.state is not b.state),
            intent_transitions=Counter((str(a), str(b)) for a, b in intents if a != b),
        )

    def _current(self, key: str) -> bool:
        found = self._tracked.get(key)
        return found is not None and found.version == self._store.exchanges[key].exchange.content_hash

    def _ordered(self) -> list[_Tracked]:
        def place(one: _Tracked) -> Key:
            return (one.point.session_id, one.point.at, one.point.index, one.point.exchange_id)

        return sorted(self._tracked.values(), key=place)

    def _reopen(self, saved: Sequence[str]) -> None:
        """Make untracked what follows the first saved exchange of each session."""
        stored = self._store.exchanges
        for session in {stored[key].exchange.session_id for key in saved}:
            first = min(stored[key].key for key in saved if stored[key].exchange.session_id == session)
            for key, found in self._tracked.items():
                if found.point.session_id == session and key not in saved and stored[key].key > first:
                    found.version = None

    def _sweep(self) -> None:
        """Drop the paths of sessions of which an exchange was forgotten, or found to be more than internal."""
        stored = self._store.exchanges
        gone = {one.point.session_id for key, one in self._tracked.items() if key not in stored or self._rose(key)}
        self._tracked = {key: one for key, one in self._tracked.items() if one.point.session_id not in gone}

    def _rose(self, key: str) -> bool:
        now = self._store.exchanges[key].exchange.sensitivity.rank
        return now > Sensitivity.INTERNAL.rank and now > self._tracked[key].level.rank
