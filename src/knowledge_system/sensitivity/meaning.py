"""Layer 3: how near a sentence is to a sensitive topic, and how near to what developers say anyway.

The margin of a sentence is the mean of its three highest cosine similarities to the sentences of the nearest topic,
minus the mean of its three highest to ordinary ones. Words alone do not tell ("performance review of the list view"),
so nearness to a topic counts only as far as it exceeds nearness to everyday work. The thresholds were chosen on half of
the labelled sentences and checked on the other half: `docs/decisions/0011-privacy-layers.md`.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from knowledge_system.domain.sensitivity import Sensitivity, highest

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from knowledge_system.domain.embedding import EmbeddingModel, Vector
    from knowledge_system.sensitivity.meanings import Meanings

    Matrix = NDArray[np.float32]

SENSITIVE = 0.03
"""Margin from which a sentence belongs to its topic."""
DOUBTFUL = 0.01
"""Margin from which it may: somebody who understands it decides, or it counts as sensitive."""
ABOUT = 0.02
"""Margin from which a whole stored exchange is about its topic: passages are longer, and say more than a sentence."""
FLOOR = 0.2
"""Similarity below which a text is far from every topic, whatever its margin: other languages, lists, noise."""
NEIGHBOURS = 3
_AT_ONCE = 64
"""Sentences embedded between two places where the work can be cancelled; what is done until then is remembered."""
_MOST_REMEMBERED = 50_000


class Prototypes(Protocol):
    """Keeps the vectors of topics between runs: they cost a second to compute."""

    def load(self, key: str, values: int) -> bytes | None:
        """Return what was kept under `key`, None when there is nothing of `values` float32 numbers."""
        ...

    def keep(self, key: str, vectors: bytes) -> None:
        """Keep vectors."""
        ...


@dataclass(frozen=True, slots=True)
class Near:
    """A text that is near a topic: the topic, the level it asks for, the margin."""

    topic: str
    level: Sensitivity
    margin: float


@dataclass(frozen=True, slots=True)
class Nearness:
    """What was found near sensitive topics: `sensitive` for sure, `doubtful` perhaps, the latter with its sentence."""

    sensitive: tuple[Near, ...] = ()
    doubtful: tuple[tuple[str, Near], ...] = ()

    @property
    def level(self) -> Sensitivity:
        """The strictest level found, doubts included; `public` when nothing was found."""
        return highest((near.level for near in self._all()), Sensitivity.PUBLIC)

    @property
    def about(self) -> str:
        """The names of the topics, for people."""
        return ", ".join(sorted({near.topic for near in self._all()}))

    def _all(self) -> list[Near]:
        return [*self.sensitive, *(near for _, near in self.doubtful)]


class MeaningLayer:
    """Compares sentences with topics through the local embedding model. Remembers sentences by their hash only."""

    def __init__(self, model: EmbeddingModel, meanings: Meanings, prototypes: Prototypes | None = None) -> None:
        self._model = model
        self._meanings = meanings
        self._prototypes = prototypes
        self._vectors: Matrix | None = None
        self._known: OrderedDict[bytes, Near | None] = OrderedDict()

    @property
    def version(self) -> str:
        """32 hexadecimal digits that change with whatever a verdict depends on: topics, model, thresholds."""
        rule = f"{SENSITIVE} {DOUBTFUL} {FLOOR} {NEIGHBOURS}"
        texts = [f"{topic.name} {topic.level}" for topic in self._meanings.topics]
        return hashlib.sha256("\0".join([rule, self._key(), *texts]).encode()).hexdigest()[:32]

    async def nearness(self, sentences: Iterable[str]) -> Nearness:
        """Return what of `sentences` is near a topic. Raises ModelUnavailable; cancelled, it keeps what it knows."""
        wanted = {_digest(sentence): sentence for sentence in sentences}
        found = {key: self._known[key] for key in wanted if key in self._known}
        for key in found:
            self._known.move_to_end(key)
        missing = [key for key in wanted if key not in found]
        for start in range(0, len(missing), _AT_ONCE):
            part = missing[start : start + _AT_ONCE]
            vectors = await self._model.embed([wanted[key] for key in part])
            fresh = dict(zip(part, await self.nearest(vectors), strict=True))
            found |= fresh
            self._remember(fresh)
        return _sorted((wanted[key], near) for key, near in found.items() if near is not None)

    async def nearest(self, vectors: Sequence[Vector]) -> list[Near | None]:
        """Return the topic that each vector is near enough to be doubtful or more, with its margin."""
        if not vectors or not self._meanings.topics:
            return [None] * len(vectors)
        prototypes = await self._matrix()
        similar = np.stack([np.frombuffer(vector, np.float32) for vector in vectors]) @ prototypes.T
        ordinary = _mean_of_highest(similar[:, -len(self._meanings.ordinary) :])
        closest = np.stack([_mean_of_highest(similar[:, span]) for span in self._spans()])
        best = closest.argmax(0)
        margins = closest.max(0) - ordinary
        near_enough = (margins >= DOUBTFUL) & (closest.max(0) >= FLOOR)
        return [
            Near(self._meanings.topics[topic].name, self._meanings.topics[topic].level, float(margin)) if near else None
            for topic, margin, near in zip(best, margins, near_enough, strict=True)
        ]

    def _spans(self) -> list[slice]:
        ends = np.cumsum([len(topic.texts) for topic in self._meanings.topics]).tolist()
        return [slice(start, end) for start, end in zip([0, *ends], ends, strict=False)]

    async def _matrix(self) -> Matrix:
        """Return the vectors of all topics, then those of the ordinary sentences, computed once for a model."""
        if self._vectors is None:
            texts, space, key = self._texts(), self._model.space, self._key()
            kept = self._prototypes.load(key, len(texts) * space.dimension) if self._prototypes else None
            if kept is None:
                kept = b"".join(vector.tobytes() for vector in await self._model.embed(texts))
                if self._prototypes:
                    self._prototypes.keep(key, kept)
            self._vectors = np.frombuffer(kept, np.float32).reshape(len(texts), space.dimension)
        return self._vectors

    def _texts(self) -> list[str]:
        return [*(text for topic in self._meanings.topics for text in topic.texts), *self._meanings.ordinary]

    def _key(self) -> str:
        return hashlib.sha256("\0".join([self._model.space.key, *self._texts()]).encode()).hexdigest()[:32]

    def _remember(self, fresh: dict[bytes, Near | None]) -> None:
        self._known.update(fresh)
        while len(self._known) > _MOST_REMEMBERED:
            self._known.popitem(last=False)


class MeaningScreen:
    """The `Screen` of what is stored: an exchange or item that is about a sensitive topic gets the topic's level."""

    def __init__(self, layer: MeaningLayer) -> None:
        self._layer = layer

    async def levels(self, vectors: Sequence[Sequence[Vector]]) -> list[Sensitivity | None]:
        """Return for each text the level its passages ask for, None where none is about a topic."""
        near = await self._layer.nearest([vector for passages in vectors for vector in passages])
        judged = iter(near)
        found = [[next(judged) for _ in passages] for passages in vectors]
        return [_level([one for one in passages if one and one.margin >= ABOUT]) for passages in found]


def _level(near: Sequence[Near]) -> Sensitivity | None:
    return highest(one.level for one in near) if near else None


def _sorted(found: Iterable[tuple[str, Near]]) -> Nearness:
    near = list(found)
    sensitive = tuple(one for _, one in near if one.margin >= SENSITIVE)
    return Nearness(sensitive, tuple(pair for pair in near if pair[1].margin < SENSITIVE))


def _mean_of_highest(similar: Matrix) -> Matrix:
    """Return the mean of the highest `NEIGHBOURS` similarities of each row; of all when there are fewer."""
    most = min(NEIGHBOURS, similar.shape[1])
    highest_few: Matrix = np.partition(similar, -most, axis=1)[:, -most:]
    mean: Matrix = highest_few.mean(axis=1)
    return mean


def _digest(sentence: str) -> bytes:
    return hashlib.blake2b(sentence.encode("utf-8", "surrogatepass"), digest_size=16).digest()
