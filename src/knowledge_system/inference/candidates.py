"""A candidate is one model of one provider; which of them a call may use, in which order, and why not the others."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from knowledge_system.domain.errors import UsageError
from knowledge_system.domain.inference import Call
from knowledge_system.domain.money import BreakerRule

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from knowledge_system.domain.inference import EmbedCall, LanguageModel, Usage
    from knowledge_system.domain.money import AuditEntry
    from knowledge_system.inference.provider import Provider


class Pricing(Protocol):
    """What one model costs, in nano-dollars."""

    def worst_case(self, call: Call | EmbedCall) -> int | None:
        """Return an upper bound for one attempt at `call`, whose `max_output` is set; None: the price is unknown."""
        ...

    def cost(self, usage: Usage, model: str = "") -> int | None:
        """Return the cost of `usage`; `model` is what the provider says answered. None: the price is unknown."""
        ...


class Free:
    """The explicit price of a local model: nothing."""

    def worst_case(self, call: Call | EmbedCall) -> int | None:
        """Return 0."""
        del call
        return 0

    def cost(self, usage: Usage, model: str = "") -> int | None:
        """Return 0."""
        del usage, model
        return 0


@dataclass(frozen=True, slots=True)
class Candidate:
    """One model of one provider.

    `local` is true only for a model on a host configured as local; nothing above `internal` goes anywhere else.
    `embeds` tells embedding models from chat models. `unavailable` says why it cannot be asked at all (no key).
    `timeout` bounds one attempt in seconds, and a stream's wait for each delta.
    """

    provider: str
    model: str
    local: bool
    port: LanguageModel
    pricing: Pricing
    rule: BreakerRule = field(default_factory=BreakerRule)
    embeds: bool = False
    unavailable: str = ""
    timeout: float = 60.0

    @property
    def name(self) -> str:
        """Provider and model, for people."""
        return f"{self.provider} ({self.model})"

    @property
    def key(self) -> tuple[str, str]:
        """The identity: provider and model."""
        return self.provider, self.model


def candidate_of(provider: Provider, rule: BreakerRule | None = None) -> Candidate:
    """Return the candidate that a provider is; what its configuration lacks makes it unavailable, with the reason."""
    return Candidate(
        provider.name,
        provider.model,
        provider.local,
        provider,
        provider.pricing,
        rule=rule or BreakerRule(),
        embeds=provider.embeds,
        unavailable=provider.problem,
        timeout=provider.timeout_seconds,
    )


@dataclass(slots=True)
class Bill:
    """What one attempt did and cost, written by the wrappers of that attempt and read by the strategy.

    `sent` turns true just before the request may leave. `repairable` tells the breaker to keep its verdict on a
    malformed reply for the repair that follows. `entry` is what the audit log will say of the attempt.
    """

    candidate: Candidate
    sent: bool = False
    outcome: str = ""
    seconds: float = 0.0
    cost_nano: int = 0
    measured: bool = True
    repairable: bool = False
    entry: AuditEntry | None = None


class AttemptFactory(Protocol):
    """Stacks the wrappers of one attempt around a candidate's port."""

    def __call__(self, bill: Bill) -> LanguageModel:
        """Return the model that makes this one attempt and writes `bill`."""
        ...


def narrowed(candidates: Iterable[Candidate], call: Call | EmbedCall) -> tuple[Candidate, ...]:
    """Return the candidates that `call` asks for by kind, provider and model."""
    embeds = not isinstance(call, Call)
    return tuple(
        candidate
        for candidate in candidates
        if candidate.embeds == embeds
        and call.provider in {None, candidate.provider}
        and call.model in {None, candidate.model, f"{candidate.provider}/{candidate.model}"}
    )


def check_known(candidates: Sequence[Candidate], call: Call | EmbedCall) -> None:
    """Raise UsageError when no configured candidate is what `call` asks for."""
    if narrowed(candidates, call):
        return
    kind = "chat" if isinstance(call, Call) else "embedding"
    known = sorted(candidate.name for candidate in candidates if candidate.embeds == (kind == "embedding"))
    asked = " ".join(filter(None, (call.provider, call.model))) or f"any {kind} model"
    raise UsageError(
        f"no configured {kind} model matches: {asked}",
        hint=f"configured: {', '.join(known) or 'none'}; see `inference.providers`",
    )


def ordered(candidates: Iterable[Candidate], priority: Sequence[str]) -> list[Candidate]:
    """Return the candidates whose provider is in `priority`, in that order; the order is also the permission."""
    rank = {provider: position for position, provider in enumerate(priority)}
    listed = [candidate for candidate in candidates if candidate.provider in rank]
    return sorted(listed, key=lambda candidate: rank[candidate.provider])


def local_first(candidates: Iterable[Candidate]) -> list[Candidate]:
    """Return the local candidates before the others, each group in its order."""
    return sorted(candidates, key=lambda candidate: not candidate.local)
