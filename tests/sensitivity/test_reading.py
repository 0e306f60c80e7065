"""The views of a text that detectors decide by, and the search that looks at likely places only."""

from __future__ import annotations

import base64
import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from knowledge_system.sensitivity.detector import find
from knowledge_system.sensitivity.reading import matches_at, occurrences, read

TEXTS = st.text(alphabet="ab =:.-_/\n\u00e9\u212aK0", max_size=60)


@given(st.text(alphabet="ab", max_size=30), st.sampled_from(["a", "ab", "aa", "aba"]))
def test_occurrences_are_those_of_a_search_without_overlaps(text: str, part: str) -> None:
    assert occurrences(text, part) == [match.start() for match in re.finditer(part, text)]


@given(TEXTS)
def test_matching_at_likely_places_finds_what_searching_everywhere_does(text: str) -> None:
    expression = re.compile(r"\ba{1,3}b?[ =:]{0,2}")
    everywhere = [match.span() for match in expression.finditer(text)]
    assert [match.span() for match in matches_at(expression, text, occurrences(text, "a"))] == everywhere


@given(TEXTS)
@example("to\u212aen = \u212aey")
@example("\u0130stanbul token")
def test_what_is_spelled_tells_of_every_run_of_letters_in_the_text(text: str) -> None:
    reading = read(text)
    assert len(reading.low) == len(text)
    for run in re.findall(r"[a-z]+", reading.low):
        assert run in reading.spelled
    for word in re.findall(r"(?<![^\s0-9=:./_-])[a-z]+(?= )", reading.low):
        assert f"{word} " in reading.spelled


@given(st.text(alphabet="aZ09_-.+=~% /\u00e9\n", max_size=120))
def test_tokens_are_the_long_runs_that_are_more_than_small_letters(text: str) -> None:
    runs = re.findall(r"[A-Za-z0-9_.+=~%-]+", text)
    long = [run for run in runs if len(run) >= 15 and not re.fullmatch(r"[a-z_.=~%+-]+", run)]
    assert read(text).tokens.split() == list(dict.fromkeys(long))


def test_an_encoded_secret_is_found_wherever_it_stands() -> None:
    secret = base64.b64encode(
        b"export GITHUB_TOKEN=ghp_x7Kq2Lm9Rt4Vw8Yz1Bc3Df5Gh6Jk0Np2QsZ4 # deploy, never commit"
    ).decode()
    near = secret[:70]
    text = f"{near} data:{secret} {near}\n[{secret}]"
    spans = [text[one.start : one.end] for one in find(text) if one.kind == "github-token"]
    assert spans == [secret, secret]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("pw: Kx81!hunter", ["Kx81!hunter"]),
        ("the pw is in the safe", []),
        ("\u043f\u0430\u0440\u043e\u043b\u044c: Kx81!hunter", ["Kx81!hunter"]),
        ("to\u212aen = ghp_x7Kq2Lm9Rt4Vw8Yz1Bc3Df5Gh6Jk0Np2QsZ4", ["ghp_x7Kq2Lm9Rt4Vw8Yz1Bc3Df5Gh6Jk0Np2QsZ4"]),
        ("curl -u bob:Kx81!hunter https://a.b", ["Kx81!hunter"]),
        ("az login -u bob -p Kx81!hunter", ["Kx81!hunter"]),
        ("docs: login -p Kx81!hunter; process, lazy internet", []),
        ("docker login -u a -p Kx81!hunt && docker login -u b -p Zq55!rabbit", ["Kx81!hunt", "Zq55!rabbit"]),
    ],
    ids=["short", "prose", "cyrillic", "kelvin", "curl", "az", "no-command", "twice"],
)
def test_a_gate_lets_through_what_the_expression_behind_it_finds(text: str, found: list[str]) -> None:
    assert [text[one.start : one.end] for one in find(text)] == found
