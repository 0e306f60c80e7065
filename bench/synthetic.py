"""Homes of synthetic items for the speed bench: many short texts of one domain, no foreign text.

Up to `EMBEDDED` items every text is embedded. Above, embedding would take most of an hour and say nothing about
searching: there the text of an item without its number is embedded once, and each item gets that vector moved at random
as far as numbers move the real ones (the median cosine of pairs is measured first). They are written straight into the
truth, and the index is built from there as `knowledge index rebuild` does. So scores and neighbourhoods are like those
of embedded texts; which item is the best answer to a question means nothing, and nothing here looks at it.
"""

from __future__ import annotations

import random
import statistics
import time
from array import array
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np

from knowledge_system.domain.knowledge import Evidence, KnowledgeItem, KnowledgeType
from knowledge_system.domain.sessions import Exchange
from knowledge_system.retrieval.indexing import item_document

if TYPE_CHECKING:
    from collections.abc import Sequence

    from knowledge_system.application.compose import Parts
    from knowledge_system.domain.embedding import Vector

EMBEDDED = 20_000
THEMES = 4_000
BATCH = 2_000
PAIRS = 64
SUBJECTS = [
    "connection pool",
    "retry policy",
    "login form",
    "database migration",
    "cache key",
    "build image",
    "test fixture",
    "message queue",
    "search index",
    "upload handler",
    "rate limiter",
    "feature flag",
    "log rotation",
    "date parser",
]
FAULTS = [
    "times out under load",
    "fails on Windows paths",
    "loses updates",
    "leaks file handles",
    "is not idempotent",
    "breaks with unicode names",
    "runs twice after a restart",
    "ignores the configured limit",
    "blocks the event loop",
]
CURES = [
    "close it before forking",
    "take the lock around both writes",
    "normalise the path first",
    "use a monotonic clock",
    "move the call into a worker",
    "pin the version in the lock file",
    "retry with jitter",
    "wrap it in a transaction",
]
TOOLS = [
    "pytest",
    "docker",
    "postgres",
    "redis",
    "webpack",
    "cargo",
    "terraform",
    "nginx",
    "gradle",
    "sqlite",
    "kafka",
    "vite",
]
OPENINGS = ["how to repair a", "what about the", "reason for a"]


@dataclass(frozen=True, slots=True)
class Theme:
    """What an item is about."""

    subject: str
    fault: str
    cure: str
    tool: str


def theme(number: int) -> Theme:
    """Return the theme of an item, one of `THEMES`, drawn at random but always the same for its number."""
    rng = random.Random(number % THEMES)
    return Theme(*(rng.choice(words) for words in (SUBJECTS, FAULTS, CURES, TOOLS)))


def questions(count: int, seed: int) -> list[str]:
    """Return different questions of 8 to 13 words, 10 on average."""
    asked = [
        f"{opening} {subject} that {fault} with {tool}"
        for opening in OPENINGS
        for subject in SUBJECTS
        for fault in FAULTS
        for tool in TOOLS
    ]
    return random.Random(seed).sample(asked, count)


def item(number: int, about: Theme | None = None) -> KnowledgeItem:
    """Return the item of a number, about its theme unless another one is given."""
    about = about or theme(number)
    rng = random.Random(-number - 1)
    moment = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(minutes=number)
    title = f"The {about.subject} in {about.tool} {about.fault}: {about.cure}"
    problem = f"Problem: the {about.subject} of service {number} {about.fault} with {about.tool}."
    return KnowledgeItem(
        id=f"k{number:024x}",
        type=rng.choice(list(KnowledgeType)),
        title=title,
        content=f"{problem}\nCause: case {number}.\nFix: {about.cure}.",
        confidence=rng.uniform(0.5, 0.99),
        project=f"project-{number % 12}",
        session_id=f"s{number // 20}",
        created_at=moment,
        updated_at=moment,
        valid_from=moment,
        evidence=(Evidence(f"x{number:024x}", "assistant", 0, 20),),
    )


def exchange(one: KnowledgeItem) -> Exchange:
    """Return the exchange that an item rests on; its texts are the item's."""
    number = int(one.id[1:], 16)
    return Exchange(
        id=one.evidence[0].exchange_id,
        session_id=one.session_id,
        index=number % 20,
        path="bench.jsonl",
        project=one.project,
        agent="any",
        user=one.title,
        assistant=one.content,
        content_hash=str(number),
        timestamp=one.valid_from,
    )


async def fill(parts: Parts, size: int, *, exchanges: bool) -> dict[str, Any]:
    """Store `size` items, with `exchanges` also what they rest on, index and optimise; return how long that took."""
    began = time.perf_counter()
    truth = await parts.truth()
    moved = None if size <= EMBEDDED else await Moved.measured(parts)
    for start in range(0, size, BATCH):
        items = [item(number) for number in range(start, min(size, start + BATCH))]
        if exchanges:
            await truth.items.load([exchange(one) for one in items])
        await truth.items.load(items)
        if moved is not None:
            await moved.store(parts, items)
    stored = time.perf_counter()
    indexer, index = await parts.indexer(), await parts.index()
    if moved is None:
        await indexer.catch_up()
        report = await index.optimize()
    else:
        report = await indexer.rebuild(index)
        for stage in await truth.outbox.depth():
            await truth.outbox.advance(await truth.outbox.pending(stage, 3 * size), None)
    return {
        "store_s": round(stored - began, 1),
        "index_s": round(time.perf_counter() - stored, 1),
        "recall_of_graph": round(report.recall, 4),
        "vectors": "embedded" if moved is None else f"moved, cosine {moved.cosine:.3f} to their theme",
    }


class Moved:
    """Vectors of items made from those of their themes."""

    def __init__(self, cosine: float) -> None:
        self.cosine = cosine
        self._themes: dict[Theme, list[Vector]] = {}
        self._rng = np.random.default_rng(1)

    @classmethod
    async def measured(cls, parts: Parts) -> Moved:
        """Measure how far the number of an item moves its vectors."""
        about = [theme(number) for number in range(PAIRS)]
        numbered = await _embedded(parts, [item(7_000 + n, one) for n, one in enumerate(about)])
        plain = await _embedded(parts, [item(0, one) for one in about])
        cosines = [float(np.dot(a[0], b[0])) for a, b in zip(numbered, plain, strict=True)]
        return cls(statistics.median(cosines))

    async def store(self, parts: Parts, items: Sequence[KnowledgeItem]) -> None:
        """Write the vectors of items into the truth."""
        abouts = {theme(int(one.id[1:], 16)) for one in items}
        new = [about for about in abouts if about not in self._themes]
        self._themes.update(zip(new, await _embedded(parts, [item(0, about) for about in new]), strict=True))
        vectors: dict[str, Vector] = {}
        for one in items:
            document = item_document(one)
            for key, near in zip(document.hashes, self._themes[theme(int(one.id[1:], 16))], strict=True):
                vectors[key] = self._moved(near)
        truth = await parts.truth()
        await truth.vectors.put(parts.model().space, vectors)
        await truth.vectors.refer({one.id: item_document(one).hashes for one in items})

    def _moved(self, near: Vector) -> Vector:
        centre = np.frombuffer(near, np.float32)
        away = self._rng.standard_normal(len(centre)).astype(np.float32)
        away -= np.dot(away, centre) * centre
        moved = self.cosine * centre + np.sqrt(1 - self.cosine**2) * away / np.linalg.norm(away)
        return array("f", (moved / np.linalg.norm(moved)).astype(np.float32).tobytes())


async def _embedded(parts: Parts, items: Sequence[KnowledgeItem]) -> list[list[Vector]]:
    texts = [[passage.text for passage in item_document(one).passages] for one in items]
    vectors = iter(await parts.model().embed([text for some in texts for text in some]))
    return [[next(vectors) for _ in some] for some in texts]
