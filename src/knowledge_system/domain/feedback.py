"""What people and agents say about an item after using it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime


class FeedbackVerdict(StrEnum):
    """`helpful`: it helped; `harmful`: it misled or got in the way; `wrong`: it is not true."""

    HELPFUL = "helpful"
    HARMFUL = "harmful"
    WRONG = "wrong"


@dataclass(frozen=True, slots=True)
class Feedback:
    """One verdict on one item. `actor` says who gave it (`user`, or the name of an agent)."""

    item_id: str
    verdict: FeedbackVerdict
    actor: str
    at: datetime
    session_id: str = ""
    note: str = ""


class FeedbackLog(Protocol):
    """All verdicts."""

    async def record(self, feedback: Feedback) -> None:
        """Append a verdict. Raises NotFound when there is no such item."""
        ...

    async def about(self, item_ids: Sequence[str]) -> dict[str, list[Feedback]]:
        """Return the verdicts on each item that has any, oldest first."""
        ...
