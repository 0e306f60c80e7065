"""A prompt as features: its words, what it begins with, cues in several languages, and its shape.

What was pasted (code, logs, quotations) is not what the user says: it counts only as the kind of thing it is.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from itertools import pairwise
from math import log, sqrt
from typing import TYPE_CHECKING, Final

from knowledge_system.trajectory.cues import CUES

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

READ_CHARACTERS: Final = 2_400
"""What a prompt asks stands in its beginning or its end; both halves of this are read."""
COMPARED_CHARACTERS: Final = 1_200
"""Of what the user says, so much is compared in words and pieces of words; cues are looked for in all that is read."""
PIECES: Final = (2, 3, 4)
"""Lengths of the pieces of words: they carry over to other forms of a word, misspellings and other languages."""
WORD_SHARE: Final = 1.5
CUE_SHARE: Final = 0.2
(
    """A prompt's words have length 1.5 together, its pieces 1, each cue 0.2: chosen by cross-validation, "
"see the decision."""
)
SHAPE_SHARE: Final = 0.12
EARLY_CHARACTERS: Final = 160

_FENCE = re.compile(r"```.*?(?:```|\Z)|~~~.*?(?:~~~|\Z)", re.DOTALL)
_TAGGED = re.compile(r"<(system-reminder|local-command-\w+|command-\w+|ide_\w+)>.*?(?:</\1>|\Z)", re.DOTALL)
_MARK = re.compile(r"</?[\w-]{2,40}>|\[(?:Image|Pasted)[^\]]{0,60}\]")
_ADDRESS = re.compile(r"https?://\S+")
_PLACE = re.compile(r"@?(?:[\w.~-]*/)+[\w.-]+|@[\w./-]+|\b[\w-]+\.(?:[a-z]{1,4}|[A-Z]{2,4})\b")
_DOCUMENT = re.compile(r"(?i)\.(?:mdx?|mdc|rst|adoc|txt|docx?)\b|\breadme\b|\bchangelog\b")
_TEST_FILE = re.compile(r"(?i)(?:^|[/_.-])(?:tests?|specs?|e2e)(?:[/_.-]|$)|_test\.|\.test\.|test_")
_LOG_LINE = re.compile(
    r"[ \t]*(?:at \S+.*[:(]\d|File \"|Traceback|\d{4}-\d\d-\d\d|\[\d|\d\d:\d\d|[$\u276f%] |>>> |\^|~~|\||\+\+|--- |@@"
    r"|\d+ \||[\w./-]+:\d+|\w+@\w+[:~]|#\d+ |[-drwx]{10} |[A-Z]\w+(?:Error|Exception)\b|(?:error|fatal|warning|remote"
    r"|npm ERR!|E )[:\s].{0,3}|.*[;{}]\s*$)"
)
_ERROR = re.compile(
    r"\b\w{0,60}(?:Error|Exception)\b\s?[:(]|Traceback \(|\b(?:error|fatal|panic|ERROR|FAILED|Failed)\b\s?:"
    r"|\berror\[\w+\]"
    r"|\bexit(?:ed)?(?: with)?(?: code)? [1-9]|\b(?:ENOENT|EACCES|ECONNREFUSED|SIGSEGV|OOMKilled)\b"
    r"|\b[45]\d\d\b (?:error|Error)"
    r"|\bsegfault|\breturned error\b"
)
_WORD = re.compile(r"[^\W\d_][\w'-]*|[\u4e00-\u9fff]", re.UNICODE)
_TOKEN = re.compile(r"\b\w\w+\b")
_ASKS = re.compile(r"[?\uff1f]")
_LIST = re.compile(r"(?m)^\s*(?:[-*\u2022]|\d{1,2}[.)])\s+\S")
_HEADING = re.compile(r"(?m)^#{1,4} \S")


@dataclass(frozen=True, slots=True)
class Spoken:
    """What the user says, without what was pasted, and the kinds of things that were pasted or named."""

    text: str
    words: tuple[str, ...]
    shape: tuple[str, ...]


def read_prompt(prompt: str) -> Spoken:
    """Return what `prompt` says. Never raises, whatever the text; the time is linear in `READ_CHARACTERS`."""
    text = _TAGGED.sub(" ", _bounded(prompt))
    fenced = _FENCE.sub("\n", text)
    lines = [line.lstrip("> \t") for line in fenced.splitlines()]
    said = [line for line in lines if line.strip() and not _LOG_LINE.match(line)]
    shape = _shape_of(text, has_code=fenced != text, pasted=len(lines) - len(said))
    whole = _MARK.sub(" ", "\n".join(said)).replace("\u2019", "'")
    plain = _PLACE.sub(" ", _ADDRESS.sub(" ", whole))
    words = tuple(word.strip("'-") for word in _WORD.findall(plain.lower()))
    return Spoken(whole.strip(), words, (*shape, *_manner(whole, words)))


def _bounded(prompt: str) -> str:
    if len(prompt) <= READ_CHARACTERS:
        return prompt
    half = READ_CHARACTERS // 2
    return f"{prompt[:half]}\n{prompt[-half:]}"


def _shape_of(text: str, *, has_code: bool, pasted: int) -> list[str]:
    names = _PLACE.findall(text[:READ_CHARACTERS])
    found = {
        "code": has_code,
        "error": _ERROR.search(text) is not None,
        "pasted": pasted >= 2,  # noqa: PLR2004 -- one line may be a way of writing, two are an excerpt
        "document": any(_DOCUMENT.search(name) for name in names) or _DOCUMENT.search(text) is not None,
        "test-file": any(_TEST_FILE.search(name) for name in names),
        "file": bool(names),
        "list": len(_LIST.findall(text)) > 1,
        "headings": len(_HEADING.findall(text)) > 1,
        "address": _ADDRESS.search(text) is not None,
    }
    return [name for name, present in found.items() if present]


def _manner(whole: str, words: Sequence[str]) -> list[str]:
    found = []
    if _ASKS.search(whole):
        found.append("ends-asking" if whole.rstrip("\"')*_` .!\n").endswith(("?", "\uff1f")) else "asks")
    size = len(words)
    found.append(next(name for most, name in _SIZES if size <= most))
    return found


_SIZES: Final = ((2, "words<=2"), (5, "words<=5"), (12, "words<=12"), (30, "words<=30"), (120, "words<=120"),
                 (10**9, "words>120"))  # fmt: skip


def grams(spoken: Spoken) -> tuple[Counter[str], Counter[str]]:
    """Return the words and pairs of words (`w:`), and the pieces of words (`p:`), with how often each occurs."""
    text = spoken.text[:COMPARED_CHARACTERS].lower()
    said = _TOKEN.findall(text)
    words = Counter(f"w:{word}" for word in said)
    words.update(f"w:{first} {second}" for first, second in pairwise(said))
    pieces: Counter[str] = Counter()
    for word in text.split():
        padded = f" {word} "
        for size in PIECES:
            pieces.update(f"p:{padded[at : at + size]}" for at in range(max(1, len(padded) - size + 1)))
    return words, pieces


def marks(spoken: Spoken) -> dict[str, float]:
    """Return the cues anywhere (`c:`), those at the beginning (`e:`), and the shape (`z:`), each with its share."""
    found = dict.fromkeys((f"z:{name}" for name in spoken.shape), SHAPE_SHARE)
    shown = spoken.text.lower()
    early = shown[:EARLY_CHARACTERS]
    for name, pattern in CUES.items():
        if pattern.search(shown):
            found[f"c:{name}"] = CUE_SHARE
            if pattern.search(early):
                found[f"e:{name}"] = CUE_SHARE
    return found


def scaled(counts: Mapping[str, int], rarity: Mapping[str, float], share: float) -> dict[str, float]:
    """Return the known features of one kind, of Euclidean length `share`, weighed by number and rarity."""
    raw = {name: (1 + log(count)) * rarity[name] for name, count in counts.items() if name in rarity}
    length = sqrt(sum(value * value for value in raw.values()))
    return {name: share * value / length for name, value in raw.items()} if length else {}


def features(spoken: Spoken, rarity: Mapping[str, float]) -> dict[str, float]:
    """Return all features of a prompt by name; `rarity` gives the inverse document frequency of the known ones."""
    words, pieces = grams(spoken)
    return {**scaled(words, rarity, WORD_SHARE), **scaled(pieces, rarity, 1.0), **marks(spoken)}
