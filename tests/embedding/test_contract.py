"""What every EmbeddingModel promises, the fake included."""

from __future__ import annotations

import asyncio
import random
from array import array
from typing import TYPE_CHECKING

import numpy as np
import pytest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from knowledge_system.domain.embedding import EmbeddingModel

MIXED = [
    "the pipeline fails because the cache key has a trailing space",
    "ok",
    "rename the column in a migration and keep the old one for a release",
    "def f(x):\n    return x ** 2\n",
    "naïve café 北京 тест 🚀",
    " ".join(f"word{n}" for n in range(400)),
    "ok",
]


async def embedded(model: EmbeddingModel, texts: Sequence[str]) -> NDArray[np.float32]:
    return np.array(await model.embed(texts), np.float32).reshape(len(texts), model.space.dimension)


async def test_gives_one_float32_vector_of_the_spaces_dimension_per_text(model: EmbeddingModel) -> None:
    vectors = await model.embed(MIXED)
    assert len(vectors) == len(MIXED)
    assert all(isinstance(vector, array) and vector.typecode == "f" for vector in vectors)
    assert {len(vector) for vector in vectors} == {model.space.dimension}


async def test_vectors_have_unit_length(model: EmbeddingModel) -> None:
    assert np.linalg.norm(await embedded(model, MIXED), axis=1) == pytest.approx(1.0, abs=1e-5)


async def test_no_texts_give_no_vectors(model: EmbeddingModel) -> None:
    assert await model.embed([]) == []


async def test_order_is_kept_whatever_the_lengths(model: EmbeddingModel) -> None:
    order = random.Random(7).sample(range(len(MIXED)), len(MIXED))
    shuffled = await embedded(model, [MIXED[index] for index in order])
    assert np.abs(shuffled - (await embedded(model, MIXED))[order]).max() < 1e-5


async def test_a_vector_does_not_depend_on_the_company(model: EmbeddingModel) -> None:
    together = await embedded(model, MIXED)
    alone = np.vstack([await embedded(model, [text]) for text in MIXED])
    assert np.abs(together - alone).max() < 1e-5


async def test_the_same_text_always_gives_the_same_vector(model: EmbeddingModel) -> None:
    assert await model.embed(["twice"]) == await model.embed(["twice"])


async def test_texts_that_share_words_are_nearer_than_others(model: EmbeddingModel) -> None:
    texts = ["migrate the database schema", "the database schema migration failed", "a recipe for tomato soup"]
    first, near, far = await embedded(model, texts)
    assert first @ near > first @ far + 0.1


async def test_what_comes_after_max_tokens_is_ignored(model: EmbeddingModel) -> None:
    head = "word " * model.max_tokens
    one, other = await embedded(model, [head + "migration", head + "soup " * 100])
    assert one @ other > 1 - 1e-5


@pytest.mark.parametrize(
    "text",
    [
        "",
        " \t\r\n",
        "\x00",
        "a\x00b\x00c",
        "\x01\x02\x1b[31mred\x1b[0m\x7f\x9f",
        "\ud800",
        "broken \udcff half",
        "\ufffd\ufeff\u200b",
        "[PAD] [CLS] [SEP] [MASK]",
        "é" * 5_000,
        "👩‍👩‍👧" * 3_000,
    ],
    ids=lambda text: ascii(text)[:60],  # the name of a test is in the environment of the processes it starts
)
async def test_any_text_has_a_unit_vector(model: EmbeddingModel, text: str) -> None:
    alone, again = (await embedded(model, [text]))[0], (await embedded(model, ["x", text]))[1]
    assert np.linalg.norm(alone) == pytest.approx(1.0, abs=1e-5)
    assert alone @ again > 1 - 1e-5


@pytest.mark.parametrize("unit", ["word ", "a", " ", "\x00", "\ud800"], ids=ascii)
async def test_ten_megabytes_are_read_like_any_long_text(model: EmbeddingModel, unit: str) -> None:
    vectors = await embedded(model, [unit * (10_000_000 // len(unit)), "short"])
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(1.0, abs=1e-5)


async def test_many_callers_at_once_get_their_own_vectors(model: EmbeddingModel) -> None:
    texts = [f"{MIXED[n % 3]} number {n}" for n in range(40)]
    expected = await embedded(model, texts)
    answers = await asyncio.gather(*(model.embed(texts[n : n + 1 + n % 3]) for n in range(38)))
    for n, answer in enumerate(answers):
        assert np.abs(np.array(answer) - expected[n : n + 1 + n % 3]).max() < 1e-5


def test_the_space_names_its_collection(model: EmbeddingModel) -> None:
    space = model.space
    assert space.dimension in {384, 1536}
    assert space.collection == f"knowledge_{space.dimension}"
    assert space.revision
