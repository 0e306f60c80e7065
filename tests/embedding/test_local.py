"""The real model: fidelity to the published one, order over batches, fairness, cancellation, spaces."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from knowledge_system.domain.errors import UsageError
from knowledge_system.embedding.local import WINDOW, default_threads, open_local_model
from knowledge_system.embedding.spaces import DEFAULT_VARIANT, folder_of, space_of

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from knowledge_system.embedding.local import LocalEmbeddingModel

pytestmark = pytest.mark.weights


def cosines(one: NDArray[np.float32], other: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.einsum("ij,ij->i", one, other)


async def test_fp32_agrees_with_the_published_model(fp32: LocalEmbeddingModel, reference_embeddings: Path) -> None:
    with np.load(reference_embeddings, allow_pickle=False) as reference:
        vectors = np.array(await fp32.embed([str(text) for text in reference["texts"]]))
        assert (1 - cosines(vectors, reference["vectors"])).max() < 1e-5


async def test_int8_stays_near_the_published_model(int8: LocalEmbeddingModel, reference_embeddings: Path) -> None:
    with np.load(reference_embeddings, allow_pickle=False) as reference:
        vectors = np.array(await int8.embed([str(text) for text in reference["texts"]]))
        near = cosines(vectors, reference["vectors"])
    assert near.mean() > 0.994
    assert near.min() > 0.98


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(texts=st.lists(st.text(max_size=400), max_size=40), seed=st.integers(0, 2**32))
def test_shuffling_texts_shuffles_vectors(fp32: LocalEmbeddingModel, texts: list[str], seed: int) -> None:
    order = random.Random(seed).sample(range(len(texts)), len(texts))

    async def both() -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        straight = await fp32.embed(texts)
        shuffled = await fp32.embed([texts[index] for index in order])
        return np.array(straight).reshape(-1, 384), np.array(shuffled).reshape(-1, 384)

    straight, shuffled = asyncio.run(both())
    assert np.abs(shuffled - straight[order]).max(initial=0.0) < 1e-5


async def test_more_texts_than_a_window_keep_their_order(int8: LocalEmbeddingModel) -> None:
    texts = [f"{n}" for n in range(WINDOW + 3)]
    vectors = np.array(await int8.embed(texts))
    for n in (0, WINDOW - 1, WINDOW, WINDOW + 2):
        assert np.abs(vectors[n] - np.array((await int8.embed([texts[n]]))[0])).max() < 1e-5


async def test_a_question_does_not_wait_for_bulk_work(int8: LocalEmbeddingModel) -> None:
    bulk = asyncio.ensure_future(int8.embed([f"{n} " + "long text " * 100 for n in range(60)]))
    await asyncio.sleep(0)
    await int8.embed(["a question"])
    assert not bulk.done()
    assert len(await bulk) == 60


async def test_cancelled_bulk_work_stops_and_leaves_the_model_usable(int8: LocalEmbeddingModel) -> None:
    texts = ["long text " * 200] * 800
    bulk = asyncio.ensure_future(int8.embed(texts))
    await int8.embed(["let it begin"])
    bulk.cancel()
    with pytest.raises(asyncio.CancelledError):
        await bulk
    assert len(await int8.embed(["one", "two"])) == 2


async def test_counts_the_tokens_of_whole_texts(fp32: LocalEmbeddingModel) -> None:
    assert await fp32.count_tokens(["", "two words", "word " * 300]) == [2, 4, 302]


async def test_batch_size_does_not_change_vectors(models: Path, fp32: LocalEmbeddingModel) -> None:
    texts = [f"text {n} " * (n % 7 + 1) for n in range(20)]
    single = open_local_model(models, "fp32", threads=1, batch_size=1)
    assert np.abs(np.array(await single.embed(texts)) - np.array(await fp32.embed(texts))).max() < 1e-5
    single.close()


def test_variants_are_different_spaces_of_one_model() -> None:
    fp32, int8 = space_of("fp32"), space_of("int8")
    assert (fp32.model, fp32.dimension) == (int8.model, int8.dimension) == ("all-MiniLM-L6-v2", 384)
    assert fp32.key != int8.key
    assert folder_of(fp32) != folder_of(int8)


def test_an_unknown_variant_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="int4") as caught:
        open_local_model(tmp_path, "int4")
    assert "fp32" in caught.value.hint


def test_opening_reads_and_writes_nothing(tmp_path: Path) -> None:
    model = open_local_model(tmp_path / "models")
    assert model.space == space_of(DEFAULT_VARIANT)
    assert model.max_tokens == 256
    assert not (tmp_path / "models").exists()
    model.close()


def test_threads_stay_within_four() -> None:
    assert 1 <= default_threads() <= 4


async def test_an_answer_is_nearest_to_its_question(int8: LocalEmbeddingModel, fp32: LocalEmbeddingModel) -> None:
    questions = ["why does the container lose its data", "how do I undo the last commit", "speed up a slow SQL join"]
    answers = [
        "Mount a volume: files written inside a container vanish with it.",
        "Use git reset --soft HEAD~1 and the changes stay staged.",
        "Add an index on the joined columns, then look at the query plan.",
    ]
    for model in (int8, fp32):
        vectors = np.array(await model.embed(questions + answers))
        assert (vectors[:3] @ vectors[3:].T).argmax(axis=1).tolist() == [0, 1, 2]
