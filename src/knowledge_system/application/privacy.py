"""The sensitivity layers over the parts of one running system: for its engine, and for what it stores.

Every call of every door goes through `Parts.engine`, and with it through these layers: there is no other way to a
provider. What is stored is screened while it is learned from, by vectors that exist anyway.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from knowledge_system.application.compose import Parts
    from knowledge_system.domain.inference import LanguageModel
    from knowledge_system.domain.sensitivity import Screen
    from knowledge_system.sensitivity.layers import Layers

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


def make_layers(parts: Parts) -> Layers:
    """Return the layers of a system; nothing is loaded before the first text. Raises UsageError for wrong topics."""
    from knowledge_system.sensitivity.layers import Layers, PatternLayer
    from knowledge_system.sensitivity.meaning import MeaningLayer
    from knowledge_system.sensitivity.meanings import meanings_of
    from knowledge_system.sensitivity.topics import load_topics

    topics = load_topics(parts.settings.topics_file)
    prototypes = KeptPrototypes(parts.home().models)
    return Layers(PatternLayer(topics), MeaningLayer(parts.model(), meanings_of(topics), prototypes))


def listen(layers: Layers, engine: LanguageModel) -> None:
    """Let layer 4 ask `engine`, which sends its questions to local models only."""
    from knowledge_system.sensitivity.local_judge import LocalJudge

    layers.judge = LocalJudge(engine)


def screen_of(parts: Parts) -> Screen:
    """Return what judges stored exchanges by the vectors of their passages."""
    from knowledge_system.sensitivity.meaning import MeaningScreen

    return MeaningScreen(parts.layers().meaning)
