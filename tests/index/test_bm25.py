"""The tokenizer that knows code, and the weights of BM25."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from knowledge_system.storage.bm25 import LONGEST_TERM, document_vector, query_vector, term_id, tokens

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("text", "terms"),
    [
        ("Running tests", ["run", "test"]),
        ("parseHTTPResponse", ["parsehttprespons", "pars", "http", "respons"]),
        ("retry_count", ["retry_count", "retri", "count"]),
        ("os.path.join", ["os.path.join", "os", "path", "join"]),
        ("src/app/userForm.tsx", ["src/app/userform.tsx", "src", "app", "userform", "user", "form", "tsx"]),
        ("std::vec::Vec", ["std::vec::vec", "std", "vec", "vec"]),
        ("error E0308", ["error", "e0308", "0308"]),
        ("exit 137", ["exit", "137"]),
        ("sha256", ["sha256", "sha", "256"]),
        ("C++ or C#", ["c++", "c#"]),
        ("don't what's the user's", ["don", "user"]),
        ("ECONNREFUSED", ["econnrefus"]),
        ("naïve Façade", ["naïve", "façade"]),
        ("数据库", ["数据", "据库"]),
        ("修复auth错误", ["修复", "错误", "auth"]),
        ("\uff46\uff55ll", ["full"]),
        ("the of and", []),
        ("", []),
        ("-- __ ...", []),
    ],
)
def test_terms_of_a_text(text: str, terms: list[str]) -> None:
    assert list(tokens(text)) == terms


WORDS = st.sampled_from(
    [
        "Running",
        "runs",
        "parseHTTPResponse",
        "retry_count",
        "os.path",
        "don't",
        "user\u2019s",
        "C++",
        "\u6570\u636e\u5e93",
        "the",
        "x" * 70,
    ]
)


@given(st.lists(WORDS | st.text(max_size=6), max_size=40).map(" ".join))
def test_a_document_counts_its_terms_however_they_repeat(text: str) -> None:
    terms = list(map(term_id, tokens(text)))
    ids, weights = document_vector(text)
    assert ids == list(dict.fromkeys(terms))
    norm = 1.5 * (0.25 + 0.75 * len(terms) / 128)
    assert weights == pytest.approx([2.5 * terms.count(one) / (terms.count(one) + norm) for one in ids])


@pytest.mark.parametrize(
    ("query", "document"),
    [
        ("user name", "see getUserName()"),
        ("getusername", "see getUserName()"),
        ("retry count", "RETRY_COUNT = 3"),
        ("userForm.tsx", "edited src/app/userForm.tsx"),
        ("failing migration", "the migrations failed"),
        ("dry run", "use --dry-run"),
        ("数据", "修复数据库"),
    ],
)
def test_a_query_shares_terms_with_the_document_it_means(query: str, document: str) -> None:
    assert set(query_vector(query)[0]) & set(document_vector(document)[0])


def test_nothing_longer_than_anybody_types_is_a_term() -> None:
    assert list(tokens("a" * (LONGEST_TERM + 1) + " short")) == ["short"]


def test_weights_grow_with_frequency_and_saturate() -> None:
    once, twice, often = (
        dict(zip(*document_vector("x9 " * count + "filler " * (64 - count)), strict=True)) for count in (1, 2, 60)
    )
    rare = term_id("x9")
    assert once[rare] < twice[rare] < often[rare] < 2.5
    assert twice[rare] - once[rare] > (often[rare] - twice[rare]) / 58


def test_the_same_mention_weighs_less_in_a_longer_document() -> None:
    short, long = (dict(zip(*document_vector("zebra " + "other " * n), strict=True)) for n in (10, 500))
    assert short[term_id("zebra")] > long[term_id("zebra")]


def test_term_ids_are_stable_across_processes() -> None:
    assert term_id("zebra") == 2175618413


@given(st.text(max_size=400))
def test_any_text_gives_unique_ids_and_positive_weights(text: str) -> None:
    terms, weights = document_vector(text)
    assert len(terms) == len(set(terms)) == len(weights)
    assert all(0 <= term < 2**32 for term in terms)
    assert all(0 < weight <= 2.5 for weight in weights)
    asked, ones = query_vector(text)
    assert set(asked) == set(terms)
    assert set(ones) <= {1.0}


@given(st.text(max_size=200))
def test_case_does_not_change_what_a_single_word_finds(text: str) -> None:
    lowered = [word.lower() for word in text.split() if word.isascii() and word.isalpha() and word.islower()]
    for word in lowered:
        assert list(tokens(word)) == list(tokens(word.capitalize()))


def test_the_dev_corpus_is_searched_no_worse_than_by_the_baseline(dev_corpus: Path) -> None:
    """The baseline (stemmed words, same texts) has recall@10 .789 and MRR .696 on these 54 questions."""
    exchanges = [json.loads(line) for line in (dev_corpus / "exchanges.jsonl").read_text().splitlines()]
    questions = [json.loads(line) for line in (dev_corpus / "dev_queries.jsonl").read_text().splitlines()]
    numbers = {(exchange["file"], exchange["exchange_index"]): i for i, exchange in enumerate(exchanges)}
    postings: dict[int, list[tuple[int, float]]] = {}
    for number, exchange in enumerate(exchanges):
        for term, weight in zip(*document_vector(f"{exchange['user']}\n{exchange['assistant']}"), strict=True):
            postings.setdefault(term, []).append((number, weight))
    recalls, reciprocals = [], []
    for question in questions:
        scores = np.zeros(len(exchanges))
        for term in query_vector(question["query"])[0]:
            having = postings.get(term, [])
            idf = np.log1p((len(exchanges) - len(having) + 0.5) / (len(having) + 0.5))
            for number, weight in having:
                scores[number] += idf * weight
        relevant = {numbers[entry["file"], entry["exchange_index"]] for entry in question["relevant"]}
        ranks = [rank for rank, number in enumerate(np.argsort(-scores, kind="stable"), 1) if number in relevant]
        recalls.append(sum(rank <= 10 for rank in ranks) / len(relevant))
        reciprocals.append(1 / ranks[0])
    assert np.mean(recalls) >= 0.79
    assert np.mean(reciprocals) >= 0.69
