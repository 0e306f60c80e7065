"""`sensitivity-topics.json`: what is accepted, and errors that name the place and the fix."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import pytest

from knowledge_system.domain.errors import UsageError
from knowledge_system.domain.sensitivity import Sensitivity
from knowledge_system.sensitivity.topics import BUILT_IN, Topic, TopicRules, load_topics, parse_topics

if TYPE_CHECKING:
    from pathlib import Path


def test_without_a_file_the_built_in_topics_apply(tmp_path: Path) -> None:
    assert load_topics(None) is BUILT_IN
    assert load_topics(tmp_path / "missing.json") is BUILT_IN
    assert BUILT_IN.level(["this is STRICTLY CONFIDENTIAL"], []) is Sensitivity.CONFIDENTIAL
    assert BUILT_IN.level(["sort a list"], []) is None


def test_a_file_replaces_the_built_in_topics(tmp_path: Path) -> None:
    path = tmp_path / "sensitivity-topics.json"
    path.write_text(
        json.dumps(
            {
                "topics": [
                    {
                        "name": "x",
                        "level": "secret",
                        "keywords": ["falcon"],
                        "patterns": ["EMP-[0-9]{6}"],
                        "globs": ["*/hr/*"],
                    }
                ]
            }
        )
    )
    rules = load_topics(path)
    assert rules.level(["strictly confidential"], []) is None
    for texts, paths in ((["the Falcon!"], []), (["EMP-123456"], []), ([], ["/w/hr/a.csv"])):
        assert rules.level(texts, paths) is Sensitivity.SECRET
    assert rules.level(["falcons", "EMP-12"], ["/w/hrx/a"]) is None


def topic(**changes: object) -> dict[str, object]:
    return {"topics": [{"name": "x", "level": "secret", "keywords": ["a"]} | changes]}


@pytest.mark.parametrize(
    ("document", "place"),
    [
        ([], "expected one object"),
        ({"topic": []}, "expected one object"),
        ({"topics": {}}, "expected one object"),
        ({"topics": ["x"]}, "topics[0]"),
        ({"topics": [{"level": "secret", "keywords": ["a"]}]}, "topics[0]"),
        (topic(level="top"), "topics[0].level"),
        (topic(level=None), "topics[0].level"),
        (topic(keyword=["a"]), "topics[0].keyword"),
        (topic(keywords="a"), "topics[0].keywords"),
        (topic(keywords=[1]), "topics[0].keywords"),
        (topic(globs=[""]), "topics[0].globs"),
        (topic(keywords=[]), "matches nothing"),
        (topic(patterns=["ok", "("]), "topics[0].patterns[1]"),
        (topic(patterns=["(a+)+$"]), "topics[0].patterns[0]"),
        (topic(patterns=["(?:a|aa)*b"]), "topics[0].patterns[0]"),
        (topic(patterns=["((a)*)*"]), "topics[0].patterns[0]"),
        (topic(patterns=["a" * 501]), "topics[0].patterns[0]"),
    ],
)
def test_a_wrong_document_is_refused_with_its_place_and_a_hint(document: object, place: str) -> None:
    with pytest.raises(UsageError, match=re.escape(place)) as caught:
        parse_topics(document, "topics.json")
    assert caught.value.hint


@pytest.mark.parametrize("content", ["{", "", "\xff"])
def test_an_unreadable_file_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "topics.json"
    path.write_bytes(content.encode("latin-1"))
    with pytest.raises(UsageError, match=r"topics\.json") as caught:
        load_topics(path)
    assert "built-in" in caught.value.hint


def test_ordinary_expressions_are_accepted() -> None:
    for pattern in (r"\bEMP-\d+\b", r"(?i)project (alpha|beta)", r"[A-Z]{2,5}-\d{1,6}", r"(foo)?bar", r"a\+(b)"):
        parse_topics(topic(patterns=[pattern]), "t")


def test_long_texts_are_searched_in_pieces_and_matches_over_their_edges_are_found() -> None:
    rules = parse_topics(topic(keywords=["falcon"]), "t")
    for before in (0, 1994, 1997, 2000, 123_456):
        assert rules.level(["x" * before + " falcon " + "y" * 5000], []) is Sensitivity.SECRET


class Failing:
    """Stands for an expression that fails while it runs."""

    def search(self, _: str) -> None:
        raise RecursionError


def test_a_rule_that_fails_while_it_runs_makes_its_content_sensitive() -> None:
    broken = Topic("broken", Sensitivity.PUBLIC, patterns=(Failing(),))  # type: ignore[arg-type]
    assert TopicRules((broken,)).level(["anything"], []) is Sensitivity.CONFIDENTIAL
