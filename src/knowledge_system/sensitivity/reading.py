"""A text with the few views that let every detector decide cheaply whether it has anything to look for."""

from __future__ import annotations

import re
from typing import NamedTuple

_LONG_NUMBER = re.compile(r"[0-9](?:[ ().\-/]{0,2}[0-9]){6,18}")
_LONG_RUN = 64
_LONG_TOKEN = 15
_PLAIN = re.compile(rb"[a-z_.=~%+-]+\Z")
_LETTERS = frozenset(b"abcdefghijklmnopqrstuvwxyz") | frozenset(range(128, 256))
_TOKEN = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.+=~%")
_ONLY_LETTERS = bytes(code if code in _LETTERS else 32 for code in range(256))
_ONLY_TOKENS = bytes(code if code in _TOKEN else 32 for code in range(256))


class Reading(NamedTuple):
    """`text`; `low`, the same in lower case, position by position; and what may give something away in it.

    `words`: runs of letters in lower case, UTF-8 encoded. `tokens`: runs of 15 and more of the characters of which
    tokens consist, unless they are all small letters, separated by spaces. `has_long_run`: whether 64 characters or
    more stand without white space. `numbers`: spans of seven digits or more, separators allowed.
    """

    text: str
    low: str
    words: frozenset[bytes]
    tokens: str
    has_long_run: bool
    numbers: tuple[tuple[int, int], ...]


def read(text: str) -> Reading:
    """Return the views of `text`, in time linear in its length."""
    data = text.encode("utf-8", "replace")
    words = frozenset(data.lower().translate(_ONLY_LETTERS).split())
    pieces = [piece for piece in data.translate(_ONLY_TOKENS).split() if len(piece) >= _LONG_TOKEN]
    tokens = b" ".join([piece for piece in pieces if not _PLAIN.match(piece)]).decode("ascii")
    has_long_run = len(tokens) > 0 and max(map(len, text.split())) >= _LONG_RUN
    numbers = tuple([match.span() for match in _LONG_NUMBER.finditer(text)])
    return Reading(text, _folded(text), words, tokens, has_long_run, numbers)


def words_of(*phrases: str) -> frozenset[bytes]:
    """Return the words of `phrases` in the form of `Reading.words`."""
    return frozenset(word.encode() for phrase in phrases for word in phrase.split())


def word_set(*texts: str) -> frozenset[str]:
    """Return the words that stand between white space in `texts`: the notation of word lists here."""
    return frozenset(word for text in texts for word in text.split())


def _folded(text: str) -> str:
    """Return `text` in lower case with every character in its place (`str.lower` may lengthen a text)."""
    low = text.lower()
    return low if len(low) == len(text) else "".join(c.lower() if len(c.lower()) == 1 else c for c in text)
