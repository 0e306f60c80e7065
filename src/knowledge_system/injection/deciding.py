"""Injection is decided, not assumed: each item found is injected or refused, and either has a reason.

The order of the reasons is the order of the checks: an item that fails several is told the first.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from knowledge_system.domain.injection import Injection, InjectionDecision, Occasion, Trust
from knowledge_system.domain.sensitivity import Sensitivity
from knowledge_system.domain.sessions import normalised
from knowledge_system.domain.trajectory import Intent, SessionState
from knowledge_system.injection import rendering

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from knowledge_system.domain.injection import InjectionRequest
    from knowledge_system.domain.trajectory import TrajectoryPoint

DEFAULT_THRESHOLD: Final = 0.5
"""Score from which an item is worth its place in a prompt; see `docs/decisions/0008-injection.md`."""
FOREIGN_MARGIN: Final = 0.1
"""By how much an item of another project must be better."""
INTENT_MARGIN: Final = 0.05
"""By how much an item's bar moves when its type is, or is not, what the intent asks for."""
BLOCKED_RELIEF: Final = 0.05
"""A session that is blocked may be shown what is a little less sure to help."""
LEAST_PROMPT_WORDS: Final = 3
"""A prompt of fewer words ("go on", "yes please") says nothing that could be looked up."""
LEAST_TRUST: Final = Trust.AGENT
HARMFUL_AT: Final = 1
"""Verdicts `harmful` or `wrong`, beyond the `helpful` ones, from which an item is not injected any more."""

_WANTED: Final[dict[Intent, frozenset[str]]] = {
    Intent.DEBUGGING: frozenset({"bug_solution", "tool_usage", "integration_pattern"}),
    Intent.FEATURE_DEV: frozenset(
        {"implementation_strategy", "architectural_decision", "coding_pattern", "integration_pattern"}
    ),
    Intent.REFACTORING: frozenset({"refactoring", "architectural_decision", "coding_pattern"}),
    Intent.TESTING: frozenset({"test_strategy", "bug_solution"}),
    Intent.OPTIMIZATION: frozenset({"optimization"}),
}


@dataclass(frozen=True, slots=True)
class Rules:
    """What the settings allow."""

    threshold: float = DEFAULT_THRESHOLD
    max_items: int = 3
    max_tokens: int = 600


@dataclass(frozen=True, slots=True)
class Offer:
    """One item that was found, with what decides about it. `harmful` counts bad verdicts beyond good ones."""

    shown: rendering.Shown
    score: float
    trust: Trust
    sensitivity: Sensitivity
    superseded: bool = False
    harmful: int = 0


@dataclass(frozen=True, slots=True)
class Situation:
    """Where the session stands: its project, what it was shown already, its last point, the time."""

    project: str
    shown: frozenset[str]
    point: TrajectoryPoint | None
    now: datetime


def decide(request: InjectionRequest, offers: Sequence[Offer], situation: Situation, rules: Rules) -> Injection:
    """Return what to inject of what was found, best first, and why or why not for each."""
    record = _Record(request, situation.now)
    blocks: list[str] = []
    spent = rendering.tokens(rendering.OPENING + rendering.CLOSING)
    for offer in offers:
        reason, detail = _refusal(offer, situation, rules)
        block = rendering.block(offer.shown)
        cost = rendering.tokens(block)
        if not reason and len(blocks) >= rules.max_items:
            reason, detail = "over-count", f"{rules.max_items} better ones were injected"
        if not reason and spent + cost > rules.max_tokens:
            reason, detail = "over-budget", f"{spent} + {cost} of {rules.max_tokens} tokens"
        if not reason:
            blocks.append(block)
            spent += cost
        record.add(offer, reason or "injected", detail, 0 if reason else cost)
    if not offers:
        record.whole("nothing-found", "")
    goal = situation.point.goal if situation.point else ""
    return Injection(rendering.text(blocks, request.occasion, goal), tuple(record.decisions))


def nothing(request: InjectionRequest, now: datetime, reason: str, detail: str = "") -> Injection:
    """Return an injection of nothing, with the reason for the occasion as a whole."""
    record = _Record(request, now)
    record.whole(reason, detail)
    return Injection("", tuple(record.decisions))


def worth_asking(request: InjectionRequest) -> str:
    """Return why a prompt is not even looked up, empty when it is."""
    if request.occasion is Occasion.SESSION_START:
        return ""
    prompt = request.prompt.strip()
    if prompt.startswith("/"):
        return "command"
    return "too-short" if len(prompt.split()) < LEAST_PROMPT_WORDS else ""


def bar(offer: Offer, situation: Situation, rules: Rules) -> float:
    """Return the score that an item has to reach here."""
    level = rules.threshold
    if offer.shown.project != situation.project:
        level += FOREIGN_MARGIN
    point = situation.point
    if point is None:
        return level
    wanted = _WANTED.get(point.intent) if point.intent else None
    if wanted is not None:
        level += -INTENT_MARGIN if offer.shown.type in wanted else INTENT_MARGIN
    return level - BLOCKED_RELIEF if point.state is SessionState.BLOCKED else level


def _refusal(  # noqa: PLR0911 -- one return a reason
    offer: Offer, situation: Situation, rules: Rules
) -> tuple[str, str]:
    """Return why an item is refused and more about it, empty when it may be injected."""
    if offer.superseded:
        return "superseded", ""
    if offer.sensitivity is Sensitivity.SECRET:
        return "secret", ""
    if offer.sensitivity is Sensitivity.CONFIDENTIAL and offer.shown.project != situation.project:
        return "confidential", f"belongs to {offer.shown.project}"
    if offer.trust < LEAST_TRUST:
        return "untrusted", f"the word of {offer.trust.name.lower()}"
    if offer.harmful >= HARMFUL_AT:
        return "harmful", f"{offer.harmful} verdicts against it"
    if offer.shown.id in situation.shown:
        return "shown-before", ""
    needed = bar(offer, situation, rules)
    if offer.score < needed:
        return "below-threshold", f"{offer.score:.2f} of {needed:.2f}"
    return "", ""


class _Record:
    def __init__(self, request: InjectionRequest, now: datetime) -> None:
        self._request = request
        self._now = now
        folded = normalised(request.prompt).encode("utf-8", "surrogatepass")
        self._hash = hashlib.sha256(folded).hexdigest()[:32] if request.prompt else ""
        self.decisions: list[InjectionDecision] = []

    def add(self, offer: Offer, reason: str, detail: str, cost: int) -> None:
        self._append(offer.shown.id, reason, detail, cost, offer.score)

    def whole(self, reason: str, detail: str) -> None:
        self._append("", reason, detail, 0, None)

    def _append(self, item: str, reason: str, detail: str, cost: int, score: float | None) -> None:
        self.decisions.append(
            InjectionDecision(
                session_id=self._request.session_id,
                at=self._now,
                occasion=self._request.occasion,
                prompt_hash=self._hash,
                item_id=item,
                injected=reason == "injected",
                reason=reason,
                detail=detail,
                score=score,
                tokens=cost,
            )
        )
