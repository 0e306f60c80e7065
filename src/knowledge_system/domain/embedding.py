"""Embedding spaces, vectors, passages, and the port of an embedding model."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeAlias

if TYPE_CHECKING:
    from array import array
    from collections.abc import Sequence

Vector: TypeAlias = "array[float]"
"""Unit-length float32 values (`array('f')`); `numpy.frombuffer(vector, numpy.float32)` costs no copy."""


@dataclass(frozen=True, slots=True)
class EmbeddingSpace:
    """The identity of a space: vectors of different spaces are never compared or stored under one key."""

    model: str
    dimension: int
    revision: str

    @property
    def key(self) -> str:
        """The identity as text, `model:dimension:revision`."""
        return f"{self.model}:{self.dimension}:{self.revision}"

    @property
    def collection(self) -> str:
        """Name of the collection that holds this dimension (`knowledge_384`)."""
        return f"knowledge_{self.dimension}"


@dataclass(frozen=True, slots=True)
class Passage:
    """A piece of text that gets a vector of its own. `view` is `whole` or `window`."""

    text: str
    view: str

    @property
    def content_hash(self) -> str:
        """32 hexadecimal digits of SHA-256 of the text: the key of the vector cache."""
        return hashlib.sha256(self.text.encode("utf-8", "surrogatepass")).hexdigest()[:32]


@dataclass(frozen=True, slots=True)
class Coverage:
    """How much of what may be embedded at all (`embeddable`: every owner but secret ones) has its vector in a space.

    An owner is `covered` when the vector of its whole text is there; `owners` are those among the owners asked for.
    """

    embeddable: int
    covered: int
    owners: frozenset[str] = frozenset()

    @property
    def share(self) -> float:
        """From 0 to 1; 1 when there is nothing to embed."""
        return self.covered / self.embeddable if self.embeddable else 1.0


class EmbeddingModel(Protocol):
    """Turns texts into vectors of one space."""

    @property
    def space(self) -> EmbeddingSpace:
        """The space all vectors of this model live in."""
        ...

    @property
    def max_tokens(self) -> int:
        """Tokens of a text that the model reads; what comes after is ignored."""
        ...

    async def embed(self, texts: Sequence[str]) -> list[Vector]:
        """Return one unit-length vector per text, in order. Raises ModelUnavailable when the model cannot run."""
        ...


class LocalModel(EmbeddingModel, Protocol):
    """A model on this machine, loaded on first use."""

    async def load(self) -> None:
        """Load now instead of at the first text. Raises ModelUnavailable."""
        ...
