"""How the budget stands at one moment: read in one statement, judged here."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING

from knowledge_system.domain.money import BudgetStatus, Tier
from knowledge_system.storage.engine_queries import SCOPE_SUMS, STANDING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Any

    from sqlalchemy import Connection

LIMIT = "limit:"
"""Name of the setting of the global limit, and the beginning of those of the others."""
FROZEN = "frozen"
OFFLINE = "offline"
RECOMPUTED = "recomputed"

_ORDER = list(Tier)
_MOST_MEMORIES = 256


@dataclass(frozen=True, slots=True)
class BudgetRules:
    """What the configuration says about money; a limit or switch set by hand takes its place in all processes.

    `tiers` are the shares of the limit at which LOCAL_FIRST and LOCAL_ONLY begin (operations guide: 80 % and 90 %).
    A tier below 100 % is left `hysteresis` below where it was entered, so that a hold that comes and goes does not
    flicker. Without a configuration nothing may be spent.
    """

    limit_nano: int = 0
    offline: bool = False
    tiers: tuple[float, float] = (0.8, 0.9)
    hysteresis: float = 0.05

    def tier(self, limit: int, taken: int, current: Tier | None) -> Tier:
        """Return the tier for `taken` of `limit`; `current` None when the month or the limit is new."""
        share = taken / limit if limit else 1.0
        starts = dict(zip(_ORDER[1:], (*self.tiers, 1.0), strict=True))
        top = _last(tier for tier, start in starts.items() if share >= start)
        if current is None:
            return top
        floor = _last(tier for tier, start in starts.items() if share >= start - (self.hysteresis if start < 1 else 0))
        return max(top, min(current, floor, key=_ORDER.index), key=_ORDER.index)


def _last(tiers: Iterable[Tier]) -> Tier:
    return max(tiers, key=_ORDER.index, default=Tier.NORMAL)


@dataclass(frozen=True, slots=True)
class Sums:
    """A month's money in nano-dollars; `settled` and `unmeasured` reach up to the settled row number `after`."""

    after: int = 0
    settled: int = 0
    unmeasured: int = 0
    held: int = 0
    charged: int = 0
    """Holds that expired: at their worst case until somebody settles them after all."""

    @property
    def taken(self) -> int:
        """What counts against the limit."""
        return self.settled + self.charged + self.held


@dataclass(frozen=True, slots=True)
class Basis:
    """Sums that are known, and the number of the setting since which they are: an order to recompute is a setting."""

    epoch: int
    sums: Sums


@dataclass(frozen=True, slots=True)
class Told:
    """The tier in force and the one somebody was told last."""

    month: str = ""
    tier: Tier = Tier.NORMAL
    told: Tier = Tier.NORMAL
    row: int = 0
    """Its number in the table; a higher one is newer."""


@dataclass(frozen=True, slots=True)
class Leave:
    """What may be set aside without another look: while no setting or tier is newer, and the sum stays in between."""

    month: str
    settings: int
    tier: int
    sums: Sums
    low: int
    high: int
    limits: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Standing:
    """Settings in force (an amount of None: the limit was removed), sums of `month`, and the tier on record."""

    rules: BudgetRules
    month: str
    sums: Sums
    settings: Mapping[str, int | None] = field(default_factory=dict)
    recorded: Told = field(default_factory=Told)
    newest: int = 0
    """The number of the newest setting."""

    @property
    def limit(self) -> int:
        """The global limit."""
        amount = self.settings.get(LIMIT)
        return self.rules.limit_nano if amount is None else amount

    @property
    def frozen(self) -> bool:
        """Tell whether all paid calls are refused."""
        return bool(self.settings.get(FROZEN))

    @property
    def offline(self) -> bool:
        """Tell whether nothing remote may be asked."""
        return bool(self.settings.get(OFFLINE, self.rules.offline))

    def limits(self) -> dict[str, int]:
        """Return the limits of projects and operations."""
        named = ((name.removeprefix(LIMIT), amount) for name, amount in self.settings.items() if name.startswith(LIMIT))
        return {key: amount for key, amount in named if key and amount is not None}

    def tier(self, added: int = 0, *, fresh: bool = False) -> Tier:
        """Return the tier when `added` is spent besides; `fresh` forgets the one on record."""
        current = None if fresh or self.recorded.month != self.month else self.recorded.tier
        return self.rules.tier(self.limit, self.sums.taken + added, current)

    @property
    def calm(self) -> bool:
        """Tell whether the tier is the one on record, and the one told."""
        return self.tier() is self.recorded.tier is self.recorded.told

    def leave(self) -> Leave | None:
        """Return between which sums nothing but a hold would have to be written; None where there are none."""
        recorded = self.recorded
        ours = recorded.month == self.month
        if self.frozen or not (ours or recorded.tier is Tier.NORMAL):
            return None
        between = _band(self.rules, self.limit, recorded.tier, ours=ours)
        if between is None:
            return None
        return Leave(self.month, self.newest, recorded.row, self.sums, *between, self.limits())

    def status(self, sums: Sums, month: str, tier: Tier) -> BudgetStatus:
        """Return the sums of a month with the tier and switches of now."""
        return BudgetStatus(
            month=month,
            limit_nano=self.limit,
            settled_nano=sums.settled + sums.charged,
            reserved_nano=sums.held,
            unmeasured_nano=sums.unmeasured + sums.charged,
            tier=tier,
            frozen=self.frozen,
            offline=self.offline,
            limits=self.limits(),
        )


@lru_cache(maxsize=64)
def _band(rules: BudgetRules, limit: int, tier: Tier, *, ours: bool) -> tuple[int, int] | None:
    """Return the lowest and the highest sum up to `limit` at which `tier` stays in force; None where there is none.

    Tiers only rise with the sum, so both ends are found by halving. `ours`: the tier was entered in this month.
    """
    rank = _ORDER.index(tier)

    def first(least: int) -> int:
        """Return the lowest sum whose tier is at least number `least`, `limit + 1` where there is none."""
        low, high = 0, limit + 1
        while low < high:
            middle = (low + high) // 2
            if _ORDER.index(rules.tier(limit, middle, tier if ours else None)) >= least:
                high = middle
            else:
                low = middle + 1
        return low

    low, high = first(rank), first(rank + 1) - 1
    return (low, high) if low <= high else None


class StandingReader:
    """Reads standings. Remembers sums over settled rows, which never change: only newer ones are added each time.

    What is remembered was committed when it was read; it is never more than a shortcut for summing from the first row,
    and `recompute` in any process makes all of them do just that.
    """

    def __init__(self, rules: BudgetRules) -> None:
        self._rules = rules
        self._known: dict[tuple[int, str, str, str], Sums] = {}
        self._epoch = 0

    def read(self, connection: Connection, month: str) -> Standing:
        """Return how the budget stands in `month`."""
        basis = self.basis(month)
        rows = connection.execute(STANDING, {"month": month, "after": basis.sums.after}).all()
        return self.judged(month, basis, rows) or self.read(connection, month)

    def basis(self, month: str, kind: str = "", name: str = "") -> Basis:
        """Return what is known of the settled rows of a month, all of it or of one `project` or `operation`."""
        epoch = self._epoch  # once: another thread may be reading too
        return Basis(epoch, self._known.get((epoch, month, kind, name), Sums()))

    def judged(self, month: str, basis: Basis, rows: Sequence[Sequence[Any]]) -> Standing | None:
        """Return the standing that the rows of `STANDING` after `basis` tell; None when all has to be read again."""
        settings = {row[1]: int(row[4]) if row[5] else None for row in rows if row[0] == "setting"}
        newest = max((int(row[6]) for row in rows if row[0] == "setting"), default=0)
        epoch = next((int(row[6]) for row in rows if row[1] == RECOMPUTED), 0)
        if epoch != basis.epoch:
            self._epoch = epoch
            return None
        told = next((Told(row[1], Tier(row[2]), Tier(row[3]), int(row[6])) for row in rows if row[0] == "tier"), Told())
        sums = self._added((epoch, month, "", ""), basis.sums, rows)
        return Standing(self._rules, month, sums, settings, told, newest)

    def sums(self, connection: Connection, month: str, kind: str = "", name: str = "") -> Sums:
        """Return the sums of a month, all of it or of one `project` or `operation`."""
        basis = self.basis(month, kind, name)
        values = {"month": month, "after": basis.sums.after} | ({"name": name} if kind else {})
        rows = connection.execute(SCOPE_SUMS[kind], values).all()
        return self._added((basis.epoch, month, kind, name), basis.sums, rows)

    def _added(self, key: tuple[int, str, str, str], known: Sums, rows: Iterable[Sequence[Any]]) -> Sums:
        after, settled, unmeasured, held, charged = known.after, known.settled, known.unmeasured, 0, 0
        for row in rows:
            if row[0] == "settled" and row[6]:
                after, settled, unmeasured = int(row[6]), settled + int(row[4]), unmeasured + int(row[5])
            elif row[0] == "open":
                held, charged = int(row[4]), int(row[5])
        if after != known.after:
            if len(self._known) >= _MOST_MEMORIES:
                self._known = {}
            self._known[key] = Sums(after, settled, unmeasured)
        return Sums(after, settled, unmeasured, held, charged)
