"""What the meaning layer compares with: topics as sentences, and what developers say about the same words every day.

The shipped topics (`meanings.json`: credentials, health, personnel, legal, finance, customer-data) always apply. A
topic of `sensitivity-topics.json` that has a `description` or `examples` is compared too; one with the name of a
shipped topic takes its place, so `{"name": "legal", "level": "public", "description": "…"}` switches that one off.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING

from knowledge_system.domain.sensitivity import Sensitivity

if TYPE_CHECKING:
    from knowledge_system.sensitivity.topics import TopicRules


@dataclass(frozen=True, slots=True)
class Meaning:
    """A topic by what is said about it: its description and examples, each a sentence or two."""

    name: str
    level: Sensitivity
    texts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Meanings:
    """Sensitive topics, and `ordinary` sentences that no topic is about."""

    topics: tuple[Meaning, ...]
    ordinary: tuple[str, ...]


def meanings_of(rules: TopicRules) -> Meanings:
    """Return the shipped topics with those that `rules` add, replace or switch off."""
    known = {topic.name: topic for topic in shipped().topics}
    for topic in rules.topics:
        texts = tuple(filter(None, (topic.description, *topic.examples)))
        if texts or topic.name in known:
            known[topic.name] = Meaning(topic.name, topic.level, texts or known[topic.name].texts)
    raising = tuple(topic for topic in known.values() if topic.level.rank > Sensitivity.INTERNAL.rank)
    return Meanings(raising, shipped().ordinary)


@cache
def shipped() -> Meanings:
    """Return the topics of the package."""
    document = json.loads(resources.files(__package__).joinpath("meanings.json").read_text(encoding="utf-8"))
    topics = tuple(
        Meaning(topic["name"], Sensitivity(topic["level"]), (topic["description"], *topic["examples"]))
        for topic in document["topics"]
    )
    return Meanings(topics, tuple(document["ordinary"]))
