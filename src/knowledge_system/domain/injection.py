"""What is put into an agent's context unasked: the occasion, the decision about each item, and the record of it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime


class Trust(IntEnum):
    """Whose word an item is; the trust of an item is the lowest along its evidence.

    `WEB` came from web pages, `TOOL` from the output of tools, `AGENT` is what an agent concluded from the code at
    hand, `USER` is what the user said or accepted.
    """

    WEB = 0
    TOOL = 1
    AGENT = 2
    USER = 3


class Occasion(StrEnum):
    """When something may be injected."""

    SESSION_START = "session-start"
    PROMPT_SUBMIT = "prompt-submit"


@dataclass(frozen=True, slots=True)
class InjectionRequest:
    """An agent asks whether anything known would help now. `prompt` is empty at the start of a session."""

    occasion: Occasion
    session_id: str
    agent: str
    cwd: str
    prompt: str = ""


@dataclass(frozen=True, slots=True)
class InjectionDecision:
    """Why one item was or was not put into the context; `item_id` is empty for a decision about the whole occasion.

    `reason` is one of a fixed set of words (`injected`, `below-threshold`, `shown-before`, `untrusted`,
    `over-budget`, `switched-off`, `nothing-found`, `deadline`, …); `detail` says more. `tokens` is what it cost.
    """

    session_id: str
    at: datetime
    occasion: Occasion
    prompt_hash: str
    item_id: str
    injected: bool
    reason: str
    detail: str = ""
    score: float | None = None
    tokens: int = 0


@dataclass(frozen=True, slots=True)
class Injection:
    """What goes into the context (empty for nothing) and every decision that led there."""

    text: str
    decisions: tuple[InjectionDecision, ...]


class Injections(Protocol):
    """The record of decisions."""

    async def record(self, decisions: Sequence[InjectionDecision]) -> None:
        """Append decisions."""
        ...

    async def of_session(self, session_id: str, limit: int = 200) -> list[InjectionDecision]:
        """Return the decisions of a session, oldest first."""
        ...

    async def shown(self, session_id: str) -> frozenset[str]:
        """Return the ids of the items that this session has been shown."""
        ...
