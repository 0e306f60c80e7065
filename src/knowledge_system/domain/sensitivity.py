"""How sensitive a text is, what was found in it, and the port that makes it safe to store."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from knowledge_system.domain.embedding import Vector
    from knowledge_system.domain.sessions import Exchange, RawExchange, Session


class Sensitivity(StrEnum):
    """Where content may go: anywhere, by configuration, local models only, no model at all."""

    PUBLIC = "public"
    INTERNAL = "internal"
    CONFIDENTIAL = "confidential"
    SECRET = "secret"  # noqa: S105 -- a level, not a password

    @property
    def rank(self) -> int:
        """0 for public … 3 for secret."""
        return _ORDER.index(self)


_ORDER = list(Sensitivity)


def highest(levels: Iterable[Sensitivity], default: Sensitivity = Sensitivity.INTERNAL) -> Sensitivity:
    """Return the most restrictive of `levels`: what is derived carries the level of its strictest source."""
    return max(levels, key=lambda level: level.rank, default=default)


@dataclass(frozen=True, slots=True)
class Finding:
    """A secret or personal datum found in a text: half-open character span, category and kind.

    `category` is `secret` or `personal`; `kind` is the slug shown in the placeholder (`aws-key`, `card-number`, …).
    """

    start: int
    end: int
    category: str
    kind: str


class PlaceholderMemory(Protocol):
    """Numbers the values of one session so that equal values get equal placeholders; keeps no value in clear."""

    def number(self, kind: str, value: str) -> int:
        """Return the number of `value` among the values of `kind` seen so far, starting at 1."""
        ...

    def state(self) -> dict[str, dict[str, int]]:
        """Return `{kind: {keyed digest: number}}`, storable as JSON."""
        ...


class Gatekeeper(Protocol):
    """Stands at the door: nothing is stored that has not passed here."""

    def memory(self, state: dict[str, dict[str, int]] | None = None) -> PlaceholderMemory:
        """Return the placeholder memory of a session, continued from a stored `state`."""
        ...

    def admit(self, raw: RawExchange, memory: PlaceholderMemory) -> Exchange:
        """Redact every text of `raw`, assign the level, and return the exchange that may be stored."""
        ...

    def admit_session(self, session: Session, memory: PlaceholderMemory) -> Session:
        """Redact what a session says about itself: title, working directory, branch and the texts of its metadata."""
        ...

    def scrub(self, text: str) -> tuple[str, Sensitivity]:
        """Redact a free text such as a search query and return it with its level."""
        ...


class Layer(StrEnum):
    """Who decided the level of what a model call would show: the caller, or the layer that raised or cleared it.

    `SIMILARITY_DOUBT` is near a sensitive topic, not near enough to be sure, and nobody cleared it: it counts as
    sensitive. `FAILED` means that a layer could not judge, `UNREADABLE` that no layer can (an image).
    """

    CALLER = "caller"
    PATH = "path"
    PATTERN = "pattern"
    TOPIC = "topic"
    UNREADABLE = "unreadable"
    SIMILARITY = "similarity"
    SIMILARITY_DOUBT = "similarity-doubt"
    LOCAL_MODEL = "local-model"
    FAILED = "classifier-failed"
    UNKNOWN_LEVEL = "unknown-level"


@dataclass(frozen=True, slots=True)
class Verdict:
    """The level of a content and the layer that decided it; `about` names the topics where topics decided."""

    level: Sensitivity
    layer: str
    about: str = ""


class Classifier(Protocol):
    """The layers that judge what a model call would show.

    What they do not object to is `public`: the caller's level stands. Where they fail or are late, the content counts
    as confidential.
    """

    async def classify(self, texts: Sequence[str], operation: str) -> Verdict:
        """Return what paths, patterns and topics say of all `texts` together; a JSON text is read as a document."""
        ...

    async def examine(self, texts: Sequence[str], operation: str) -> Verdict:
        """Return what the meaning of `texts` says: asked only where content would leave the machine otherwise."""
        ...


class Screen(Protocol):
    """Judges stored texts by the vectors they have anyway."""

    async def levels(self, vectors: Sequence[Sequence[Vector]]) -> list[Sensitivity | None]:
        """Return for each text, by the vectors of its passages, the level they ask for; None: no objection."""
        ...
