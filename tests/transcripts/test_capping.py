"""Cutting long texts: nothing lost below the limit, no half secrets above it."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from knowledge_system.transcripts.capping import CappedText, clean, shortened

LIMIT = 400
MARK = re.compile(r"\n\[… (\d+) characters left out …\]\n")


def _capped(*pieces: str) -> str:
    capped = CappedText(LIMIT)
    for piece in pieces:
        capped.add(piece)
    return capped.value()


@given(st.lists(st.text(max_size=60), max_size=6).filter(lambda pieces: len("".join(pieces)) <= LIMIT))
def test_what_fits_stays_as_it_is(pieces: list[str]) -> None:
    assert _capped(*pieces) == clean("".join(pieces))


@given(st.lists(st.text(max_size=300), min_size=3, max_size=12))
def test_pieces_do_not_matter(pieces: list[str]) -> None:
    assert _capped(*pieces) == _capped("".join(pieces))


@given(st.text(min_size=LIMIT + 1, max_size=5 * LIMIT))
def test_what_does_not_fit_is_bounded_and_counted(text: str) -> None:
    kept = _capped(text)
    (left_out,) = MARK.findall(kept)
    assert len(kept) <= LIMIT + 50
    assert len(MARK.sub("", kept)) + int(left_out) == len(text)


@given(st.integers(0, 700), st.integers(0, 700), st.sampled_from([" ", "\n", '","', "; "]))
def test_a_key_is_kept_whole_or_not_at_all(before: int, after: int, around: str) -> None:
    key = "AKIA9Q4ZX7T2WMB5" + "k3Jf8sLq" * 6
    text = "lorem " * (before // 6) + around + key + around + "ipsum " * (after // 6)
    kept = _capped(text)
    parts = re.findall(r"[A-Za-z0-9]{9,}", MARK.sub(" ", kept).replace(key, ""))
    assert parts == []


@pytest.mark.parametrize("at", range(0, 700, 35))
def test_a_pem_block_is_kept_whole_or_not_at_all(at: int) -> None:
    lines = "\n".join(f"MIIEvQIBADANBgkqhkiG9w0BAQEFAASC{number:02d}xYz/+Q" for number in range(8))
    block = f"-----BEGIN PRIVATE KEY-----\n{lines}\n-----END PRIVATE KEY-----"
    text = "word\n" * (at // 5) + block + "\n" + "word\n" * ((700 - at) // 5)
    kept = _capped(text)
    assert block in kept or "MIIEvQIB" not in kept


def test_a_text_without_any_gap_is_dropped_to_the_mark() -> None:
    assert MARK.fullmatch(_capped("x" * 5000))


def test_shortened_is_for_single_values() -> None:
    assert shortened("short") == "short"
    assert len(shortened("word " * 5000, 200)) < 260
