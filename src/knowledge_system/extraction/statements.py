"""Which sentences of an answer carry the insight, and how they read outside the session."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from knowledge_system.extraction.signals import identifiers

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from knowledge_system.extraction.prose import Sentence
    from knowledge_system.extraction.signals import Signals

_WEIGHTS = {
    "cause": 2.0,
    "reason": 1.2,
    "choice": 0.8,
    "done": 1.0,
    "advice": 0.6,
    "fact": 0.7,
    "result": 0.4,
    "hedge": -1.5,
    "plan": -1.2,
    "narration": -3.0,
    "question": -4.0,
    "offer": -4.0,
    "status": -1.0,
    "refusal": -4.0,
    "assent": -1.5,
}
_SIDE_SECTION = re.compile(
    r"(?i)next|optional|usage|how to (?:run|use|test)|try|todo|remaining|files? (?:changed|modified|created)"
    r"|reminder|future|notes? for"
)
_MAIN_SECTION = re.compile(
    r"(?i)fix|cause|problem|issue|summary|what (?:i|was|changed)|why|solution|decision|recommend|change|answer|key"
)
_ANAPHORA = re.compile(
    r"(?i)(?:(?:cons|pros|line|note|old|new|before|after|previously|option|step|files?|fix|case|result|now|same|instead|finally|first"
    r"|second|third)\b(?: \d+)?[:,. ]"
    r"|#?\d+[.:)]|\w+(?:ed|de|lt|pt) (?:that|this|it|both|them|the (?:issue|problem|bug|error|change|code|test"
    r"|file))\b|this|that|it|its|they|these|those|he|she|which|such|here|there|both|one|but|and|so|also|then"
    r"|however|or)\b"
)
_LEAD = re.compile(
    r"(?i)\A(?:(?:good|great|perfect|excellent|nice|yes|yep|yeah|no|nope|right|correct|exactly|absolutely|indeed"
    r"|sure|ok|okay|ah|aha|hmm|well|so|now|and"
    r"|interesting|got it|found it|i see|confirmed|understood|done|fixed|short answer|in short|tl;dr|summary|note"
    r"|thanks[\w ]{0,30}"
    r"|good (?:catch|point|question|news|instinct|idea)|great (?:question|news|point|catch)|classic issue|you(?:'re"
    r"| are) (?:absolutely |totally |completely )?(?:right|correct)"
    r"|my mistake|as expected|in other words|basically|actually|essentially|that said|therefore|thus|finally|also"
    r"|key insight)"
    r"\s*(?:[-,.!:;\u2013\u2014]+)\s*)+"
)
_STATEMENT_LEAD = re.compile(
    r"(?i)\A(?:(?:i|we) (?:can )?(?:now )?(?:see|found|have found|notice[d]?|confirmed|verified|think|believe"
    r"|understand)(?: that)?(?: the (?:issue|problem|bug))?\s*[-:\u2014.]*\s+"
    r"|(?:i'?ve |now i have |ok,? )?(?:found|identified|located|confirmed) (?:the|it)(?: \w+){0,2}\s*[-:\u2014.!]+\s*"
    r"|(?:so |and |but )?the (?:real |actual |main |root |key |core |underlying |likely |only )*(?:issue|problem"
    r"|bug|error|reason|cause|culprit|key|trick|challenge|catch|fix|answer|solution|change)"
    r"(?: here| now)? (?:is|was|were)(?: that| because| due to)?[\s:]+(?!in\b|with\b|on\b|at\b|from\b|not\b"
    r"|likely\b|related\b|to\b|how\b)"
    r"|(?:the )?(?:problem|issue|fix|cause|root cause|solution|bug|answer|reason|why|recommendation|result|key "
    r"insight|insight|decision|best practice)s?\s*(?:\([^)]{1,30}\))?\s*[:\u2014-]+\s*"
    r"|(?:it )?turns out(?: that)?,? |that'?s because |this is because |because )"
)
_FIRST_PERSON = re.compile(
    r"(?i)\A(?:i|we)(?:'ve| have)?(?: also| now| just| already| then)* (?!need)(?=(?:\w+ed|made|set|put|cut|split"
    r"|built|kept|ran|wrote|rewrote|took|left|chose|went)\b)"
)
_BY_FIRST_PERSON = re.compile(
    r"(?i)\b(?:so |and )?i(?:'ve| have)? (?=(?:added|changed|fixed|moved|removed|replaced|updated|switched|made"
    r"|set)\b)"
)
_ADDRESSED = re.compile(r"(?i)\b(?:your?|please|be sure|make sure|you'll|you're|yourself)\b")
_SUBORDINATE = re.compile(
    r"(?i)\A(?:since|when|if|because|while|after|before|to|although|as|for|in|on|with|once|instead of|rather "
    r"than)\b[^,]{3,140}, (?=\S)"
)
_TAIL = re.compile(r"[\s,;:\u2014\u2013.!-]+\Z")
_HOME = re.compile(r"(?:/Users|/home|C:\\Users)[/\\][\w.-]+[/\\]")
MOST_POINTS = 4.5
SHORT, LONG = 28, 330


@dataclass(frozen=True, slots=True)
class Statement:
    """A sentence with what it does, its worth as an insight, and whether it stands alone."""

    sentence: Sentence
    marks: frozenset[str]
    points: float
    position: float

    @property
    def text(self) -> str:
        """Return the sentence as it reads outside the session."""
        return restated(self.sentence.text)

    @property
    def alone(self) -> bool:
        """Tell whether it can be understood without the sentence before it."""
        return _ANAPHORA.match(self.text) is None and not self.fragment

    @property
    def fragment(self) -> bool:
        """Tell whether it is a piece of an enumeration or of code rather than a sentence."""
        return is_fragment(self.sentence.text)


def ranked(signals: Signals) -> tuple[Statement, ...]:
    """Return the statements of the answer in its order, each with its points."""
    total = max(1, len(signals.statements))
    return tuple(
        Statement(sentence, found, _points(sentence, found, place / total), place / total)
        for place, (sentence, found) in enumerate(signals.statements)
    )


def _points(sentence: Sentence, found: frozenset[str], place: float) -> float:
    points = sum(_WEIGHTS.get(mark, 0.0) for mark in found)
    points += 0.5 * min(3, len(set(identifiers(sentence.text))))
    length = len(sentence.text)
    points -= 1.5 if length < SHORT else 0.8 if length > LONG else 0.0
    points -= 1.5 if sentence.text.endswith(":") else 0.0
    points -= 2.0 if is_fragment(sentence.text) else 0.0
    points -= 1.0 if _ADDRESSED.search(sentence.text) else 0.0
    points += _section_points(sentence.section)
    return points + (0.4 if place > 0.6 else 0.0)  # noqa: PLR2004 -- the summary stands in the last part


@lru_cache(maxsize=1024)
def _section_points(section: str) -> float:
    return (0.6 if _MAIN_SECTION.search(section) else 0.0) - (1.5 if _SIDE_SECTION.search(section) else 0.0)


@lru_cache(maxsize=4096)
def is_fragment(text: str) -> bool:
    """Tell whether `text` begins in the middle, or has none of the small words that sentences are made of."""
    if not text.isascii() and len(_NON_LATIN.findall(text)) > len(text) // 4:
        return False
    words = text.lower().split()
    if text[:1].islower() or _SMALL_WORDS.isdisjoint(words):
        return True
    return sum(1 for word in words if _NAME_LIKE.search(word)) > 0.6 * len(words)


_NON_LATIN = re.compile(r"[^\x00-\u024f]")
_NAME_LIKE = re.compile(r"[_/\\=<>{}|]|\w\.\w|^--?\w|,$")
_SMALL_WORDS = frozenset(
    [
        "the",
        "a",
        "an",
        "is",
        "are",
        "was",
        "were",
        "be",
        "been",
        "to",
        "of",
        "in",
        "on",
        "for",
        "with",
        "by",
        "from",
        "as",
        "at",
        "that",
        "when",
        "if",
        "so",
        "not",
        "no",
        "and",
        "or",
        "it",
        "its",
        "this",
        "which",
        "than",
        "because",
        "now",
        "only",
        "has",
        "have",
        "had",
        "does",
        "do",
        "did",
        "can",
        "must",
        "should",
        "will",
        "until",
        "before",
        "after",
        "into",
        "per",
        "uses",
        "needs",
        "returns",
        "der",
        "die",
        "das",
        "ist",
        "und",
        "nicht",
        "mit",
        "von",
        "zu",
        "den",
        "ein",
        "eine",
        "im",
        "wird",
        "weil",
        "el",
        "la",
        "los",
        "las",
        "es",
        "un",
        "una",
        "de",
        "que",
        "en",
        "no",
        "se",
        "por",
        "con",
        "para",
        "y",
        "o",
        "os",
        "um",
        "uma",
        "do",
        "da",
        "em",
        "não",
        "com",
        "le",
        "les",
        "des",
        "est",
        "et",
        "pas",
        "pour",
        "dans",
        "une",
        "au",
    ]
)
"""English, German, Spanish, Portuguese, French."""


@lru_cache(maxsize=4096)
def restated(text: str) -> str:
    """Return `text` without chatter, first person and lead-ins, beginning with a capital letter."""
    text = _HOME.sub("~/", text.replace("\u2019", "'"))
    for _ in range(3):
        shorter = _STATEMENT_LEAD.sub("", _LEAD.sub("", text, count=1), count=1)
        if shorter == text or len(shorter) < SHORT:
            break
        text = shorter
    text = _FIRST_PERSON.sub("", text, count=1)
    text = _BY_FIRST_PERSON.sub("", text) if not text.lower().startswith("i ") else text
    return capitalised(text.strip())


def capitalised(text: str) -> str:
    """Return `text` with a capital letter first, where its first word is one and no name out of code."""
    first = text.split(maxsplit=1)[0] if text.strip() else ""
    plain = first.rstrip(",:;.!?").replace("'", "").isalpha() and first.islower()
    return text[:1].upper() + text[1:] if plain else text


def headline(text: str, most: int = 100) -> str:
    """Return `text` as a title of at most `most` characters, cut at a clause where it must be."""
    text = _TAIL.sub("", text)
    if len(text) <= most:
        return _balanced(text)
    if lead := _SUBORDINATE.match(text):
        main = text[lead.end() :]
        return headline(main[:1].upper() + main[1:], most) if len(main) >= SHORT else _cut(text, most)
    for mark in (" \u2014 ", "; ", " (", ", which ", ", so ", " so that ", " because ", ": ", ", ", " and ", " when "):
        place = text.rfind(mark, 0, most + 1)
        if place >= most * 0.45 and text.count("`", 0, place) % 2 == 0 and _opened(text[:place]) == 0:
            return _balanced(_TAIL.sub("", text[:place]))
    return _cut(text, most)


def _opened(text: str) -> int:
    return text.count("(") - text.count(")") + text.count('"') % 2


def _cut(text: str, most: int) -> str:
    place = text.rfind(" ", 0, most - 1)
    return _balanced(_TAIL.sub("", text[: place if place > 0 else most - 1])) + "\u2026"


def _balanced(text: str) -> str:
    """Close what a cut left open."""
    if text.count("`") % 2:
        text = text[: text.rfind("`")] + text[text.rfind("`") + 1 :]
    if text.count("(") > text.count(")"):
        text = text[: text.rfind("(")].rstrip() or text
    return text.strip()


def spoken(text: str) -> str:
    """Return what a user said as it reads outside the session: paths shortened, a capital letter first."""
    return capitalised(_HOME.sub("~/", text))


def repeats(text: str, kept: Iterable[str]) -> bool:
    """Tell whether `text` says nearly the same words as one of `kept`."""
    words = set(text.lower().split())
    return any(len(words & set(other.lower().split())) > 0.7 * min(len(words), len(other.split())) for other in kept)


def best(statements: Iterable[Statement], mark: str, most: int = 1, least: float = 1.0) -> list[Statement]:
    """Return up to `most` statements that carry `mark`, best first, none below `least` points."""
    bearing = [s for s in statements if mark in s.marks and s.points >= least]
    return sorted(bearing, key=lambda s: (-s.points - 0.5 * s.alone, s.position))[:most]


def insight(statements: Sequence[Statement]) -> float:
    """Return the mean points of the three best statements: how much the answer has to say."""
    top = sorted((statement.points for statement in statements), reverse=True)[:3]
    return sum(top) / 3 if top else 0.0
