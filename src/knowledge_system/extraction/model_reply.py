"""What a model said about exchanges, held against their texts: what the transcript does not show is not believed."""

from __future__ import annotations

import json
import re
import unicodedata
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from knowledge_system.domain.knowledge import Evidence, KnowledgeType
from knowledge_system.extraction.orders import instructs, plain

if TYPE_CHECKING:
    from knowledge_system.domain.inference import Reply
    from knowledge_system.domain.sessions import Exchange

SHORTEST_TITLE, LONGEST_TITLE = 8, 120
SHORTEST_CONTENT, LONGEST_CONTENT = 20, 1_500
SHORTEST_QUOTE, LONGEST_QUOTE, MOST_QUOTES = 8, 600, 6
LEAST_GROUNDED = 0.5
"""Share of the words of a title or content that must occur in the answer: a paraphrase has more than an invention."""
STEM = 5
"""Characters of a word that are compared: inflection changes the rest."""

REPLY_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "exchanges": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    "index": {"type": "integer"},
                    "worth": {"type": "boolean"},
                    "type": {"type": "string", "enum": [kind.value for kind in KnowledgeType]},
                    "title": {"type": "string"},
                    "content": {"type": "string"},
                    "quotes": {"type": "array", "items": {"type": "string"}},
                },
                "required": ["index", "worth", "type", "title", "content", "quotes"],
                "additionalProperties": False,
            },
        }
    },
    "required": ["exchanges"],
    "additionalProperties": False,
}
"""Lengths are not in it: providers differ in what they accept, and they are checked here in any case."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What the model said about one exchange, well-formed but not yet believed."""

    worth: bool
    kind: str = ""
    title: str = ""
    content: str = ""
    quotes: tuple[str, ...] = ()


def read_answers(reply: Reply, asked: int) -> dict[int, Answer] | None:
    """Return the answers by number (from 1 to `asked`), or None when the reply cannot be used at all.

    A refusal, an answer that was cut off, broken JSON, a malformed entry, a number that was not asked for and a number
    answered twice each drop the whole reply: a model that does one of these has lost track of what it was shown.
    """
    data = _json(reply)
    entries = data.get("exchanges") if isinstance(data, dict) else None
    if reply.finish != "stop" or not isinstance(entries, list):
        return None
    answers: dict[int, Answer] = {}
    for entry in entries:
        answer, index = _answer(entry), entry.get("index") if isinstance(entry, dict) else None
        if answer is None or type(index) is not int or not 1 <= index <= asked or index in answers:
            return None
        answers[index] = answer
    return answers


def _json(reply: Reply) -> Any:
    if reply.data is not None:
        return reply.data
    try:
        return json.loads(reply.text)
    except (ValueError, RecursionError):
        return None


def _answer(entry: Any) -> Answer | None:
    if not isinstance(entry, dict) or not isinstance(entry.get("worth"), bool):
        return None
    if not entry["worth"]:
        return Answer(worth=False)
    texts = [entry.get(name) for name in ("type", "title", "content")]
    quotes = entry.get("quotes")
    if not all(isinstance(text, str) for text in texts) or not isinstance(quotes, list):
        return None
    if not all(isinstance(quote, str) for quote in quotes):
        return None
    kind, title, content = (str(text).strip() for text in texts)
    return Answer(worth=True, kind=kind, title=title, content=content, quotes=tuple(quotes))


def locate(quote: str, exchange: Exchange) -> Evidence | None:
    """Return where `quote` stands: exactly, or with white space of another kind; the answer is searched first."""
    for name, text in (("assistant", exchange.assistant), ("user", exchange.user)):
        if span := _span(quote, text):
            return Evidence(exchange.id, name, *span)
    return None


def _span(quote: str, text: str) -> tuple[int, int] | None:
    words, exact = quote.split(), quote.strip()
    if (start := text.find(exact)) >= 0:
        return start, start + len(exact)
    found = re.search(r"\s+".join(re.escape(word) for word in words), text)
    return found.span() if found else None


def proof(answer: Answer, exchange: Exchange) -> tuple[tuple[Evidence, ...], str]:
    """Return the evidence of an item, or none and why the item is not believed."""
    if reason := _ill_formed(answer) or _unfounded(answer, exchange):
        return (), reason
    found = [locate(quote, exchange) for quote in answer.quotes]
    located = tuple(dict.fromkeys(one for one in found if one is not None))
    if len(found) != sum(one is not None for one in found):
        return (), "quote not in the transcript"
    if not any(one.field == "assistant" for one in located):
        return (), "no quote of the answer"
    return located, ""


def _ill_formed(answer: Answer) -> str:
    """Return the first thing wrong with the item's form, or an empty text."""
    lengths = [len(quote.strip()) for quote in answer.quotes]
    faults = {
        "unknown type": answer.kind not in set(KnowledgeType),
        "title too short or too long": not SHORTEST_TITLE <= len(answer.title) <= LONGEST_TITLE,
        "title of several lines": "\n" in answer.title,
        "content too short or too long": not SHORTEST_CONTENT <= len(answer.content) <= LONGEST_CONTENT,
        "hidden characters": _hides(answer.title + answer.content),
        "no quote or too many": not 1 <= len(lengths) <= MOST_QUOTES,
        "quote too short or too long": not all(SHORTEST_QUOTE <= length <= LONGEST_QUOTE for length in lengths),
    }
    return next((fault for fault, present in faults.items() if present), "")


_SHOWN_FORMATS = frozenset("\u200c\u200d")
"""Format characters that scripts and emoji need; every other hides, reorders or smuggles what a reader sees."""


def _hides(text: str) -> bool:
    """Tell whether a text holds characters that are not seen for what they are: controls, formats, private use."""
    return any(
        unicodedata.category(one) in {"Cc", "Cf", "Co", "Cs"} and one not in "\n\t" and one not in _SHOWN_FORMATS
        for one in text
        if not one.isprintable()
    )


def _unfounded(answer: Answer, exchange: Exchange) -> str:
    """Return what in the item's words does not come from the exchange, or an empty text.

    The prompt alone proves nothing: it may hold pages and mails that somebody pasted. So what can do harm (addresses,
    commands) and half of the words must stand in the answer.
    """
    said = f"{answer.title}\n{answer.content}"
    if instructs(said):
        return "instructions to its reader"
    if foreign := _foreign(said, exchange):
        return foreign
    lowered = exchange.assistant.casefold()
    if min(_grounded(answer.title, lowered), _grounded(answer.content, lowered)) < LEAST_GROUNDED:
        return "words that are not in the answer"
    return ""


def _foreign(said: str, exchange: Exchange) -> str:
    """Return which part of `said` that must be copied is not: placeholders, addresses, commands, code."""
    both = f"{exchange.user}\n\n{exchange.assistant}"
    whole, shown = _folded(both), _folded(exchange.assistant)
    if not _all_in(_PLACEHOLDER, said, both):
        return "a placeholder that is not in the transcript"
    if not _all_in(_ADDRESS, plain(said), plain(exchange.assistant)):
        return "an address that is not in the answer"
    if not all(_folded(found.group()) in shown for found in _COMMAND.finditer(said)):
        return "a command that is not in the answer"
    code = [next(filter(None, found.groups()), "") for found in _QUOTED.finditer(said)]
    return "" if all(_folded(one) in whole for one in code) else "code that is not in the transcript"


def _all_in(pattern: re.Pattern[str], said: str, text: str) -> bool:
    known = {match.rstrip(".,;:!?") for match in pattern.findall(text)}
    return all(match.rstrip(".,;:!?") in known for match in pattern.findall(said))


_PLACEHOLDER = re.compile(r"\[?\b(?:secret|personal):[\w-]+#\d+\]?|\[(?:secret|personal)\b[^\]\n]*\]?")
_ENDINGS = (
    "com|net|org|io|dev|sh|ru|cn|xyz|app|ai|co|info|me|gg|link|site|top|page|cloud|online|tk|us|uk|de|eu|fr|nl|jp|tech"
    "|store|live|club|biz|run|zip|mov|host|space|su"
)
_ADDRESS = re.compile(
    r"(?i)(?:\b[a-z][a-z0-9+.-]{1,20}://|\b(?:javascript|data|mailto):|\bwww\.)[^\s<>()\[\]\"'`]+"
    rf"|\b[\w-]{{1,63}}(?:\.[\w-]{{1,63}}){{0,4}}\.(?:{_ENDINGS})\b(?:/[^\s<>()\[\]\"'`]*)?"
    rf"|\b[\w-]{{2,63}} ?(?:\[\.\]|\(\.\)|[\[(]dot[\])]| dot )\s?(?:{_ENDINGS})\b"
    r"|\b\d{1,3}(?:\.\d{1,3}){3}\b|\]\([^()\n]{0,300}\)|<[a-z/!][^>\n]{0,200}>"
)
_QUOTED = re.compile(r"```[\w+-]*\n(.*?)```|`([^`\n]+)`", re.DOTALL)
_COMMAND = re.compile(
    r"^[$>#] \S[^\n]*"
    r"|\b(?:curl|wget|sudo|chmod|chown|rm|dd|eval|bash|sh|npx|pip3? install|npm (?:i|install)|docker run|git push"
    r"|kubectl|terraform|aws|gcloud|powershell|nc|ncat|ssh|scp|crontab|mkfs|python3?|perl|node)"
    r" [-~/\w.$]*[-~/.$][\w./$-]*",
    re.MULTILINE,
)


def _folded(text: str) -> str:
    return " ".join(text.split())


def _grounded(said: str, lowered: str) -> float:
    """Return the share of the words that the exchange has too; each character of Chinese, Japanese, Korean is one."""
    words = _WORD.findall(said.casefold())
    return sum(word[:STEM] in lowered for word in words) / len(words) if words else 1.0


_WORD = re.compile(r"[\u3040-\u9fff\uac00-\ud7af]|[^\W\d_\u3040-\u9fff\uac00-\ud7af]{4,}")
