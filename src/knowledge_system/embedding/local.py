"""all-MiniLM-L6-v2 on this machine: 384 dimensions, ONNX Runtime, no network."""

from __future__ import annotations

import asyncio
import os
import threading
from array import array
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from knowledge_system.domain.errors import ModelUnavailable
from knowledge_system.embedding.assembly import assembled, discard
from knowledge_system.embedding.batches import length_buckets
from knowledge_system.embedding.inference import Encoder
from knowledge_system.embedding.spaces import DEFAULT_VARIANT, MAX_TOKENS, PREFIXES, checked_variant, space_of
from knowledge_system.embedding.weights import PACKAGE

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path
    from typing import TypeVar

    from numpy.typing import NDArray

    from knowledge_system.domain.embedding import EmbeddingSpace, Vector
    from knowledge_system.embedding.spaces import Variant

    Result = TypeVar("Result")

WINDOW = 1_024
"""Texts that are tokenised and sorted by length together."""
QUESTION_TOKENS = 64
"""Tokens of a question, at most; a longer text is computed beside the questions."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How a model uses the machine; the defaults are measured in `docs/decisions/0004-local-embedding-model.md`.

    `threads` calls of the runtime at a time, each with at most `batch_size` texts and `token_budget` padded tokens.
    More tokens a call are slower, not faster: their activations leave the processor's cache.
    """

    threads: int
    batch_size: int = 32
    token_budget: int = 1_024


def default_threads() -> int:
    """Return the number of processors this process may use, at most 4."""
    return min(4, len(os.sched_getaffinity(0)))


class LocalEmbeddingModel:
    """An EmbeddingModel that loads on first use and computes in threads of its own.

    Single texts have threads apart from bulk work, so a question does not wait behind an ingest. Questions have one for
    all of them: it answers 300 a second, more than a service can use, and every further thread is one more that waits
    for the interpreter (32 clients on two cores got 9 % more answers with one thread than with two).
    """

    def __init__(self, models: Path, variant: Variant, limits: Limits, package: str = PACKAGE) -> None:
        self._models = models
        self._variant: Variant = variant
        self._limits = limits
        self._package = package
        self._encoder: Encoder | None = None
        self._loading = threading.Lock()
        self._questions = ThreadPoolExecutor(1, thread_name_prefix="embed-question")
        self._single = ThreadPoolExecutor(limits.threads, thread_name_prefix="embed-single")
        self._bulk = ThreadPoolExecutor(limits.threads, thread_name_prefix="embed-bulk")

    @property
    def space(self) -> EmbeddingSpace:
        """The space of the variant; known without loading."""
        return space_of(self._variant)

    @property
    def max_tokens(self) -> int:
        """256: what comes after is ignored."""
        return MAX_TOKENS

    async def embed(self, texts: Sequence[str]) -> list[Vector]:
        """Return one unit-length vector of 384 values per text, in order. Raises ModelUnavailable."""
        if len(texts) == 1:
            return [await self._embed_one(texts[0])]
        vectors: list[Vector] = []
        for start in range(0, len(texts), WINDOW):
            vectors += await self._embed_window(texts[start : start + WINDOW])
        return vectors

    async def _embed_one(self, text: str) -> Vector:
        """Cut a short text into tokens here, in some 30 µs; its thread would wait for the interpreter once more."""
        encoder = self._encoder
        if encoder is None or len(text) > PREFIXES[0]:
            return await self._run(self._single, partial(self._encode_one, text))
        ids = encoder.tokenizer.ids([text])
        executor = self._questions if len(ids[0]) <= QUESTION_TOKENS else self._single
        return _as_vector((await self._run(executor, partial(encoder.encode, ids)))[0])

    def at_once(self, text: str) -> Vector | None:
        """Return the vector of a question on the thread that asks; None before loading, and of a longer text.

        For a process that does nothing else: it answers a question in 4 ms. Raises ModelUnavailable.
        """
        encoder = self._encoder
        if encoder is None or len(text) > PREFIXES[0]:
            return None
        ids = encoder.tokenizer.ids([text])
        return _as_vector(encoder.encode(ids)[0]) if len(ids[0]) <= QUESTION_TOKENS else None

    async def _embed_window(self, texts: Sequence[str]) -> list[Vector]:
        ids = await self._run(self._bulk, partial(self._ids, texts))
        budget = self._limits.token_budget
        jobs = deque(length_buckets([len(row) for row in ids], budget, budget))
        vectors: dict[int, Vector] = {}

        async def work() -> None:
            while jobs:
                job = jobs.pop()  # the longest texts first, so that the last jobs are the short ones
                computed = await self._run(self._bulk, partial(self._encode_job, [ids[index] for index in job]))
                vectors.update(zip(job, computed, strict=True))

        # No more jobs are handed out than threads can take: other callers get their turn, and a cancelled one stops.
        try:
            await asyncio.gather(*(work() for _ in range(self._limits.threads)))
        finally:
            jobs.clear()
        return [vectors[index] for index in range(len(texts))]

    async def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Return the number of tokens of each whole text, the two special ones included."""
        return await self._run(self._bulk, partial(self._count, texts))

    async def load(self) -> None:
        """Load now instead of at the first text. Raises ModelUnavailable."""
        await self._run(self._single, self._loaded)

    def close(self) -> None:
        """Finish what is running and free the threads; the model cannot be used afterwards."""
        self._questions.shutdown(cancel_futures=True)
        self._single.shutdown(cancel_futures=True)
        self._bulk.shutdown(cancel_futures=True)
        self._encoder = None

    def _ids(self, texts: Sequence[str]) -> list[NDArray[np.int32]]:
        return self._loaded().tokenizer.ids(texts)

    def _count(self, texts: Sequence[str]) -> list[int]:
        return self._loaded().tokenizer.count(texts)

    def _encode_one(self, text: str) -> Vector:
        return _as_vector(self._loaded().encode(self._ids([text]))[0])

    def _encode_job(self, rows: Sequence[NDArray[np.int32]]) -> list[Vector]:
        # `rows` come sorted by length, so the batches keep their order.
        lengths = [len(row) for row in rows]
        vectors: list[Vector] = []
        for batch in length_buckets(lengths, self._limits.batch_size, self._limits.token_budget):
            vectors += map(_as_vector, self._loaded().encode([rows[index] for index in batch]))
        return vectors

    async def _run(self, executor: ThreadPoolExecutor, work: Callable[[], Result]) -> Result:
        return await asyncio.get_running_loop().run_in_executor(executor, work)

    def _loaded(self) -> Encoder:
        if self._encoder is None:
            with self._loading:
                if self._encoder is None:
                    self._encoder = self._opened()
        return self._encoder

    def _opened(self) -> Encoder:
        files = assembled(self._models, self._variant, self._package)
        try:
            return Encoder(files.graph, files.tokenizer)
        except ModelUnavailable:
            # A damaged graph whose size and time are as recorded shows only here: make it again, once.
            if files.is_sound(thoroughly=True):
                raise
        discard(self._models, self._variant)
        files = assembled(self._models, self._variant, self._package)
        return Encoder(files.graph, files.tokenizer)


def _as_vector(row: NDArray[np.float32]) -> Vector:
    vector = array("f")
    vector.frombytes(np.ascontiguousarray(row, np.float32).tobytes())
    return vector


def open_local_model(
    cache_dir: Path, variant: str = DEFAULT_VARIANT, threads: int | None = None, *, batch_size: int = 32
) -> LocalEmbeddingModel:
    """Return the model whose assembled graph lives in `cache_dir`; nothing is read before the first text.

    `threads` defaults to the processors this process may use, at most 4. Raises UsageError for an unknown variant.
    """
    known = checked_variant(variant)
    # The scales of int8 span a batch: alone, the vector of a text follows from the text and nothing else.
    limits = Limits(threads or default_threads(), 1 if known == "int8" else batch_size)
    return LocalEmbeddingModel(cache_dir, known, limits)
