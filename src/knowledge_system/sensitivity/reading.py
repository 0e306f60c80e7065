"""A text with the few views that let every detector decide cheaply whether it has anything to look for."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_LONG_NUMBER = re.compile(r"[0-9](?:[ ().\-/]{0,2}+[0-9]){6,18}+")
_LONG_RUN = 64
_LONG_TOKEN = 15
_PLAIN = re.compile(rb"[a-z_.=~%+-]+\Z")
_LETTERS = frozenset(b"abcdefghijklmnopqrstuvwxyz") | frozenset(range(128, 256))
_TOKEN = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.+=~%")
_ONLY_LETTERS = bytes(code if code in _LETTERS else 32 for code in range(256))
_ONLY_TOKENS = bytes(code if code in _TOKEN else 32 for code in range(256))
_KELVIN = "\u212a"
"""The one letter beyond ASCII that `str.lower` turns into an ASCII letter."""


class Reading(NamedTuple):
    """`text`; `low`, the same in lower case, position by position; and what may give something away in it.

    `words`: runs of letters in lower case, UTF-8 encoded. `spelled`: the words, each once, each with a space before and
    behind it; only its ASCII letters mean anything. `tokens`: distinct runs of 15 and more of the characters of which
    tokens consist, unless they are all small letters, separated by spaces. `long_runs`: in order, what stands in 64
    characters or more without white space; empty when there are no tokens. `numbers`: spans of seven digits or more,
    separators allowed.
    """

    text: str
    low: str
    words: frozenset[bytes]
    spelled: str
    tokens: str
    long_runs: tuple[str, ...]
    numbers: tuple[tuple[int, int], ...]

    def places(self, parts: Iterable[str]) -> list[int]:
        """Return where any of `parts` begins in `low`, in order; the parts begin with two ASCII letters or more."""
        present = [part for part in parts if part.partition("-")[0] in self.spelled]
        return sorted(at for part in present for at in occurrences(self.low, part))


def read(text: str) -> Reading:
    """Return the views of `text`, in time linear in its length."""
    low = _folded(text)
    words = _words(text)
    spelled = b" ".join(words | _words(low) if _KELVIN in text else words).decode("latin-1")
    chunks = [chunk for chunk in text.split() if len(chunk) >= _LONG_TOKEN]
    tokens = _tokens(chunks) if chunks else ""
    long_runs = tuple([chunk for chunk in chunks if len(chunk) >= _LONG_RUN]) if tokens else ()
    numbers = tuple([match.span() for match in _LONG_NUMBER.finditer(text)])
    return Reading(text, low, words, f" {spelled} ", tokens, long_runs, numbers)


def _words(text: str) -> frozenset[bytes]:
    return frozenset(text.encode("utf-8", "replace").lower().translate(_ONLY_LETTERS).split())


def _tokens(chunks: list[str]) -> str:
    pieces = " ".join(chunks).encode("utf-8", "replace").translate(_ONLY_TOKENS).split()
    kept = [piece for piece in pieces if len(piece) >= _LONG_TOKEN and not _PLAIN.match(piece)]
    return b" ".join(dict.fromkeys(kept)).decode("ascii")


def occurrences(text: str, part: str) -> list[int]:
    """Return where `part` begins in `text`, in order, without overlaps."""
    found: list[int] = []
    at = text.find(part)
    while at != -1:
        found.append(at)
        at = text.find(part, at + len(part))
    return found


def matches_at(expression: re.Pattern[str], text: str, places: Iterable[int]) -> Iterator[re.Match[str]]:
    """Yield what `expression.finditer` does when it can match at `places` alone: quicker when they are few."""
    done = 0
    for at in places:
        if at >= done and (match := expression.match(text, at)):
            done = match.end()
            yield match


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
