"""An embedding model that remembers the questions it was asked: in this process, and those kept for every process."""

from __future__ import annotations

import asyncio
import contextlib
from collections import OrderedDict
from typing import TYPE_CHECKING

from knowledge_system.domain.embedding import Passage
from knowledge_system.domain.errors import KnowledgeError
from knowledge_system.domain.events import CacheConsulted, Emit, discard

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from knowledge_system.domain.caching import Questions
    from knowledge_system.domain.embedding import EmbeddingModel, EmbeddingSpace, Vector

OPERATION = "embed-query"
VECTOR_BYTES = 4


def key_of(text: str) -> str:
    """Return what the vector of a question is kept under: its content hash, as that of any text."""
    return Passage(text, "whole").content_hash


class RememberingModel:
    """Answers single texts from memory where it can; batches go through.

    A vector follows from its text and its space and never ages, so entries leave only when their room is needed: the
    first level holds `most` of them. The second is what `Questions` keeps; it is read as a whole, at the first text and
    with `refresh`, so that a question that is new costs no look into the database.
    """

    def __init__(self, inner: EmbeddingModel, kept: Questions | None, most: int, emit: Emit = discard) -> None:
        self._inner = inner
        self._kept = kept
        self._most = most
        self._emit = emit
        self._own: OrderedDict[str, Vector] = OrderedDict()
        self._shared: dict[str, Vector] | None = None
        self._reading = asyncio.Lock()

    @property
    def space(self) -> EmbeddingSpace:
        """The space of the model."""
        return self._inner.space

    @property
    def max_tokens(self) -> int:
        """As the model's."""
        return self._inner.max_tokens

    async def embed(self, texts: Sequence[str]) -> list[Vector]:
        """Return one vector per text, in order. Raises ModelUnavailable."""
        if len(texts) != 1:
            return await self._inner.embed(texts)
        key = key_of(texts[0])
        level, vector = await self._found(key)
        self._emit(CacheConsulted(OPERATION, level))
        return [await self._embedded(key, texts[0]) if vector is None else vector]

    async def prepare(self, text: str) -> tuple[Vector, bool]:
        """Do what `embed` does without counting it as a question; tell whether the vector was known already."""
        key = key_of(text)
        _, vector = await self._found(key)
        return (await self._embedded(key, text), False) if vector is None else (vector, True)

    async def refresh(self) -> None:
        """Read again what is kept for every process, if it was read at all."""
        if self._shared is not None:
            await self._read()

    async def cache_stats(self) -> Mapping[str, float]:
        """Return the entries held in memory, and the bytes of their vectors."""
        held = {**(self._shared or {}), **self._own}
        return {"size": len(held), "bytes": VECTOR_BYTES * sum(map(len, held.values()))}

    def forget(self) -> None:
        """Drop what is held in memory; what is kept is read again at the next text."""
        self._own.clear()
        self._shared = None

    async def _found(self, key: str) -> tuple[str, Vector | None]:
        """Return the level that has a vector, and the vector; one of the second level moves up."""
        vector, level = self._own.get(key), "l1"
        if vector is None and self._shared is None:
            async with self._reading:
                if self._shared is None:
                    await self._read()
        if vector is None:
            vector, level = (self._shared or {}).get(key), "l2"
        if vector is None:
            return "miss", None
        self._remember(key, vector)
        return level, vector

    async def _read(self) -> None:
        kept: dict[str, Vector] = {}
        if self._kept is not None:
            with contextlib.suppress(KnowledgeError):  # a memory that cannot be read is one that holds nothing
                kept = await self._kept.kept(self.space, self._most)
        self._shared = kept

    async def _embedded(self, key: str, text: str) -> Vector:
        (vector,) = await self._inner.embed([text])
        self._remember(key, vector)
        return vector

    def _remember(self, key: str, vector: Vector) -> None:
        self._own[key] = vector
        self._own.move_to_end(key)
        while len(self._own) > self._most:
            self._own.popitem(last=False)
