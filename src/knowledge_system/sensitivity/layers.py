"""All layers together, as the privacy gate of the engine asks them.

1 paths and 2 patterns and topics' words: `classify`, for every call. 3 similarity of meaning and 4 a local model for
doubtful cases: `examine`, for calls that could leave the machine. Verdicts are remembered by the hash of the content;
a failure is not. What each layer says when it cannot judge:

===============================================  ========================================================
layers 1 and 2 raise, or exceed the time limit   the gate counts the content as confidential
an image, sound or file is part of the content   confidential, unless the caller calls the content public
the embedding model is missing, fails, is late   the gate counts the content as confidential
near a topic                                     the topic's level
perhaps near a topic, a local model clears it    no objection
perhaps near, and no local model is configured,  the topic's level: a doubt that nobody clears stays a doubt
running, in time or clear in its answer
===============================================  ========================================================
"""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections import OrderedDict
from typing import TYPE_CHECKING, Protocol

from knowledge_system.domain.sensitivity import Layer, Sensitivity, Verdict
from knowledge_system.sensitivity.gatekeeper import found_level
from knowledge_system.sensitivity.memory import KeyedMemory
from knowledge_system.sensitivity.paths import path_level, paths_in
from knowledge_system.sensitivity.redaction import Tally, redact_structured
from knowledge_system.sensitivity.sentences import sentences

if TYPE_CHECKING:
    from collections.abc import Sequence

    from knowledge_system.sensitivity.local_judge import LocalJudge
    from knowledge_system.sensitivity.meaning import MeaningLayer
    from knowledge_system.sensitivity.topics import TopicRules

NOTHING = Sensitivity.PUBLIC
"""The level of what no layer objects to: below every other, so that the caller's stands."""
_AT_ONCE = 4_000
"""Characters that are searched at once; more are searched in a thread, so that others get their turn."""
_MOST_REMEMBERED = 10_000


class PatternLayer:
    """Layers 1 and 2 for texts that nobody redacted: files they name, secrets and personal data, topics' words."""

    def __init__(self, topics: TopicRules) -> None:
        self._topics = topics

    def judge(self, texts: Sequence[str]) -> Verdict:
        """Return the strictest level found in all `texts` together: the number of distinct secrets counts."""
        tally, memory = Tally(), KeyedMemory(os.urandom(16))
        for text in texts:
            redact_structured(text, memory, tally)
        paths = path_level(path for text in texts if text[:1] in {"{", "["} for path in paths_in(text))
        found = [
            (found_level(tally), Layer.PATTERN),
            (paths, Layer.PATH),
            (self._topics.level(texts, []), Layer.TOPIC),
        ]
        verdicts = [Verdict(level, layer) for level, layer in found if level is not None and level.rank > NOTHING.rank]
        return max(verdicts, key=lambda verdict: verdict.level.rank, default=Verdict(NOTHING, Layer.PATTERN))


class Verdicts(Protocol):
    """Verdicts of layer 3 that other processes of this installation reached; what cannot be trusted is not returned."""

    async def recall(self, digest: bytes) -> Verdict | None:
        """Return the verdict on the content of `digest`, None when there is none."""
        ...

    async def keep(self, digest: bytes, verdict: Verdict) -> None:
        """Let the others know."""
        ...


class Layers:
    """The `Classifier` of the running system. `judge` is set once the engine that it asks exists."""

    def __init__(self, patterns: PatternLayer, meaning: MeaningLayer, shared: Verdicts | None = None) -> None:
        self._patterns = patterns
        self.meaning = meaning
        self.judge: LocalJudge | None = None
        self._shared = shared
        self._matched: OrderedDict[bytes, Verdict] = OrderedDict()
        self._examined: OrderedDict[bytes, Verdict] = OrderedDict()

    async def classify(self, texts: Sequence[str], operation: str) -> Verdict:
        """Return what layers 1 and 2 say."""
        del operation
        key = _digest(texts)
        verdict = self._matched.get(key)
        if verdict is None:
            if _is_short(texts):
                verdict = self._patterns.judge(texts)
            else:
                verdict = await asyncio.to_thread(self._patterns.judge, texts)
            _remember(self._matched, key, verdict)
        return verdict

    async def examine(self, texts: Sequence[str], operation: str) -> Verdict:
        """Return what layers 3 and 4 say. Raises ModelUnavailable when there is no embedding model to ask."""
        del operation
        key = _digest(texts)
        verdict = self._examined.get(key)
        if verdict is None:
            verdict = await self._reached(key, texts)
        return verdict

    async def _reached(self, key: bytes, texts: Sequence[str]) -> Verdict:
        shared = None if self._shared is None else await self._shared.recall(key)
        verdict = shared or await self._meant(texts)
        if verdict.layer != Layer.SIMILARITY_DOUBT:  # a local model may be there the next time
            _remember(self._examined, key, verdict)
        if shared is None and self._shared is not None and verdict.layer == Layer.SIMILARITY:
            await self._shared.keep(key, verdict)
        return verdict

    async def _meant(self, texts: Sequence[str]) -> Verdict:
        read = _all_sentences(texts) if _is_short(texts) else await asyncio.to_thread(_all_sentences, texts)
        near = await self.meaning.nearness(read)
        if near.sensitive:
            return Verdict(near.level, Layer.SIMILARITY, near.about)
        if not near.doubtful:
            return Verdict(NOTHING, Layer.SIMILARITY)
        if self.judge is not None and await self.judge.clears(near.doubtful):
            return Verdict(NOTHING, Layer.LOCAL_MODEL)
        return Verdict(near.level, Layer.SIMILARITY_DOUBT, near.about)


def _is_short(texts: Sequence[str]) -> bool:
    return sum(map(len, texts)) <= _AT_ONCE


def _remember(known: OrderedDict[bytes, Verdict], key: bytes, verdict: Verdict) -> None:
    known[key] = verdict
    if len(known) > _MOST_REMEMBERED:
        known.popitem(last=False)


def _all_sentences(texts: Sequence[str]) -> list[str]:
    return [sentence for text in texts for sentence in sentences(text)]


def _digest(texts: Sequence[str]) -> bytes:
    digest = hashlib.blake2b(digest_size=16)
    for text in texts:
        data = text.encode("utf-8", "surrogatepass")
        digest.update(len(data).to_bytes(8, "big") + data)
    return digest.digest()
