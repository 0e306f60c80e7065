"""How the budget stands, as routing sees it: asked at most once a second, because reserving decides anyway."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from knowledge_system.domain.errors import KnowledgeError
from knowledge_system.domain.money import Tier

if TYPE_CHECKING:
    from collections.abc import Callable

    from knowledge_system.domain.money import BudgetLedger, BudgetStatus
    from knowledge_system.inference.candidates import Candidate


class Standing:
    """Rules out remote candidates by tier, freeze and offline mode. It saves requests; the ledger is the limit."""

    def __init__(
        self,
        ledger: BudgetLedger,
        *,
        offline: bool,
        fresh_for: float,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._ledger = ledger
        self._offline = offline
        self._fresh_for = fresh_for
        self._monotonic = monotonic
        self._seen: tuple[float, BudgetStatus] | None = None

    def forget(self) -> None:
        """Ask the ledger again next time."""
        self._seen = None

    async def view(self) -> View:
        """Return the rules of the moment. A ledger that cannot be read leaves local models only."""
        if self._offline:
            return View("offline mode", budget=False)
        try:
            status = await self._status()
        except KnowledgeError as error:
            return View(f"the ledger cannot be read: {error.message}", budget=False)
        return _view(status)

    async def _status(self) -> BudgetStatus:
        seen = self._seen
        if seen is not None and self._monotonic() - seen[0] < self._fresh_for and not _view(seen[1]).remote_out:
            return seen[1]
        # A view that would refuse is never served from memory: the money may be free again.
        status = await self._ledger.status()
        self._seen = (self._monotonic(), status)
        return status


class View:
    """`remote_out` is why remote models are out (empty: they are not); `budget` whether money is the reason."""

    __slots__ = ("budget", "local_first", "remote_out")

    def __init__(self, remote_out: str, *, budget: bool, local_first: bool = False) -> None:
        self.remote_out = remote_out
        self.budget = budget
        self.local_first = local_first

    def out(self, candidate: Candidate) -> str:
        """Return why `candidate` is out, or nothing."""
        return "" if candidate.local else self.remote_out


def _view(status: BudgetStatus) -> View:
    if status.frozen:
        return View("the budget is frozen", budget=True)
    if status.tier in {Tier.LOCAL_ONLY, Tier.EXHAUSTED}:
        return View(f"the budget is {status.tier.value}", budget=True)
    if status.offline:
        return View("offline mode", budget=False)
    return View("", budget=False, local_first=status.tier is Tier.LOCAL_FIRST)
