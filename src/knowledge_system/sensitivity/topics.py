"""`sensitivity-topics.json`: what the people who run the system declare sensitive, or public.

::

    {"topics": [{"name": "payroll", "level": "confidential", "keywords": ["salary", "payslip"],
                 "globs": ["*/payroll/*"], "patterns": ["EMP-[0-9]{6}"]}]}

A topic may also have a `description` and `examples`, sentences that the meaning layer compares with (`meanings`).

`keywords` match whole words, upper and lower case alike; `globs` match the files an exchange touches and the working
directory; `patterns` are regular expressions. A topic applies when any of them matches. A topic raises the level; a
`public` topic lowers the default to public, and only where nothing sensitive was found.
"""

from __future__ import annotations

import fnmatch
import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from knowledge_system.domain.errors import UsageError
from knowledge_system.domain.sensitivity import Sensitivity, highest

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

_KEYS = ("name", "level", "keywords", "globs", "patterns", "description", "examples")
_CHUNK = 2000
_OVERLAP = 200
_LONGEST_TEXT = 262_144
_LONGEST_PATTERN = 500
_REPEATED_GROUP = re.compile(r"\((?:[^()\\]|\\.)*(?:(?<!\\)[+*|}])(?:[^()\\]|\\.)*\)(?:[+*]|\{\d*,)|\)[+*]\)[+*]")


@dataclass(frozen=True, slots=True)
class Topic:
    """One declared topic; `keywords` are in lower case, `patterns` compiled."""

    name: str
    level: Sensitivity
    keywords: tuple[str, ...] = ()
    globs: tuple[str, ...] = ()
    patterns: tuple[re.Pattern[str], ...] = ()
    description: str = ""
    examples: tuple[str, ...] = ()

    def matches(self, texts: Iterable[str], low: str, paths: Iterable[str]) -> bool:
        """Whether a path or a text belongs to the topic; `low` is all texts in lower case, NUL between them.

        Patterns are searched in pieces of the texts, which bounds the work.
        """
        if any(fnmatch.fnmatchcase(path, glob) for glob in self.globs for path in paths):
            return True
        if any(keyword in low and _stands_alone(keyword, low) for keyword in self.keywords):
            return True
        return any(pattern.search(piece) for pattern in self.patterns for text in texts for piece in _pieces(text))


def _stands_alone(keyword: str, low: str) -> bool:
    return re.search(rf"(?<!\w){re.escape(keyword)}(?!\w)", low) is not None


def _pieces(text: str) -> list[str]:
    return [text[at : at + _CHUNK + _OVERLAP] for at in range(0, min(len(text), _LONGEST_TEXT), _CHUNK)]


@dataclass(frozen=True, slots=True)
class TopicRules:
    """All topics. Empty rules leave every level as it is."""

    topics: tuple[Topic, ...] = ()

    def level(self, texts: Sequence[str], paths: Sequence[str]) -> Sensitivity | None:
        """Return the level the matching topics ask for, None when none matches.

        A rule that fails while it runs proves nothing, so its content counts as sensitive.
        """
        try:
            low = "\0".join(texts).lower()
            matching = [topic.level for topic in self.topics if topic.matches(texts, low, paths)]
        except (RuntimeError, MemoryError, OverflowError, ValueError, re.error):
            return Sensitivity.CONFIDENTIAL
        return highest(matching) if matching else None


def load_topics(path: Path | None) -> TopicRules:
    """Read the topics file; without one, the built-in topics apply.

    Raises `UsageError` naming the place (`topics[2].patterns[0]`) when the file is no valid topics document.
    """
    if path is None or not path.exists():
        return BUILT_IN
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise UsageError(
            f"{path}: {error}",
            hint='Write a JSON object with the key "topics", or remove the file to use the built-in topics.',
        ) from error
    return parse_topics(document, str(path))


def parse_topics(document: Any, source: str) -> TopicRules:
    """Validate a topics document; `source` names it in errors."""
    if not isinstance(document, dict) or set(document) - {"topics"} or not isinstance(document.get("topics", []), list):
        raise UsageError(
            f'{source}: expected one object with the key "topics"',
            hint='Write {"topics": [{"name": "…", "level": "…", …}]}.',
        )
    return TopicRules(
        tuple(_topic(entry, f"{source}: topics[{index}]") for index, entry in enumerate(document.get("topics", [])))
    )


def _topic(entry: Any, place: str) -> Topic:
    if not isinstance(entry, dict) or not isinstance(entry.get("name"), str) or not entry["name"]:
        raise UsageError(
            f"{place}: a topic is an object with a name",
            hint='Give it at least "name", "level" and one of "keywords", "globs", "patterns".',
        )
    for key in entry:
        if key not in _KEYS:
            raise UsageError(f"{place}.{key}: unknown key", hint=f"Known keys: {', '.join(_KEYS)}.")
    keywords, globs, patterns, examples = (
        _strings(entry, key, place) for key in ("keywords", "globs", "patterns", "examples")
    )
    description = entry.get("description", "")
    if not isinstance(description, str):
        raise UsageError(f"{place}.description: expected a text", hint='Write "description": "a sentence or two".')
    if not (keywords or globs or patterns or examples or description):
        raise UsageError(
            f"{place}: the topic {entry['name']!r} matches nothing",
            hint='Add "keywords", "globs", "patterns", "description" or "examples".',
        )
    compiled = tuple(_pattern(pattern, f"{place}.patterns[{index}]") for index, pattern in enumerate(patterns))
    return Topic(
        entry["name"],
        _level(entry.get("level"), f"{place}.level"),
        tuple(word.lower() for word in keywords),
        globs,
        compiled,
        description,
        examples,
    )


def _strings(entry: dict[str, Any], key: str, place: str) -> tuple[str, ...]:
    value = entry.get(key, [])
    if not isinstance(value, list) or not all(isinstance(item, str) and item for item in value):
        raise UsageError(f"{place}.{key}: expected a list of non-empty texts", hint=f'Write "{key}": ["…"].')
    return tuple(value)


def _level(value: Any, place: str) -> Sensitivity:
    levels = [level.value for level in Sensitivity]
    if value not in levels:
        raise UsageError(f"{place}: {value!r} is no level", hint=f"Use one of: {', '.join(levels)}.")
    return Sensitivity(value)


def _pattern(pattern: str, place: str) -> re.Pattern[str]:
    if len(pattern) > _LONGEST_PATTERN or _REPEATED_GROUP.search(pattern):
        raise UsageError(
            f"{place}: the expression may take exponential time",
            hint="Do not repeat a group that itself repeats or has alternatives.",
        )
    try:
        return re.compile(pattern)
    except re.error as error:
        raise UsageError(
            f"{place}: {error}", hint="Correct the regular expression; backslashes are doubled in JSON."
        ) from error


BUILT_IN = TopicRules(
    (
        Topic(
            "marked-confidential",
            Sensitivity.CONFIDENTIAL,
            ("strictly confidential", "do not distribute", "under nda", "trade secret"),
        ),
        Topic(
            "people", Sensitivity.CONFIDENTIAL, ("payslip", "medical record", "medical records", "performance review")
        ),
    )
)
