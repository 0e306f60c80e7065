"""From features to a judgement: is the exchange worth keeping, and of which type is it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from knowledge_system.domain.knowledge import KnowledgeType
from knowledge_system.extraction.course import course
from knowledge_system.extraction.cues import cues
from knowledge_system.extraction.features import features
from knowledge_system.extraction.request_kinds import request_kinds
from knowledge_system.extraction.traces import traces

if TYPE_CHECKING:
    from knowledge_system.domain.knowledge import Episode
    from knowledge_system.extraction.judge import Parameters
    from knowledge_system.extraction.signals import Signals

JUNK = "junk"
"""Anchors whose name begins so describe what is not worth keeping."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """`confidence` is the calibrated probability of being worth keeping; `reasons` are the largest contributions."""

    confidence: float
    worth: bool
    kind: KnowledgeType
    kinds: dict[KnowledgeType, float]
    contributions: dict[str, float]


def observations(signals: Signals, episode: Episode, parameters: Parameters) -> dict[str, float]:
    """Return everything the two models look at: signals, what was asked and touched, similarities to the anchors."""
    near = parameters.similarity([vector for _, vector in episode.passages[:1]])
    return {
        **features(signals),
        **course(signals),
        **cues(signals),
        **request_kinds(signals.ask),
        **traces(signals),
        **near,
        **_margin(near),
    }


def _margin(near: dict[str, float]) -> dict[str, float]:
    junk = [value for name, value in near.items() if name.startswith(JUNK)]
    kept = [near[kind] for kind in KnowledgeType if kind in near]
    return {"near_knowledge": max(kept) - max(junk), "near_junk": max(junk)} if junk and kept else {}


def judgement(observed: dict[str, float], parameters: Parameters) -> Judgement:
    """Return the judgement on an exchange with these observations."""
    log_odds = float(parameters.worth.outputs(observed)[0])
    confidence = parameters.worth_keeping(log_odds)
    shares = _shares(parameters, observed)
    return Judgement(
        confidence=confidence,
        worth=confidence >= parameters.threshold,
        kind=max(shares, key=lambda kind: (shares[kind], kind)),
        kinds=shares,
        contributions=parameters.worth.contributions(observed),
    )


def _shares(parameters: Parameters, observed: dict[str, float]) -> dict[KnowledgeType, float]:
    outputs = parameters.kinds.outputs(observed)
    raised = np.exp(outputs - outputs.max())
    return {
        KnowledgeType(name): float(value) for name, value in zip(parameters.classes, raised / raised.sum(), strict=True)
    }
