"""What a model said about exchanges, held against their texts: what the transcript does not show is not believed."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from knowledge_system.domain.knowledge import Evidence, KnowledgeType

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from knowledge_system.domain.inference import Reply
    from knowledge_system.domain.sessions import Exchange

SHORTEST_TITLE, LONGEST_TITLE = 8, 120
SHORTEST_CONTENT, LONGEST_CONTENT = 20, 1_500
SHORTEST_QUOTE, LONGEST_QUOTE, MOST_QUOTES = 8, 600, 6
LEAST_GROUNDED = 0.5
"""Share of the words of a title or content that must occur in the exchange: a paraphrase has more than an invention."""
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


@dataclass(frozen=True, slots=True)
class Source:
    """The texts of an exchange as far as they may prove something; positions are those of the stored texts.

    Paragraphs that address a reading model are blanked: what they say is no evidence, and neither are their names and
    addresses.
    """

    exchange_id: str
    user: str
    assistant: str

    @classmethod
    def of(cls, exchange: Exchange) -> Source:
        """Return what of `exchange` may be believed."""
        return cls(exchange.id, _without_orders(exchange.user), _without_orders(exchange.assistant))

    @property
    def text(self) -> str:
        """Both texts as one."""
        return f"{self.user}\n\n{self.assistant}"

    def narrowed(self, spans: Sequence[Evidence]) -> Source:
        """Return a source of which only `spans` are left."""
        user, assistant = (
            _only(text, [(one.start, one.end) for one in spans if one.field == name])
            for name, text in (("user", self.user), ("assistant", self.assistant))
        )
        return replace(self, user=user, assistant=assistant)

    def locate(self, quote: str) -> Evidence | None:
        """Return where `quote` stands: exactly, or with white space of another kind; the answer is searched first."""
        for name, text in (("assistant", self.assistant), ("user", self.user)):
            if span := _span(quote, text):
                return Evidence(self.exchange_id, name, *span)
        return None


def _span(quote: str, text: str) -> tuple[int, int] | None:
    words, exact = quote.split(), quote.strip()
    if _BLANK in exact:
        return None
    if (start := text.find(exact)) >= 0:
        return start, start + len(exact)
    found = re.search(r"\s+".join(re.escape(word) for word in words), text)
    return found.span() if found else None


_BLANK = "\0"


def _only(text: str, spans: Sequence[tuple[int, int]]) -> str:
    left = [_BLANK] * len(text)
    for start, end in spans:
        left[start:end] = text[start:end]
    return "".join(left)


_BREAK = re.compile(r"\n\s*\n")
_ORDER = re.compile(
    r"(?i)\b(?:ignor\w*|disregard\w*|forget|overrid\w*|bypass)\b[^\n]{0,60}"
    r"\b(?:instructions?|prompts?|guidelines|rules? (?:above|before)|(?:above|previous|prior|earlier)\b(?! version))"
    r"|\b(?:new|updated|real) (?:system )?instructions?\s*:|\bsystem (?:prompt|message|override)\b"
    r"|</?(?:system|instructions?|assistant|human|user)>|\[/?INST\]|<\|\w+\|>|^[ \t]*(?:system|assistant)[ \t]*:"
    r"|<<<[^\n]{0,80}\b(?:exchange|prompt|answer|end)\b|\bknowledge extract(?:or|ion)\b|\bto the (?:model|ai|llm)\b"
    r"|\b(?:mark|save|store|record|classify|remember|keep) (?:this|the) (?:exchange|conversation|item)\b"
    r"|\byou are (?:now )?(?:an?|the) [^\n]{0,40}\b(?:extractor|assistant|model|ai)\b"
    r"|[\"']?worth[\"']?\s*:\s*(?:true|false)|\bconfidence[\"']?\s*[:=]\s*[01]?\.\d|\bconfidence[\"']?\s*[:=]\s*1\b",
    re.MULTILINE,
)


def _without_orders(text: str) -> str:
    return "".join(_BLANK * len(part) if _ORDER.search(part) else part for part in _paragraphs(text))


def holds_orders(exchange: Exchange) -> bool:
    """Tell whether something in the exchange speaks to whoever reads it rather than of the work."""
    return any(_ORDER.search(text) is not None for text in (exchange.user, exchange.assistant))


def _paragraphs(text: str) -> Iterator[str]:
    """Yield the pieces of `text`, breaks included, so that joined they are the text again."""
    start = 0
    for gap in _BREAK.finditer(text):
        yield text[start : gap.start()]
        yield gap.group()
        start = gap.end()
    yield text[start:]


def proof(answer: Answer, source: Source) -> tuple[tuple[Evidence, ...], str]:
    """Return the evidence of an item, or none and why the item is not believed."""
    if reason := _ill_formed(answer) or _unfounded(answer, source.text):
        return (), reason
    found = [source.locate(quote) for quote in answer.quotes]
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
        "hidden characters": _HIDDEN.search(answer.title + answer.content) is not None,
        "no quote or too many": not 1 <= len(lengths) <= MOST_QUOTES,
        "quote too short or too long": not all(SHORTEST_QUOTE <= length <= LONGEST_QUOTE for length in lengths),
    }
    return next((fault for fault, present in faults.items() if present), "")


# Control characters, and those that hide or reorder what a reader sees.
_HIDDEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b\u200e\u200f\u202a-\u202e\u2060-\u2069\ufeff\ud800-\udfff]")


def _unfounded(answer: Answer, text: str) -> str:
    """Return what in the item's words does not come from the exchange, or an empty text."""
    said = f"{answer.title}\n{answer.content}"
    if not _all_in(_PLACEHOLDER, said, text):
        return "a placeholder that is not in the transcript"
    if not _all_in(_ADDRESS, said, text):
        return "an address that is not in the transcript"
    folded = _folded(text)
    quoted = [next(filter(None, match.groups()), "") for match in _QUOTED.finditer(said)]
    if not all(_folded(code) in folded for code in (*quoted, *(m.group() for m in _COMMAND.finditer(said)))):
        return "code or a command that is not in the transcript"
    lowered = text.casefold()
    if min(_grounded(answer.title, lowered), _grounded(answer.content, lowered)) < LEAST_GROUNDED:
        return "words that are not in the transcript"
    return ""


def _all_in(pattern: re.Pattern[str], said: str, text: str) -> bool:
    known = {match.rstrip(".,;:!?") for match in pattern.findall(text)}
    return all(match.rstrip(".,;:!?") in known for match in pattern.findall(said))


_PLACEHOLDER = re.compile(r"\[?\b(?:secret|personal):[\w-]+#\d+\]?|\[(?:secret|personal)\b[^\]\n]*\]?")
_ADDRESS = re.compile(
    r"(?i)(?:\b[a-z][a-z0-9+.-]{1,20}://|\b(?:javascript|data|mailto):|\bwww\.)[^\s<>()\[\]\"'`]+"
    r"|\b[\w-]{1,63}(?:\.[\w-]{1,63}){0,4}\.(?:com|net|org|io|dev|sh|ru|cn|xyz|app|ai|co|info)\b(?:/[^\s<>()\[\]\"'`]*)?"
    r"|\b\d{1,3}(?:\.\d{1,3}){3}\b|\]\([^()\n]{0,300}\)|<[a-z/!][^>\n]{0,200}>"
)
_QUOTED = re.compile(r"```[\w+-]*\n(.*?)```|`([^`\n]+)`", re.DOTALL)
_COMMAND = re.compile(
    r"^[$>#] \S[^\n]*"
    r"|\b(?:curl|wget|sudo|chmod|chown|rm|dd|eval|bash|sh|npx|pip3? install|npm (?:i|install)|docker run|git push)"
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


def model_metadata(reply: Reply, prompt: str, cost_nano: int) -> Mapping[str, Any]:
    """Return what an item says about the call behind it; `cost_nano` is the item's share of what the call cost."""
    return {"prompt": prompt, "provider": reply.provider, "model": reply.model, "cost_nano": cost_nano}


def shares(cost_nano: int, parts: int) -> Sequence[int]:
    """Return `cost_nano` divided into `parts` that add up to it."""
    whole, rest = divmod(cost_nano, parts)
    return [whole + (place < rest) for place in range(parts)]
