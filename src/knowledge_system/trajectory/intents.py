"""What the developer wants from a prompt: a small linear model over its words and cues, and what the tools show.

The parameters are data (`parameters/intents.json`), made by `bench/train_intents.py` from prompts written for it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from math import exp
from typing import TYPE_CHECKING, Any, Final

from knowledge_system.domain.errors import IntegrityFailure
from knowledge_system.domain.trajectory import Intent
from knowledge_system.trajectory.prompts import features, read_prompt

if TYPE_CHECKING:
    from collections.abc import Mapping

    from knowledge_system.trajectory.prompts import Spoken
    from knowledge_system.trajectory.work import Work

NONE: Final = "none"
PARAMETER_FILE: Final = "intents.json"
SCALE: Final = 1000
"""Weights are stored as whole thousandths."""
PASTED_ERROR: Final = 0.9
THIN_WORDS: Final = 12
UNSURE: Final = 0.6
"""A short prompt that the model is less sure of than this is read in the light of what was wanted before it."""
CARRIED: Final = 1.0
"""Log-odds that such a prompt gains for the intent before it."""


@dataclass(frozen=True, slots=True)
class Guess:
    """The intent (None: an approval, a chore, small talk) and the probability the model gives it, in [0, 1]."""

    intent: Intent | None
    confidence: float
    probabilities: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class IntentModel:
    """`weights` has for each feature one number a class; `rarity` the inverse document frequency of words."""

    version: str
    classes: tuple[str, ...]
    bias: tuple[float, ...]
    rarity: Mapping[str, float]
    weights: Mapping[str, tuple[float, ...]]

    def scores(self, spoken: Spoken) -> list[float]:
        """Return the log-odds of each class, in the order of `classes`."""
        totals = list(self.bias)
        for name, value in features(spoken, self.rarity).items():
            for place, weight in enumerate(self.weights.get(name, ())):
                totals[place] += weight * value
        return totals

    def classify(self, prompt: str, before: Intent | None = None, work: Work | None = None) -> Guess:
        """Return what is wanted with `prompt`, in the light of the intent before it and of what the tools did.

        Never raises, whatever the text; takes a few milliseconds at most.
        """
        return self.judge(read_prompt(prompt), before, work)

    def judge(self, spoken: Spoken, before: Intent | None = None, work: Work | None = None) -> Guess:
        """Return the same for a prompt that has been read already."""
        if not spoken.words and "error" in spoken.shape:  # nothing but a pasted error: its cause is asked for
            return Guess(Intent.DEBUGGING, PASTED_ERROR, {Intent.DEBUGGING.value: PASTED_ERROR, NONE: 1 - PASTED_ERROR})
        if not spoken.text:
            return Guess(None, 1.0, {NONE: 1.0})
        scores = self.scores(spoken)
        found = self._probabilities(scores)
        top = max(found, key=lambda name: found[name])
        if before is not None and top != NONE and len(spoken.words) <= THIN_WORDS and found[top] < UNSURE:
            scores[self.classes.index(before)] += CARRIED
        if work is not None and top != NONE:
            for intent, gain in work.suggests().items():
                scores[self.classes.index(intent)] += gain
        found = self._probabilities(scores)
        top = max(found, key=lambda name: found[name])
        return Guess(None if top == NONE else Intent(top), round(found[top], 4), found)

    def _probabilities(self, scores: list[float]) -> dict[str, float]:
        highest = max(scores)
        raised = [exp(score - highest) for score in scores]
        total = sum(raised)
        return {name: value / total for name, value in zip(self.classes, raised, strict=True)}


def parse_model(content: bytes) -> IntentModel:
    """Return the model stored as JSON. Raises IntegrityFailure when it is damaged."""
    try:
        stored: dict[str, Any] = json.loads(content)
        classes = tuple(stored["classes"])
        weights = {name: tuple(w / SCALE for w in row[-len(classes) :]) for name, row in stored["features"].items()}
        rarity = {name: row[0] / SCALE for name, row in stored["features"].items() if len(row) > len(classes)}
        _check(classes, weights)
        bias = tuple(float(one) / SCALE for one in stored["bias"])
        return IntentModel(str(stored["version"]), classes, bias, rarity, weights)
    except (KeyError, ValueError, TypeError, IndexError, AttributeError) as error:
        raise IntegrityFailure(
            f"the parameters of the intent classifier cannot be read: {error}", hint="install the package again"
        ) from error


def _check(classes: tuple[str, ...], weights: Mapping[str, tuple[float, ...]]) -> None:
    if sorted(classes) != sorted([*Intent, NONE]) or any(len(row) != len(classes) for row in weights.values()):
        raise ValueError("classes and weights do not fit")


@lru_cache(maxsize=1)
def shipped_model() -> IntentModel:
    """Return the model that comes with the package. Raises IntegrityFailure when it is damaged."""
    file = resources.files("knowledge_system.trajectory").joinpath("parameters").joinpath(PARAMETER_FILE)
    try:
        return parse_model(file.read_bytes())
    except OSError as error:
        raise IntegrityFailure(
            f"the intent classifier has no parameters: {error}", hint="install the package again"
        ) from error
