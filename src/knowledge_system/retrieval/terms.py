"""The words of a question that carry meaning, and whether a text has them.

This is for explaining and for finding the place of a match; ranking by words is the index's business (BM25).
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

FORM_ENDING: Final = 3
"""Letters at the end of a long word that may differ between its forms (`caches`, `cached`, `caching`)."""
SHORT_WORD: Final = 4
"""Letters of a word that all its forms begin with, at least; shorter words are compared as they are."""

_WORD = re.compile(r"[^\W_]+")
_STOP_WORDS: Final = """
    a about all also am an and any are as at be been but by can could did do does doing for from get had has
    have how i if in into is it its just me my no not of on or our should so some than that the their them then
    there these they this to us was we were what when where which who why will with would you your
"""
_STOP: Final = frozenset(_STOP_WORDS.split())


def terms(text: str) -> list[str]:
    """Return the distinct meaningful words of `text`, lower-cased, in order; all words when none carries meaning."""
    words = list(dict.fromkeys(_WORD.findall(text.lower())))
    return [word for word in words if word not in _STOP] or words


def found_terms(wanted: list[str], text: str) -> list[str]:
    """Return those of `wanted` of which `text` has some form: a word with the same root, hardly longer."""
    lowered = text.lower()
    found = []
    for term in wanted:
        beginning, form = _form(term)
        # Most words are not there, and looking for letters alone takes a tenth of the time.
        if beginning in lowered and _stands(form, lowered):
            found.append(term)
    return found


def root(term: str) -> str:
    """Return the part of `term` that its forms share."""
    return term if len(term) <= SHORT_WORD else term[: max(SHORT_WORD, len(term) - FORM_ENDING)]


def _stands(form: re.Pattern[str], lowered: str) -> bool:
    for match in form.finditer(lowered):
        start = match.start()
        if start == 0 or not lowered[start - 1].isalnum():
            return True
    return False


@lru_cache(maxsize=1024)
def _form(term: str) -> tuple[str, re.Pattern[str]]:
    """Return the root of `term` and what matches its forms: the root, as many more letters, and an ending.

    The pattern begins with letters and not with a condition, so that the search runs over them at full speed.
    """
    beginning = root(term)
    more = 0 if len(term) <= SHORT_WORD else len(term) - len(beginning) + FORM_ENDING
    return beginning, re.compile(rf"{re.escape(beginning)}[^\W_]{{0,{more}}}(?![^\W_])")
