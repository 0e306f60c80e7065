"""Token ids as published, bounded work on huge texts, and batches by length."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from knowledge_system.embedding.batches import length_buckets
from knowledge_system.embedding.tokens import PREFIXES, TextTokenizer
from knowledge_system.embedding.weights import WeightFiles

CLS, SEP, UNKNOWN = 101, 102, 100


@pytest.fixture(scope="module")
def tokenizer(weights: WeightFiles) -> TextTokenizer:
    return TextTokenizer(weights.tokenizer)


@pytest.fixture(scope="module")
def published(weights: WeightFiles) -> Tokenizer:
    """Return the published tokenizer, truncating as the published model does."""
    tokenizer = Tokenizer.from_file(str(weights.tokenizer))
    tokenizer.no_padding()
    tokenizer.enable_truncation(256)
    return tokenizer


@pytest.mark.weights
@settings(deadline=None)
@given(text=st.text())
def test_any_text_gives_the_published_ids(tokenizer: TextTokenizer, published: Tokenizer, text: str) -> None:
    assert tokenizer.ids([text])[0].tolist() == published.encode(text).ids


WORDS = st.sampled_from(
    ["word", "indistinguishable", "x" * 99, "x" * 101, "[SEP]", "北京", "\t", "é", "a.b(c)", "🚀", "\x00"]
)


@pytest.mark.weights
@settings(deadline=None)
@given(
    words=st.lists(WORDS, min_size=1, max_size=12), times=st.integers(1, 800), glue=st.sampled_from(["", " ", "\n\n"])
)
def test_a_long_text_gives_the_published_ids(
    tokenizer: TextTokenizer, published: Tokenizer, words: list[str], times: int, glue: str
) -> None:
    text = glue.join(words * times)[: PREFIXES[-1]]
    assert tokenizer.ids([text])[0].tolist() == published.encode(text).ids


@pytest.mark.weights
def test_white_space_before_the_words_is_read_over(tokenizer: TextTokenizer) -> None:
    assert tokenizer.ids([" " * 60_000 + "word"])[0].tolist() == tokenizer.ids(["word"])[0].tolist()


@pytest.mark.weights
def test_an_endless_word_is_one_unknown_token(tokenizer: TextTokenizer) -> None:
    assert tokenizer.ids(["x" * 10_000_000])[0].tolist() == [CLS, UNKNOWN, SEP]


@pytest.mark.weights
def test_lone_surrogates_are_dropped_and_pairs_joined(tokenizer: TextTokenizer) -> None:
    lone, pair, plain = tokenizer.ids(["a\ud83d b", "\ud83d\ude80", "\U0001f680"])
    assert lone.tolist() == tokenizer.ids(["a b"])[0].tolist()
    assert pair.tolist() == plain.tolist()


@pytest.mark.weights
def test_texts_keep_their_order_when_some_need_more_characters(tokenizer: TextTokenizer) -> None:
    texts = ["one", " " * 3_000 + "two", "three", " " * 20_000 + "four"]
    expected = [ids.tolist() for ids in tokenizer.ids(["one", "two", "three", "four"])]
    assert [ids.tolist() for ids in tokenizer.ids(texts)] == expected


@given(
    lengths=st.lists(st.integers(2, 256), max_size=200),
    batch_size=st.integers(1, 40),
    budget=st.integers(1, 5_000),
)
def test_batches_hold_every_text_once_within_the_limits(lengths: list[int], batch_size: int, budget: int) -> None:
    batches = list(length_buckets(lengths, batch_size, budget))
    assert sorted(index for batch in batches for index in batch) == list(range(len(lengths)))
    for batch in batches:
        assert len(batch) <= batch_size
        assert len(batch) == 1 or len(batch) * max(lengths[index] for index in batch) <= budget


@given(lengths=st.lists(st.integers(2, 256), max_size=200))
def test_batches_go_from_short_to_long(lengths: list[int]) -> None:
    flat = [lengths[index] for batch in length_buckets(lengths, 32, 1_024) for index in batch]
    assert flat == sorted(lengths)
