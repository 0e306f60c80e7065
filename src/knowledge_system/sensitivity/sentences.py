"""A text as the sentences that can be judged by their meaning: code, numbers and noise are left out.

One sentence at a time, because a vector is a mean: one sensitive sentence beside one ordinary one is found in a third
of the cases, alone in nine of ten (`docs/decisions/0011-privacy-layers.md`).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

FEWEST_WORDS = 5
"""A shorter sentence is read together with the next one of its paragraph."""
MOST_WORDS = 40
"""A longer one is cut: lists and logs have no full stops."""
MOST_LETTERS = 400

_PARAGRAPH = re.compile(r"\n[ \t\r]*\n|(?:\\r)?\\n(?:\\r)?\\n")
_BREAK = re.compile(r"(?<=[.!?;:])\s+|\n+|(?:\\[nr])+")
_WORD = re.compile(r"[^\W\d_]{2,}")
_MARK = re.compile(r"[{}()\[\]<>=\\/$@&^+]")
_FEWEST_REAL_WORDS = 2
_LETTER_SHARE = 0.3
_MARK_SHARE = 0.12


def sentences(text: str) -> Iterator[str]:
    """Yield the sentences of `text` that say something in words, in order. Linear in the length of the text."""
    for paragraph in _PARAGRAPH.split(text):
        words: list[str] = []
        for part in _BREAK.split(paragraph):
            found = part.split()
            for start in range(0, len(found), MOST_WORDS):
                words += found[start : start + MOST_WORDS]
                if len(words) >= FEWEST_WORDS:
                    yield from _readable(words)
                    words = []
        yield from _readable(words)


def _readable(words: list[str]) -> Iterator[str]:
    sentence = " ".join(words)[:MOST_LETTERS]
    if sentence and is_prose(sentence):
        yield sentence


def is_prose(sentence: str) -> bool:
    """Whether a sentence consists mainly of words, not of code or numbers; Markdown tables and emphasis are words."""
    words = _WORD.findall(sentence)
    letters = sum(map(len, words))
    marks = len(_MARK.findall(sentence))
    return (
        len(words) >= _FEWEST_REAL_WORDS
        and letters >= _LETTER_SHARE * len(sentence)
        and marks <= _MARK_SHARE * len(sentence)
    )
