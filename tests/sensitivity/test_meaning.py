"""The meaning layer with the real model, on labelled sentences of our own; and what is kept between runs.

The bounds are looser than the figures in `docs/decisions/0011-privacy-layers.md`: another processor rounds otherwise.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.conftest import ROOT

from knowledge_system.application.privacy import KeptPrototypes
from knowledge_system.domain.errors import ModelUnavailable
from knowledge_system.domain.sensitivity import Sensitivity
from knowledge_system.embedding.local import LocalEmbeddingModel, open_local_model
from knowledge_system.embedding.weights import find_weights
from knowledge_system.sensitivity.meaning import MeaningLayer, MeaningScreen
from knowledge_system.sensitivity.meanings import Meanings, meanings_of
from knowledge_system.sensitivity.sentences import MOST_LETTERS, MOST_WORDS, sentences
from knowledge_system.sensitivity.topics import BUILT_IN
from knowledge_system.testing.embedding import HashingEmbeddingModel

LABELLED = ROOT / "bench" / "labels" / "sensitive_topics.jsonl"
TOPICS = meanings_of(BUILT_IN)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalEmbeddingModel]:
    models = tmp_path_factory.mktemp("models")
    try:
        find_weights(models)
    except ModelUnavailable as error:
        pytest.skip(f"{error} {error.hint}")
    opened = open_local_model(models, "int8", threads=2)
    yield opened
    opened.close()


def files(directory: Path) -> list[Path]:
    return sorted(directory.iterdir())


def labelled(kind: str) -> list[dict[str, Any]]:
    rows = [json.loads(line) for line in LABELLED.read_text(encoding="utf-8").splitlines()]
    return [row for row in rows if row["kind"] == kind]


@pytest.mark.weights
async def test_sensitive_sentences_are_found_and_those_that_only_use_their_words_are_not(
    model: LocalEmbeddingModel,
) -> None:
    layer = MeaningLayer(model, TOPICS)
    found, objected = [], []
    for row in labelled("sentence"):
        near = await layer.nearness(sentences(row["text"]))
        (found if row["topic"] else objected).append(near.level is Sensitivity.CONFIDENTIAL)
    assert (len(found), len(objected)) == (90, 132)
    assert sum(found) / len(found) >= 0.85
    assert sum(objected) / len(objected) <= 0.06


@pytest.mark.weights
async def test_exchanges_about_a_topic_rise_by_the_vectors_they_have(model: LocalEmbeddingModel) -> None:
    screen = MeaningScreen(MeaningLayer(model, TOPICS))
    texts = [f"{row['user']}\n{row['assistant']}" for row in labelled("exchange")]
    ordinary = [row["text"] for row in labelled("sentence") if row["topic"] is None]
    work = ["\n".join(ordinary[start : start + 6]) for start in range(0, 120, 6)]
    vectors = await model.embed([*texts, *work])
    levels = await screen.levels([[one] for one in vectors])
    assert sum(level is Sensitivity.CONFIDENTIAL for level in levels[: len(texts)]) >= 16
    assert levels[len(texts) :] == [None] * len(work)


async def test_the_strictest_passage_decides_and_nothing_is_asked_of_no_passages() -> None:
    model = HashingEmbeddingModel()
    screen = MeaningScreen(MeaningLayer(model, TOPICS))
    near, far = await model.embed([TOPICS.topics[0].texts[1], TOPICS.ordinary[0]])
    assert await screen.levels([[far, near], [far], []]) == [Sensitivity.CONFIDENTIAL, None, None]
    assert await MeaningScreen(MeaningLayer(model, Meanings((), ("x",)))).levels([[near]]) == [None]


async def test_vectors_of_topics_are_computed_once_for_a_model(tmp_path: Path) -> None:
    kept = KeptPrototypes(tmp_path)
    first, second, other = HashingEmbeddingModel(), HashingEmbeddingModel(), HashingEmbeddingModel(revision="2")
    for model in (first, second, other):
        await MeaningLayer(model, TOPICS, kept).nearness(["the customer's wife is ill"])
    assert second.embedded == 1
    assert first.embedded == other.embedded > 200
    assert len(files(tmp_path)) == 2


@pytest.mark.parametrize("damage", [b"", b"short"], ids=["empty", "short"])
async def test_a_damaged_file_of_vectors_is_computed_again(tmp_path: Path, damage: bytes) -> None:
    kept = KeptPrototypes(tmp_path)
    await MeaningLayer(HashingEmbeddingModel(), TOPICS, kept).nearness(["x y z"])
    path = files(tmp_path)[0]
    sound = path.read_bytes()
    path.write_bytes(damage)
    await MeaningLayer(HashingEmbeddingModel(), TOPICS, kept).nearness(["x y z"])
    assert path.read_bytes() == sound


async def test_a_directory_that_cannot_be_written_costs_time_only(tmp_path: Path) -> None:
    kept = KeptPrototypes(tmp_path / "missing")
    near = await MeaningLayer(HashingEmbeddingModel(), TOPICS, kept).nearness([TOPICS.topics[1].texts[1]])
    assert near.level is Sensitivity.CONFIDENTIAL


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("First do this. Then do that. And then go home!", ["First do this. Then do that.", "And then go home!"]),
        ("Huber 71k\nNovak 64k\nSvensson 88k", ["Huber 71k Novak 64k Svensson 88k"]),
        (
            "Fire Anna Huber.\n\nThe build is green again today.",
            ["Fire Anna Huber.", "The build is green again today."],
        ),
        ("Fire Anna Huber.\\n\\nThen the build ran.", ["Fire Anna Huber.", "Then the build ran."]),
        ("| name | salary |\n| Anna Huber | 92,000 |", ["| name | salary |", "| Anna Huber | 92,000 |"]),
        ("const x = (a, b) => { return a[0] + b[1]; };", []),
        ("0x7f 0x80 0x81 0x82 0x83", []),
        ("", []),
    ],
    ids=["short-ones-together", "a-list", "paragraphs", "escaped-paragraphs", "a-table", "code", "numbers", "nothing"],
)
def test_what_is_a_sentence(text: str, expected: list[str]) -> None:
    assert list(sentences(text)) == expected


@given(st.text() | st.lists(st.sampled_from(["word", "two words.", "\n", "a;b", "x" * 50]), max_size=200).map(" ".join))
def test_sentences_are_bounded_and_made_of_the_text(text: str) -> None:
    words = text.split()
    for sentence in sentences(text):
        assert len(sentence) <= MOST_LETTERS
        assert len(sentence.split()) <= MOST_WORDS + 4
        assert sentence.split()[0] in words


@given(st.lists(st.sampled_from(["Anna earns a lot of money here", "the patient is very ill today"]), min_size=1))
def test_no_prose_is_left_out(parts: list[str]) -> None:
    text = ".\n".join(parts)
    assert sorted(" ".join(sentences(text)).split()) == sorted(text.split())
