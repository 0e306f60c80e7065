"""The sensitivity layers over the parts of one running system: for its engine, and for what it stores.

Every call of every door goes through `Parts.engine`, and with it through these layers: there is no other way to a
provider. What is stored is screened while it is learned from, by vectors that exist anyway.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import json
import os
from functools import cached_property
from typing import TYPE_CHECKING, Any

from knowledge_system import __version__
from knowledge_system.domain.sensitivity import Sensitivity, Verdict

if TYPE_CHECKING:
    from pathlib import Path

    from knowledge_system.application.compose import Parts
    from knowledge_system.domain.inference import LanguageModel
    from knowledge_system.domain.sensitivity import Screen
    from knowledge_system.sensitivity.layers import Layers
    from knowledge_system.sensitivity.meaning import MeaningLayer

FLOAT_BYTES = 4


class KeptPrototypes:
    """Vectors of topics in files beside the assembled models. A file that is damaged or missing is computed again."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def load(self, key: str, values: int) -> bytes | None:
        """Return what was kept under `key`, None when there is nothing of `values` float32 numbers."""
        try:
            kept = self._path(key).read_bytes()
        except OSError:
            return None
        return kept if len(kept) == values * FLOAT_BYTES else None

    def keep(self, key: str, vectors: bytes) -> None:
        """Keep vectors, replacing the file at once; a directory that cannot be written costs time, nothing else."""
        fresh = self._path(key).with_suffix(f".{os.getpid()}")
        with contextlib.suppress(OSError):
            fresh.write_bytes(vectors)
            fresh.replace(self._path(key))

    def _path(self, key: str) -> Path:
        return self._directory / f"topics-{key}.f32"


class SharedVerdicts:
    """Verdicts of layer 3 in the second cache level, signed with the installation's key.

    Whoever can write into Redis cannot make a verdict, and cannot tell from a key what was asked about. Without a
    second level nothing is recalled and nothing kept.
    """

    def __init__(self, parts: Parts, meaning: MeaningLayer) -> None:
        self._parts = parts
        self._meaning = meaning

    async def recall(self, digest: bytes) -> Verdict | None:
        """Return the verdict on the content of `digest`, None when there is none with a valid signature."""
        l2 = (await self._parts.caches()).l2
        name = self._name(digest)
        found = await l2.get(name) if l2 is not None else None
        return None if found is None else self._read(name, found[0])

    async def keep(self, digest: bytes, verdict: Verdict) -> None:
        """Let the other processes know."""
        l2 = (await self._parts.caches()).l2
        if l2 is not None:
            name, said = self._name(digest), [verdict.level.value, verdict.layer, verdict.about]
            value = json.dumps([*said, self._signed(name, said)]).encode()
            await l2.put(name, value, self._parts.settings.tree.cache.l2.ttl / 1000)

    def _read(self, name: str, value: bytes) -> Verdict | None:
        with contextlib.suppress(ValueError, TypeError):
            *said, signature = json.loads(value)
            if hmac.compare_digest(self._signed(name, said), signature):
                level, layer, about = said
                return Verdict(Sensitivity(level), layer, about)
        return None

    def _name(self, digest: bytes) -> str:
        content = b"\0".join([digest, self._meaning.version.encode(), __version__.encode()])
        return f"verdict:{hmac.new(self._key, content, hashlib.sha256).hexdigest()}"

    def _signed(self, name: str, said: list[Any]) -> str:
        return hmac.new(self._key, json.dumps([name, said]).encode(), hashlib.sha256).hexdigest()

    @cached_property
    def _key(self) -> bytes:
        return self._parts.home().key()


def make_layers(parts: Parts) -> Layers:
    """Return the layers of a system; nothing is loaded before the first text. Raises UsageError for wrong topics."""
    from knowledge_system.sensitivity.layers import Layers, PatternLayer
    from knowledge_system.sensitivity.meaning import MeaningLayer
    from knowledge_system.sensitivity.meanings import meanings_of
    from knowledge_system.sensitivity.topics import load_topics

    topics = load_topics(parts.settings.topics_file)
    meaning = MeaningLayer(parts.model(), meanings_of(topics), KeptPrototypes(parts.home().models))
    return Layers(PatternLayer(topics), meaning, SharedVerdicts(parts, meaning))


def listen(layers: Layers, engine: LanguageModel) -> None:
    """Let layer 4 ask `engine`, which sends its questions to local models only."""
    from knowledge_system.sensitivity.local_judge import LocalJudge

    layers.judge = LocalJudge(engine)


def screen_of(parts: Parts) -> Screen:
    """Return what judges stored exchanges by the vectors of their passages."""
    from knowledge_system.sensitivity.meaning import MeaningScreen

    return MeaningScreen(parts.layers().meaning)
