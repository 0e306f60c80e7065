"""Does a new item replace an older one?

Without a model only an explicit statement counts: the new item says that one thing took the place of another ("replaced
X with Y", "switched from X to Y", "use Y instead of X"), and the older item of the same project, on the same subject,
rests on X and knows nothing of Y. Everything else stays side by side, the newer ranked higher by freshness.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from knowledge_system.lifecycle.deduplicate import cosine

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from knowledge_system.domain.embedding import Vector
    from knowledge_system.domain.knowledge import KnowledgeItem
    from knowledge_system.lifecycle.deduplicate import Known

SAME_SUBJECT = 0.55
"""Cosine from which two items are about one subject; below, "X" may be another X."""

_NAME = r"[`'\"]?(?P<{0}>[A-Za-z_@][\w@./+-]{{1,60}}(?: \d[\w.]*)?)[`'\"]?"
_OLD, _NEW = _NAME.format("old"), _NAME.format("new")
_STATEMENTS = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        rf"\breplac(?:e|ed|es|ing) (?:the |our )?{_OLD} (?:with|by) (?:the |a |an )?{_NEW}",
        rf"\b(?:switch|switched|switching|moved?|moving|migrat(?:e|ed|ing)) (?:away )?from {_OLD} to {_NEW}",
        rf"\b(?:use|uses|using|used|chose|choose|prefer|adopted?) {_NEW} (?:instead of|rather than|over) {_OLD}",
        rf"\b{_NEW} (?:replaces|supersedes) {_OLD}",
    )
)
_ORDINARY = frozenset({"it", "the", "this", "that", "them", "these", "those", "a", "an", "one", "now", "all", "both"})


@dataclass(frozen=True, slots=True)
class Replacement:
    """A stated change: `old` gave way to `new`."""

    old: str
    new: str


def replacements(text: str) -> Iterator[Replacement]:
    """Yield the changes that `text` states explicitly, both sides named."""
    for pattern in _STATEMENTS:
        for match in pattern.finditer(text):
            old, new = match["old"].rstrip("."), match["new"].rstrip(".")
            if old.casefold() not in _ORDINARY and new.casefold() not in _ORDINARY and old.casefold() != new.casefold():
                yield Replacement(old, new)


def superseded_by(item: KnowledgeItem, vector: Vector, known: Iterable[Known]) -> list[KnowledgeItem]:
    """Return the older items of `known` that `item` explicitly replaces."""
    changes = list(replacements(item.content))
    return [one.item for one in known if changes and _replaces(item, vector, one, changes)]


def _replaces(item: KnowledgeItem, vector: Vector, known: Known, changes: list[Replacement]) -> bool:
    old = known.item
    if old.project != item.project or old.id == item.id or old.valid_from >= item.valid_from:
        return False
    if cosine(vector, known.vector) < SAME_SUBJECT:
        return False
    text = f"{old.title}. {old.content}"
    stands = [change for change in changes if _mentions(text, change.old) and not _mentions(text, change.new)]
    return any(not _gives_up(text, change.old) for change in stands)


def _mentions(text: str, name: str) -> bool:
    return re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", text, re.IGNORECASE) is not None


def _gives_up(text: str, name: str) -> bool:
    """Tell whether `text` itself already moves away from `name`."""
    return any(change.old.casefold() == name.casefold() for change in replacements(text))
