"""What of an exchange or item gets a vector, and which text takes part in the word search.

Pure functions of the texts: no tokenizer, no model. Lengths are counted in estimated word pieces (`pieces`). The sizes
were chosen by measurement; figures and reasons stand in `docs/decisions/0005-retrieval.md`.
"""

from __future__ import annotations

import re
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from knowledge_system.domain.embedding import Passage

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from knowledge_system.domain.knowledge import KnowledgeItem
    from knowledge_system.domain.sessions import Exchange

WHOLE_PIECES: Final = 235
"""Pieces of the view `whole`: what a model of 256 tokens reads, with room for the estimate's error."""
PROMPT_PIECES: Final = 80
"""Pieces of the prompt in the view `whole`; the rest belongs to the answer, half its beginning, half its end."""
WINDOW_PIECES: Final = 100
LEAD_PIECES: Final = 50
"""Pieces of the prompt that lead every window."""
FIRST_WINDOWS: Final = 1
LAST_WINDOWS: Final = 2
"""Windows from the beginning and the end of an answer: agents say what they will do first and what they did last."""
CONTEXT_BELOW: Final = 8
"""A prompt of fewer words ("go on", "yes to both") is led by the context it was said in, when that is given."""
TEXT_LIMIT: Final = 60_000
"""Characters of a text that are looked at, half from its beginning and half from its end."""
PIECE_LETTERS: Final = 7
"""Letters of a word that one word piece is estimated to cover."""
REMEMBERED: Final = 256
"""Texts whose passages are remembered: learning and indexing ask for the same ones several times in a row."""
OUTPUT_LIMIT: Final = 2_000
"""Characters of a failed tool call's output that take part in the word search."""

_PLACEHOLDER = re.compile(
    r"\[(?:secret|personal):[a-z0-9-]{1,40}#\d{1,9}\]|\[REDACTED[^\]\n]{0,80}\]|<[A-Z0-9_]*REDACTED[^>\n]{0,80}>|\bREDACTED\b"
)
_ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|[\x00-\x08\x0b-\x1f\x7f]|[\ud800-\udfff]")
_UNPRINTABLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f\ud800-\udfff]")
"""The first characters of what `_ESCAPE` matches: looking for one of them costs half as much."""
_PLACEHOLDER_MARKS = ("REDACTED", "[secret:", "[personal:")
_RUN = re.compile(r"[A-Za-z0-9+/=_-]{80,}")
_MAY_RUN = re.compile(r"(?s:.{40})*?[A-Za-z0-9+/=_-]{40}")
"""A run of 80 fills one of the text's successive stretches of 40: looking at those costs a tenth."""
_RULE = re.compile(r"([-=_*#~.|+:>])(?:\s?\1){5,}")
_PIECE = re.compile(r"\w+|[^\w\s]")
_PIECES = re.compile(rf"\w{{1,{PIECE_LETTERS}}}|[^\w\s]")
_PART = re.compile(r"[^\n]+")
_SENTENCE = re.compile(r"(?<=[.!?;:])\s+")


def readable(text: str) -> str:
    """Return `text` without redaction placeholders, terminal escapes, base64 runs and rules.

    A text longer than `TEXT_LIMIT` keeps its beginning and its end.
    """
    if len(text) > TEXT_LIMIT:
        text = f"{text[: TEXT_LIMIT // 2]}\n{text[-TEXT_LIMIT // 2 :]}"
    if _UNPRINTABLE.search(text):
        text = _ESCAPE.sub(" ", text)
    if any(mark in text for mark in _PLACEHOLDER_MARKS):
        text = _PLACEHOLDER.sub(" ", text)
    if _MAY_RUN.match(text):
        text = _RUN.sub(" ", text)
    return _RULE.sub(" ", text).strip()


def pieces(text: str) -> int:
    """Estimate how many word pieces the model's tokenizer makes of `text`: one per 7 letters begun, one a sign."""
    return len(_PIECES.findall(text))


def shorten(text: str, limit: int) -> str:
    """Return the beginning of `text` that has at most `limit` estimated pieces, white space folded."""
    used = end = 0
    for match in _PIECE.finditer(text):
        used += _cost(match.group())
        if used > limit:
            return " ".join(text[:end].split())
        end = match.end()
    return " ".join(text.split())


def ending(text: str, limit: int) -> str:
    """Return the end of `text`, whose white space is folded, that has at most `limit` estimated pieces."""
    text = text[-(limit + 2) * (PIECE_LETTERS + 1) :]  # a piece is at most its letters and a space long
    used, start = 0, len(text)
    for match in reversed(list(_PIECE.finditer(text))):
        used += _cost(match.group())
        if used > limit:
            break
        start = match.start()
    return " ".join(text[start:].split())


def digest(text: str, limit: int) -> str:
    """Return a text of at most about `limit` pieces: all of it, or its beginning and its end."""
    folded = " ".join(text.split())
    head = shorten(folded, limit)
    if len(head) == len(folded):
        return head
    head = shorten(folded, limit - limit // 2)
    return f"{head} ... {ending(folded[len(head) :], limit // 2)}"


def windows(text: str, size: int = WINDOW_PIECES) -> list[str]:
    """Cut `text` into windows of about `size` pieces at line and sentence ends.

    A short last sentence of a window is repeated at the start of the next, so that what spans the cut is found.
    """
    found: list[str] = []
    current: list[str] = []
    used = last = 0
    for part, cost in _parts(text, size):
        if current and used + cost > size:
            found.append(" ".join(current))
            current, used = (current[-1:], last) if last * 4 < size else ([], 0)
        current.append(part)
        used, last = used + cost, cost
    return [*found, " ".join(current)] if current else found


def exchange_passages(exchange: Exchange, context: str = "") -> list[Passage]:
    """Return the passages of an exchange: the view `whole`, then 1 to 3 windows, each led by the prompt.

    `context` is the last prompt of the session that says something; it leads where this prompt alone says too little.
    """
    return list(_passages(exchange.user, exchange.assistant, context))


def item_passages(item: KnowledgeItem) -> list[Passage]:
    """Return the passages of an item: the view `whole`, then 1 to 3 windows, each led by the title."""
    return list(_passages(item.title, item.content, ""))


def exchange_words(exchange: Exchange) -> str:
    """Return the text of an exchange for the word search: prompt, answer, files, commands, failed tool calls."""
    failed = (call.output[:OUTPUT_LIMIT] for call in exchange.tools if call.is_error)
    return _words((exchange.user, exchange.assistant, *exchange.facts.files, *exchange.facts.commands, *failed))


def indexed_part(exchange: Exchange) -> Exchange:
    """Return `exchange` without what no index sees: most of its tool calls, and with them most of its bytes."""
    failed = (replace(call, input="", output=call.output[:OUTPUT_LIMIT]) for call in exchange.tools if call.is_error)
    return replace(exchange, tools=tuple(failed))


def item_words(item: KnowledgeItem) -> str:
    """Return the text of an item for the word search."""
    return _words((item.title, item.content))


@lru_cache(maxsize=REMEMBERED)
def _passages(prompt: str, answer: str, context: str) -> tuple[Passage, ...]:
    prompt, answer, context = readable(prompt), readable(answer), readable(context)
    if context and len(prompt.split()) < CONTEXT_BELOW:
        prompt = f"{shorten(context, LEAD_PIECES)}\n{prompt}".strip()
    opening = shorten(prompt, PROMPT_PIECES)
    whole = f"{opening}\n{digest(answer, WHOLE_PIECES - pieces(opening))}".strip()
    lead = shorten(prompt, LEAD_PIECES)
    texts = [f"{lead}\n{window}".strip() for window in _ends(windows(answer))]
    return Passage(whole, "whole"), *(Passage(text, "window") for text in texts or [lead])


def _ends(found: Sequence[str]) -> Sequence[str]:
    if len(found) <= FIRST_WINDOWS + LAST_WINDOWS:
        return found
    return [*found[:FIRST_WINDOWS], *found[-LAST_WINDOWS:]]


def _parts(text: str, size: int) -> Iterable[tuple[str, int]]:
    for line in _PART.findall(text):
        for sentence in _SENTENCE.split(line):
            yield from _chunks(sentence, size)


def _chunks(part: str, size: int) -> list[tuple[str, int]]:
    """Return `part` in texts of at most `size` pieces, each with its pieces: a line of code may exceed a window."""
    words = part.split()
    cost = pieces(part)
    if cost <= size:
        return [(" ".join(words), cost)] if words else []
    step = max(1, len(words) * size // (2 * cost))
    cut = [shorten(" ".join(words[start : start + step]), size) for start in range(0, len(words), step)]
    return [(text, pieces(text)) for text in cut]


def _cost(word: str) -> int:
    return 1 + (len(word) - 1) // PIECE_LETTERS


def _words(texts: Iterable[str]) -> str:
    return "\n".join(filter(None, map(readable, texts)))[:TEXT_LIMIT]
