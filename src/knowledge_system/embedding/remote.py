"""The larger space: 1536 dimensions, computed by a provider through the engine, which owns money and privacy."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from knowledge_system.domain.embedding import EmbeddingSpace
from knowledge_system.domain.errors import DependencyUnavailable, ModelUnavailable, WrongDimension
from knowledge_system.domain.inference import EmbedCall
from knowledge_system.domain.sensitivity import Sensitivity

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from knowledge_system.domain.embedding import Vector
    from knowledge_system.domain.inference import EmbedReply, LanguageModel

DIMENSION: Final = 1536
"""What text-embedding-3-small makes by itself, and the collection `knowledge_1536` is named after."""
MAX_TOKENS: Final = 8191
"""Input limit of the OpenAI embedding models (8,192 is refused by some servers). A text is cut at as many bytes of
UTF-8: a token covers at least one, so no text is ever refused for its length. Passages and questions are shorter."""
REVISION: Final = "1"
"""Raised whenever what is sent for a text changes: vectors of another revision are another space."""
PASSAGE: Final = "embed-passage"
QUERY: Final = "embed-query"
NOTHING: Final = "(empty)"
"""Sent for a text without a visible character: providers refuse empty input."""


@dataclass(frozen=True, slots=True)
class Purpose:
    """What a call is for and what it carries: the engine decides by it who may see the texts, and books by it.

    `deadline` is when the caller stops waiting; None leaves that to the engine.
    """

    operation: str = PASSAGE
    sensitivity: Sensitivity = Sensitivity.INTERNAL
    project: str = ""
    deadline: datetime | None = None


@dataclass(slots=True)
class Meter:
    """What a model's answers cost so far; requests that nobody answered are in the ledger only."""

    requests: int = 0
    tokens: int = 0
    cost_nano: int = 0

    def read(self, reply: EmbedReply) -> None:
        """Add an answer."""
        self.requests += len(reply.attempts)
        self.tokens += reply.usage.input if reply.usage and not reply.cached else 0
        self.cost_nano += reply.cost_nano


@dataclass(frozen=True, slots=True)
class RemoteOptions:
    """Whose model makes the vectors. `shorten` asks a model with longer vectors of its own for 1536 dimensions."""

    provider: str
    model: str
    batch_size: int = 32
    shorten: bool = False


def remote_space(provider: str, model: str) -> EmbeddingSpace:
    """Return the identity `provider:model:1536:revision`: the same name elsewhere may be another model."""
    return EmbeddingSpace(f"{provider}:{model}", DIMENSION, REVISION)


class RemoteEmbeddingModel:
    """An EmbeddingModel whose texts leave this machine: every call has a purpose, and goes through the engine.

    The texts of one call are judged together, so put texts of one level into it (`serving`).
    """

    def __init__(self, engine: LanguageModel, options: RemoteOptions, purpose: Purpose | None = None) -> None:
        self._engine = engine
        self._options = options
        self._purpose = purpose or Purpose()
        self._space = remote_space(options.provider, options.model)
        self.meter = Meter()

    @property
    def space(self) -> EmbeddingSpace:
        """The space of provider and model."""
        return self._space

    @property
    def max_tokens(self) -> int:
        """8191 at most; what comes after as many bytes is ignored."""
        return MAX_TOKENS

    def serving(self, purpose: Purpose) -> RemoteEmbeddingModel:
        """Return the same model for another purpose, on the same meter."""
        other = RemoteEmbeddingModel(self._engine, self._options, purpose)
        other.meter = self.meter
        return other

    async def embed(self, texts: Sequence[str]) -> list[Vector]:
        """Return one unit-length vector of 1536 values per text, in order; one batch after another.

        Raises ModelUnavailable when nobody answers, WrongDimension when the vectors are not of this space, and what the
        engine refuses: PrivacyRefused, BudgetExhausted, PriceUnknown. The batches before are paid then, and lost: a
        caller that wants to keep them calls with one batch.
        """
        vectors: list[Vector] = []
        size = self._options.batch_size
        for start in range(0, len(texts), size):
            vectors += await self._batch(texts[start : start + size])
        return vectors

    async def _batch(self, texts: Sequence[str]) -> Sequence[Vector]:
        call = EmbedCall(
            texts=tuple(map(sendable, texts)),
            provider=self._options.provider,
            model=self._options.model,
            dimensions=DIMENSION if self._options.shorten else None,
            **{field.name: getattr(self._purpose, field.name) for field in dataclasses.fields(Purpose)},
        )
        try:
            reply = await self._engine.embed(call)
        except DependencyUnavailable as error:
            raise ModelUnavailable(error.message, hint=error.hint) from error
        self.meter.read(reply)
        self._check(reply, len(texts))
        return reply.vectors

    def _check(self, reply: EmbedReply, count: int) -> None:
        lengths = {len(vector) for vector in reply.vectors}
        if lengths - {DIMENSION}:
            found = ", ".join(map(str, sorted(lengths)))
            raise WrongDimension(
                f"{self._space.model} answered with vectors of {found} values instead of {DIMENSION}",
                hint="name a model of 1536 dimensions in embeddings.remote.model, or set embeddings.remote.shorten",
            )
        if len(reply.vectors) != count:
            raise ModelUnavailable(
                f"{self._space.model} answered {len(reply.vectors)} vectors for {count} texts",
                hint="see `knowledge providers status`",
            )


def sendable(text: str) -> str:
    """Return what is sent for `text`: valid UTF-8 of at most `MAX_TOKENS` bytes with something visible in it."""
    start = text[:MAX_TOKENS].replace("\0", " ")
    cut = start if start.isascii() else start.encode("utf-8", "replace")[:MAX_TOKENS].decode("utf-8", "ignore")
    return cut if cut.strip() else NOTHING
