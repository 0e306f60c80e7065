"""Fit the parameters of the learning judge: `python bench/train_judge.py --corpus DIR [--write]`.

Trains on the corpus' `knowledge.jsonl`, on `training/dev_labels.jsonl` and on the exchanges written for training;
`bench/labels/` is never trained on.
Prints figures that are out of the repository: every real example is scored by a model that saw no example of its
repository. With the same corpus the outcome is the same to the last digit shown.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.linear_model import LogisticRegression

from knowledge_system.domain.knowledge import KnowledgeType
from knowledge_system.extraction.classify import observations
from knowledge_system.extraction.features import ruled_out
from knowledge_system.extraction.judge import LinearModel, Parameters
from knowledge_system.extraction.request_kinds import REQUEST_KINDS
from knowledge_system.extraction.signals import read_signals
from knowledge_system.extraction.traces import TRACES
from training import episodes
from training.shipping import same_as_shipped, write

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from training.episodes import Example

    Array = NDArray[np.float64]

VERSION = "2"
WORTH_STRENGTH, TEXT_STRENGTH = 0.01, 0.01
"""Inverse regularisation (scikit-learn's C): signals alone, signals and vector."""
KIND_FITS = ((0.25, 0.01), (0.25, 0.1), (0.75, 0.01), (0.75, 0.1))
"""The type model is the mean of these fits: how far frequencies of types are evened out, inverse regularisation."""
TEXT_SHARE = 1.0
"""Weight of the model that reads the vector beside the one that sees only signals."""
VECTOR_SCALE = 10.0
"""Unit vectors have components of about 0.05: this brings them near the size of standardised features."""
BORDERLINE_WEIGHT = 0.5
"""Weight of an example whose second acceptable label says the opposite about being worth keeping."""
WRITTEN_WEIGHT = 0.3
"""Weight of a written example: those are plainer than what people really do."""
SECOND_SHARE = 0.4
"""Share of an example's weight that counts for its second acceptable type."""
NATURAL_SHARE = 0.3
"""Share worth keeping, among exchanges that no rule excludes, that calibration and threshold assume."""
THRESHOLD = 0.65
"""From the curve of `learning.py`: the lowest at which five of six items are right out of the repository."""
SOFTENING = 0.2
"""Added to each standard deviation: a feature that hardly varies in training must not explode later."""
DIGITS = 5
WORTH = (
    "insight", "substance", "identifiers", "firm_share", "hedge_share", "narration_share", "plan_share", "status_share",
    "refusal", "paperwork", "document_share", "ask_trouble", "checked", "recovered", "accepted", "corrected",
    "ends_midway", "repaired", "explained", "answered", "decided", "delivered", "open_diagnosis",
    "unproven", "survey", "general_question", "final_hedge",
    "near_knowledge", "near_junk",
)  # fmt: skip
KIND = (
    "ask_question", "ask_trouble", "ask_error", "ask_plan", "edited", "code", "causes", "choices", "reasons", "done",
    "advice", "facts", "results", "test_files", "repaired", "explained", "decided", "delivered", "ends_asking",
    "substance", "tool_calls",
    *(f"cue:{kind.value}" for kind in KnowledgeType), *(kind.value for kind in KnowledgeType),
    *(f"req:{kind}" for kind in REQUEST_KINDS), *TRACES,
)  # fmt: skip
READS_WORTH = "reads:worth"
READS_KIND = "reads:"


@dataclass(frozen=True, slots=True)
class Observed:
    """An example with what the models look at; `out` when a rule excludes it whatever the model says."""

    example: Example
    values: dict[str, float]
    vector: Array
    out: bool

    @property
    def worth(self) -> bool:
        """Tell whether the label is a type."""
        return self.example.label != "none"

    @property
    def borderline(self) -> bool:
        """Tell whether the second acceptable label says the opposite about being worth keeping."""
        return self.example.alt is not None and (self.example.alt != "none") != self.worth

    @property
    def weight(self) -> float:
        """Return the weight in training."""
        weight = BORDERLINE_WEIGHT if self.borderline else 1.0
        return weight * (WRITTEN_WEIGHT if self.example.repository == episodes.WRITTEN else 1.0)


@dataclass(frozen=True, slots=True)
class Reading:
    """A linear model over features and over the vector: `outputs = signals(features) + directions @ vector`."""

    signals: LinearModel
    directions: Array

    def outputs(self, observed: Observed) -> Array:
        """Return the raw outputs for an example."""
        return self.signals.outputs(observed.values) + self.directions @ observed.vector


def anchors(cache: Path) -> dict[str, Array]:
    """Return the unit vector of each anchor: the mean of its descriptions."""
    described = json.loads((episodes.HERE / "anchors.json").read_text(encoding="utf-8"))
    found = {}
    for name, texts in described.items():
        mean = np.mean([np.asarray(v) for v in episodes.embed(texts, cache)], axis=0)
        found[name] = mean / np.linalg.norm(mean)
    return found


def blank(directions: dict[str, Array]) -> Parameters:
    """Return parameters that can only observe: anchors, and models without features."""
    none = np.zeros(0)
    empty = LinearModel((), none, none, np.zeros((1, 0)), np.zeros(1))
    stacked = np.array(list(directions.values()), dtype=np.float16).astype(np.float32)
    return Parameters(VERSION, empty, empty, (), 0.5, (1.0, 0.0), tuple(directions), stacked)


def observe(examples: Sequence[Example], watching: Parameters) -> list[Observed]:
    """Return what the models see of each example."""
    found = []
    for example in examples:
        signals = read_signals(example.episode)
        values = observations(signals, example.episode, watching)
        vector = np.asarray(example.episode.passages[0][1], dtype=np.float64)
        found.append(Observed(example, values, vector, bool(ruled_out(signals))))
    return found


@dataclass(frozen=True, slots=True)
class Targets:
    """What each example counts for: parallel rows of place among the examples, class and weight."""

    places: tuple[int, ...]
    classes: tuple[str, ...]
    weights: tuple[float, ...]

    def evened(self, power: float) -> Array:
        """Return the weights with the classes' totals brought together: 0 leaves them, 1 makes them equal."""
        names, inverse = np.unique(self.classes, return_inverse=True)
        weights = np.array(self.weights)
        totals = np.bincount(inverse, weights=weights, minlength=len(names))
        factors: Array = ((totals.mean() / totals) ** power)[inverse]
        return weights * factors


def fit(
    observed: Sequence[Observed],
    names: tuple[str, ...],
    targets: Targets,
    strength: tuple[float, float],
    *,
    reading: bool,
) -> tuple[Reading, tuple[str, ...]]:
    """Return the fitted model over `names`, and over the vector when `reading`, with its classes.

    `strength` is how far the classes are evened out, and the inverse regularisation.
    """
    raw = np.array([[o.values[name] for name in names] for o in observed])
    mean, scale = raw.mean(axis=0), raw.std(axis=0) + SOFTENING
    inputs = (raw - mean) / scale
    if reading:
        inputs = np.hstack([inputs, VECTOR_SCALE * np.array([o.vector for o in observed])])
    model = LogisticRegression(C=strength[1], max_iter=5000, tol=1e-8)
    model.fit(inputs[list(targets.places)], list(targets.classes), sample_weight=targets.evened(strength[0]))
    weights = np.asarray(model.coef_, dtype=np.float64)
    signals = LinearModel(names, mean, scale, weights[:, : len(names)], np.asarray(model.intercept_, dtype=np.float64))
    directions = VECTOR_SCALE * weights[:, len(names) :] if reading else np.zeros((len(weights), 384))
    return Reading(signals, directions), tuple(str(c) for c in model.classes_)


def fit_worth(observed: Sequence[Observed]) -> Reading:
    """Return the worth model: the sum of a model of signals and, at `TEXT_SHARE`, of one that also reads the vector.

    Each is divided by the spread of its outputs in training so that the share means what it says.
    """
    judged = [o for o in observed if not o.out]
    targets = Targets(
        tuple(range(len(judged))), tuple("1" if o.worth else "0" for o in judged), tuple(o.weight for o in judged)
    )
    weights, bias, directions = np.zeros((1, len(WORTH))), np.zeros(1), np.zeros((1, 384))
    for strength, share, reading in ((WORTH_STRENGTH, 1.0, False), (TEXT_STRENGTH, TEXT_SHARE, True)):
        part, _ = fit(judged, WORTH, targets, (1.0, strength), reading=reading)
        outputs = np.array([part.outputs(o)[0] for o in judged])
        factor = share / outputs.std()
        weights += factor * part.signals.weights
        bias += factor * (part.signals.bias - outputs.mean())
        directions += factor * part.directions
    return Reading(LinearModel(WORTH, part.signals.mean, part.signals.scale, weights, bias), directions)


def fit_kinds(observed: Sequence[Observed]) -> tuple[Reading, tuple[str, ...]]:
    """Return the type model and its classes: the mean of `KIND_FITS`, which are near each other in figures."""
    kept = [o for o in observed if o.worth]
    targets = kind_targets(kept)
    fits = [fit(kept, KIND, targets, strength, reading=True) for strength in KIND_FITS]
    parts = [part for part, _ in fits]
    weights = np.mean([part.signals.weights for part in parts], axis=0)
    bias = np.mean([part.signals.bias for part in parts], axis=0)
    signals = LinearModel(KIND, parts[0].signals.mean, parts[0].signals.scale, weights, bias)
    return Reading(signals, np.mean([part.directions for part in parts], axis=0)), fits[0][1]


def kind_targets(kept: Sequence[Observed]) -> Targets:
    """Return the types the examples count for: the label, and with `SECOND_SHARE` the second one when it is a type."""
    rows = []
    for place, one in enumerate(kept):
        second = one.example.alt if one.example.alt not in {None, "none"} else None
        rows.append((place, one.example.label, one.weight * (1 - SECOND_SHARE if second else 1)))
        if second:
            rows.append((place, second, one.weight * SECOND_SHARE))
    places, classes, weights = zip(*rows, strict=True)
    return Targets(places, classes, weights)


def unseen(
    observed: Sequence[Observed], training: Sequence[Observed], group: Callable[[Observed], str]
) -> tuple[Array, list[str]]:
    """Return log-odds and type of each example by models trained without its group."""
    scores, kinds = np.zeros(len(observed)), [""] * len(observed)
    for held in sorted({group(o) for o in observed}):
        seen = [o for o in training if group(o) != held]
        worth, (kind, classes) = fit_worth(seen), fit_kinds(seen)
        for place, one in enumerate(observed):
            if group(one) == held:
                scores[place] = float(worth.outputs(one)[0])
                kinds[place] = classes[int(np.argmax(kind.outputs(one)))]
    return scores, kinds


def by_repository(one: Observed) -> str:
    """Group by repository; written examples are one of their own."""
    return one.example.repository


def rounded(model: LinearModel) -> LinearModel:
    """Return the model as it is stored."""
    parts = (np.round(part, DIGITS) for part in (model.mean, model.scale, model.weights, model.bias))
    return LinearModel(model.names, *parts)


def with_readings(model: LinearModel, names: Sequence[str]) -> LinearModel:
    """Return the model with one more feature an output: what the vector says, already weighed."""
    count, outputs = len(names), len(model.bias)
    return LinearModel(
        (*model.names, *names),
        np.concatenate([model.mean, np.zeros(count)]),
        np.concatenate([model.scale, np.ones(count)]),
        np.hstack([model.weights, np.eye(outputs, count)]),
        model.bias,
    )


def shares(observed: Sequence[Observed]) -> Array:
    """Return weights that give the worthy examples `NATURAL_SHARE` of the total."""
    worth = np.array([o.worth for o in observed])
    weights = np.array([o.weight for o in observed])
    factors = NATURAL_SHARE / weights[worth].sum(), (1 - NATURAL_SHARE) / weights[~worth].sum()
    balanced: Array = np.where(worth, *factors) * weights
    return balanced


def calibrate(scores: Array, observed: Sequence[Observed]) -> tuple[float, float]:
    """Return slope and offset of Platt's curve over out-of-repository scores."""
    model = LogisticRegression(C=1e3, max_iter=5000, tol=1e-8)
    model.fit(scores[:, None], [o.worth for o in observed], sample_weight=shares(observed) * len(scores))
    return round(float(model.coef_[0, 0]), DIGITS), round(float(model.intercept_[0]), DIGITS)


@dataclass(frozen=True, slots=True)
class Training:
    """Observed examples: those of the corpus by the name of their label file, and those written for training."""

    real: dict[str, list[Observed]]
    written: list[Observed]
    watching: Parameters

    @property
    def everything(self) -> list[Observed]:
        """Return all examples."""
        return [*(o for part in self.real.values() for o in part), *self.written]


def gather(corpus: Path, cache: Path) -> Training:
    """Return the training examples, observed."""
    watching = blank(anchors(cache))
    files = episodes.corpus_exchanges(corpus)
    labels = [corpus / "knowledge.jsonl", episodes.HERE / "dev_labels.jsonl"]
    real = {p.name: observe(episodes.embedded(episodes.labelled(corpus, files, p), cache), watching) for p in labels}
    return Training(real, observe(episodes.embedded(episodes.written(), cache), watching), watching)


def train(training: Training) -> Parameters:
    """Return the parameters fitted on everything, calibrated on out-of-repository scores of the real examples."""
    real = [o for part in training.real.values() for o in part if not o.out]
    scores, _ = unseen(real, training.everything, by_repository)
    slope, offset = calibrate(scores, real)
    worth, (kinds, classes) = fit_worth(training.everything), fit_kinds(training.everything)
    reads = tuple(READS_KIND + name for name in classes)
    return Parameters(
        version=VERSION,
        worth=with_readings(rounded(worth.signals), (READS_WORTH,)),
        kinds=with_readings(rounded(kinds.signals), reads),
        classes=classes,
        threshold=THRESHOLD,
        calibration=(slope, offset),
        anchors=(*training.watching.anchors, READS_WORTH, *reads),
        directions=np.vstack([training.watching.directions, worth.directions, kinds.directions]).astype(np.float32),
    )


def figures(
    observed: Sequence[Observed], scores: Array, kinds: Sequence[str], parameters: Parameters
) -> dict[str, float]:
    """Return what the extractor would have done with these scores and types."""
    kept = [
        parameters.worth_keeping(s) >= parameters.threshold and not o.out for s, o in zip(scores, observed, strict=True)
    ]
    some = [k for k, o in zip(kept, observed, strict=True) if o.worth]
    none = [k for k, o in zip(kept, observed, strict=True) if not o.worth]
    pairs = [(kind, o.example) for kind, keep, o in zip(kinds, kept, observed, strict=True) if keep and o.worth]
    right = [o.worth or o.borderline for k, o in zip(kept, observed, strict=True) if k]
    found = {
        "items": sum(kept),
        "none_kept": sum(none) / len(none),
        "worth_kept": sum(some) / len(some),
        "precision": sum(some) / max(1, sum(kept)),
        "precision_alt": sum(right) / max(1, len(right)),
        "type_strict": float(np.mean([kind == e.label for kind, e in pairs])),
        "type_alt": float(np.mean([kind in (e.label, e.alt) for kind, e in pairs])),
    }
    return {name: round(value, 3) for name, value in found.items()}


def report(training: Training, parameters: Parameters) -> dict[str, Any]:
    """Return the figures of each label file, cross-validated by repository."""
    return {
        name: figures(part, *unseen(part, training.everything, by_repository), parameters)
        for name, part in training.real.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--corpus", type=Path, required=True, help="the unpacked dev corpus")
    parser.add_argument(
        "--cache", type=Path, default=episodes.default_cache(), help="where vectors are kept between runs"
    )
    parser.add_argument("--write", action="store_true", help="write the parameters into the package")
    options = parser.parse_args()
    training = gather(options.corpus, options.cache)
    parameters = train(training)
    for title, found in report(training, parameters).items():
        print(title, json.dumps(found))
    print("threshold", parameters.threshold, "calibration", parameters.calibration)
    weights = zip(parameters.worth.names, parameters.worth.weights[0], strict=True)
    print(" ".join(f"{name} {weight:+.2f};" for name, weight in sorted(weights, key=lambda pair: -abs(pair[1]))))
    print("the package ships these parameters" if same_as_shipped(parameters) else "the package ships OTHER parameters")
    if options.write:
        write(parameters, Path(str(resources.files("knowledge_system.extraction").joinpath("parameters"))))


if __name__ == "__main__":
    main()
