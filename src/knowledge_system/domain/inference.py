"""Model calls: what is asked, what comes back, how it can fail, and the port that every wrapper implements."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Protocol

from knowledge_system.domain.errors import DependencyUnavailable, RefusedByPolicy
from knowledge_system.domain.sensitivity import Sensitivity

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from datetime import datetime

    from knowledge_system.domain.embedding import Vector

NANO = 1_000_000_000
"""Nano-dollars of a dollar: money is an integer number of these, never a float."""


@dataclass(frozen=True, slots=True)
class Message:
    """One message: `role` is system, user, assistant or tool; `content` is text or the parts a gateway client sent."""

    role: str
    content: str | tuple[Mapping[str, Any], ...]
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Call:
    """One logical call, whatever number of attempts it takes.

    `operation` says what it is for (`extract`, `classify-intent`, …). `deadline` is when the caller stops waiting.
    `idempotency_key` makes a repeated call find the first one's result. `max_output` bounds the cost; the engine sets
    it when it is missing. `schema` asks for JSON that validates. `model` and `provider` narrow the candidates.
    """

    operation: str
    messages: tuple[Message, ...]
    project: str = ""
    sensitivity: Sensitivity = Sensitivity.INTERNAL
    deadline: datetime | None = None
    idempotency_key: str | None = None
    prompt_version: str = ""
    max_output: int | None = None
    temperature: float | None = None
    schema: Mapping[str, Any] | None = None
    model: str | None = None
    provider: str | None = None
    strategy: str | None = None
    cacheable: bool | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)
    layer: str = ""
    """Which layer decided the level: set by the engine's privacy gate, for the audit."""


@dataclass(frozen=True, slots=True)
class EmbedCall:
    """Texts to embed in one space; the same envelope as a Call."""

    operation: str
    texts: tuple[str, ...]
    project: str = ""
    sensitivity: Sensitivity = Sensitivity.INTERNAL
    deadline: datetime | None = None
    idempotency_key: str | None = None
    model: str | None = None
    provider: str | None = None
    dimensions: int | None = None
    layer: str = ""
    """As `Call.layer`."""


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens as billed: `input` excludes cached ones, whatever the provider's convention. None: not told."""

    input: int = 0
    output: int = 0
    cache_read: int = 0
    cache_write: int = 0
    cache_write_hour: int = 0
    reasoning: int = 0
    cost_nano: int | None = None
    """The provider's own figure, believed when present."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """One request to one provider: how it ended and what it cost. `measured` False: charged at most this."""

    provider: str
    model: str
    outcome: str
    seconds: float
    cost_nano: int = 0
    measured: bool = True


@dataclass(frozen=True, slots=True)
class Reply:
    """The answer to a Call. `route` says in words why this provider answered; `finish`: stop, length, tool, refusal."""

    text: str
    provider: str
    model: str
    usage: Usage | None = None
    finish: str = "stop"
    data: Any = None
    cost_nano: int = 0
    cached: bool = False
    attempts: tuple[Attempt, ...] = ()
    route: str = ""
    confidence: float | None = None
    message: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Delta:
    """A piece of a streamed answer; the last one carries the whole reply."""

    text: str = ""
    reply: Reply | None = None
    raw: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class EmbedReply:
    """Vectors in the order of the texts, unit length, of one space."""

    vectors: tuple[Vector, ...]
    provider: str
    model: str
    usage: Usage | None = None
    cost_nano: int = 0
    cached: bool = False
    attempts: tuple[Attempt, ...] = ()


class FailureKind(StrEnum):
    """Whose fault a failed attempt is. Only `TIMEOUT`, `CONNECTION`, `SERVER`, `MALFORMED` count for the breaker."""

    RATE_LIMITED = "rate-limited"
    CAPACITY = "capacity"
    TIMEOUT = "timeout"
    CONNECTION = "connection"
    SERVER = "server"
    MALFORMED = "malformed"
    MISCONFIGURED = "misconfigured"
    NO_MONEY = "no-money"
    BAD_REQUEST = "bad-request"
    REFUSED = "refused"


class ProviderFailed(DependencyUnavailable):
    """An attempt failed. `retry_after` is in seconds; `started` tells whether tokens may have been billed.

    `usage` is what the provider said it bills all the same.
    """

    code = "provider-failed"

    def __init__(
        self, message: str, *, kind: FailureKind, provider: str, retry_after: float | None = None, started: bool = True
    ) -> None:
        super().__init__(message, hint="see `knowledge providers status`")
        self.kind = kind
        self.provider = provider
        self.retry_after = retry_after
        self.started = started
        self.usage: Usage | None = None


class BreakerOpen(DependencyUnavailable):
    """The provider's breaker lets nothing through until `retry_at`."""

    code = "breaker-open"

    def __init__(self, provider: str, retry_at: datetime | None) -> None:
        super().__init__(f"the circuit breaker of {provider} is open", hint="wait, or `knowledge providers reset`")
        self.provider = provider
        self.retry_at = retry_at


class BudgetExhausted(RefusedByPolicy):
    """Money is spent, frozen, or not enough for the worst case of this call."""

    code = "budget-exhausted"


class PrivacyRefused(RefusedByPolicy):
    """The content's level leaves no provider that may see it."""

    code = "privacy-refused"


class PriceUnknown(RefusedByPolicy):
    """A remote model without a known price is never called: its cost could not be bounded."""

    code = "price-unknown"


class NoProvider(DependencyUnavailable):
    """Every candidate was tried or ruled out; the message names each with its reason. `requests`: those sent."""

    code = "no-provider"
    requests = 0


class LanguageModel(Protocol):
    """The port of providers and of everything wrapped around them."""

    async def infer(self, call: Call) -> Reply:
        """Answer a call. Raises the errors above, never anything else."""
        ...

    def stream(self, call: Call) -> AsyncIterator[Delta]:
        """Answer piece by piece; the last delta carries the reply. Closing the iterator cancels the request."""
        ...

    async def embed(self, call: EmbedCall) -> EmbedReply:
        """Embed texts, in order."""
        ...
