"""An embedding model without a model: words are hashed to signed dimensions."""

from __future__ import annotations

import hashlib
import math
import re
from array import array
from typing import TYPE_CHECKING

from knowledge_system.domain.embedding import EmbeddingSpace

if TYPE_CHECKING:
    from collections.abc import Sequence

    from knowledge_system.domain.embedding import Vector

_WORD = re.compile(r"\w+")
_READ_AT_MOST = 65_536
"""Characters of a text that are looked at, so that a huge one costs nothing."""


class HashingEmbeddingModel:
    """Deterministic bag of words: texts that share words are near, others are about orthogonal.

    Feature hashing after Weinberger et al. 2009: a hash gives each word a dimension and a sign. Length is 1.
    `embedded` counts the texts that were computed, for tests of caches in front of a model.
    """

    def __init__(self, dimension: int = 384, revision: str = "1") -> None:
        self._space = EmbeddingSpace("hashing", dimension, revision)
        self.embedded = 0

    @property
    def space(self) -> EmbeddingSpace:
        """The space of this dimension and revision."""
        return self._space

    @property
    def max_tokens(self) -> int:
        """Words that are read; what comes after is ignored."""
        return 256

    async def embed(self, texts: Sequence[str]) -> list[Vector]:
        """Return one unit-length vector per text, in order."""
        self.embedded += len(texts)
        return [self.vector(text) for text in texts]

    def vector(self, text: str) -> Vector:
        """Return the vector of one text; not counted."""
        values = [0.0] * self._space.dimension
        for word in _WORD.findall(text[:_READ_AT_MOST].lower())[: self.max_tokens]:
            number = int.from_bytes(hashlib.blake2b(word.encode("utf-8", "replace"), digest_size=8).digest(), "little")
            values[(number >> 1) % len(values)] += 1.0 if number & 1 else -1.0
        length = math.sqrt(sum(value * value for value in values))
        if length == 0.0:
            values[0] = length = 1.0  # no words: one fixed direction, as a real model has for the empty text
        return array("f", [value / length for value in values])
