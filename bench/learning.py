"""Measure what is learned: `python bench/learning.py --corpus DIR [--labels FILE] [--natural FILE] [--json]`.

Two questions. On labelled examples of every type (`--labels`, default the corpus' `knowledge.jsonl`): how many
exchanges that are worth keeping become items, and how many that are not. On a natural sample (`--natural`, default
`bench/labels/natural_dev_150.jsonl`): how many of the items are right. Each is answered with the shipped parameters
and with parameters trained without the repository of the example. Intervals: 95 %, bootstrap over files.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import train_judge
from knowledge_system.extraction.extractor import EvidenceExtractor
from knowledge_system.extraction.judge import shipped_parameters
from training import episodes

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from train_judge import Observed, Training
    from training.episodes import Example

RESAMPLES = 1_000
THRESHOLDS = tuple(step / 100 for step in range(30, 86, 5))
BINS = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of an example: its confidence, whether it became an item, and the item's type."""

    example: Example
    confidence: float
    item: bool
    kind: str

    @property
    def worth(self) -> bool:
        """Tell whether the label is a type."""
        return self.example.label != "none"

    @property
    def arguable(self) -> bool:
        """Tell whether either label is a type."""
        return self.worth or self.example.alt not in {None, "none"}


def shipped(examples: Sequence[Example], observed: Sequence[Observed]) -> list[Outcome]:
    """Return what the extractor does as it is shipped, composition included."""
    extractor, parameters = EvidenceExtractor(), shipped_parameters()
    found = []
    for example, one in zip(examples, observed, strict=True):
        candidates = extractor.verdict(example.episode).candidates
        confidence = 0.0 if one.out else parameters.worth_keeping(float(parameters.worth.outputs(one.values)[0]))
        found.append(Outcome(example, confidence, bool(candidates), candidates[0].type.value if candidates else ""))
    return found


def unseen(observed: Sequence[Observed], training: Training) -> list[Outcome]:
    """Return what parameters trained without the example's repository would decide; composition is not asked."""
    parameters = shipped_parameters()
    scores, kinds = train_judge.unseen(observed, training.everything, train_judge.by_repository)
    found = []
    for one, score, kind in zip(observed, scores, kinds, strict=True):
        confidence = 0.0 if one.out else parameters.worth_keeping(float(score))
        found.append(Outcome(one.example, confidence, confidence >= parameters.threshold, kind))
    return found


def share(outcomes: Sequence[Outcome], of: Callable[[Outcome], bool], among: Callable[[Outcome], bool]) -> float:
    """Return the share of `among` that are `of`, NaN when there is none."""
    chosen = [of(one) for one in outcomes if among(one)]
    return float(np.mean(chosen)) if chosen else float("nan")


FIGURES: dict[str, Callable[[Sequence[Outcome]], float]] = {
    "items": lambda found: float(sum(one.item for one in found)),
    "none_kept": lambda found: share(found, lambda o: o.item, lambda o: not o.worth),
    "worth_kept": lambda found: share(found, lambda o: o.item, lambda o: o.worth),
    "precision_strict": lambda found: share(found, lambda o: o.worth, lambda o: o.item),
    "precision_alt": lambda found: share(found, lambda o: o.arguable, lambda o: o.item),
    "type_strict": lambda found: share(found, lambda o: o.kind == o.example.label, lambda o: o.item and o.worth),
    "type_alt": lambda found: share(
        found, lambda o: o.kind in {o.example.label, o.example.alt}, lambda o: o.item and o.worth
    ),
    "brier": lambda found: float(np.mean([(one.confidence - one.worth) ** 2 for one in found])),
}


def intervals(outcomes: Sequence[Outcome], seed: int = 0) -> dict[str, list[float]]:
    """Return value and 95 % interval of each figure; files are resampled, since exchanges of one are alike."""
    random = np.random.default_rng(seed)
    by_file: dict[str, list[Outcome]] = {}
    for one in outcomes:
        by_file.setdefault(one.example.file, []).append(one)
    files = list(by_file.values())
    drawn: dict[str, list[float]] = {name: [] for name in FIGURES}
    for _ in range(RESAMPLES):
        sample = [one for place in random.integers(len(files), size=len(files)) for one in files[place]]
        for name, figure in FIGURES.items():
            drawn[name].append(figure(sample))
    return {
        name: [round(figure(outcomes), 3), *np.round(np.nanpercentile(drawn[name], [2.5, 97.5]), 3).tolist()]
        for name, figure in FIGURES.items()
    }


def reliability(outcomes: Sequence[Outcome]) -> list[dict[str, float]]:
    """Return, by bin of confidence, how many examples it holds, their mean confidence and the share worth keeping."""
    found = []
    for low, high in pairwise(BINS):
        inside = [one for one in outcomes if low <= one.confidence < high]
        if inside:
            mean = float(np.mean([one.confidence for one in inside]))
            worth, arguable = (float(np.mean([getattr(o, n) for o in inside])) for n in ("worth", "arguable"))
            found.append({"n": len(inside), "confidence": mean, "worth": worth, "arguable": arguable})
    return [{key: round(value, 3) for key, value in row.items()} for row in found]


def curve(outcomes: Sequence[Outcome]) -> list[dict[str, float]]:
    """Return what other thresholds would keep: the reason for the one that is shipped."""
    found = []
    for threshold in THRESHOLDS:
        moved = [replace(one, item=one.confidence >= threshold) for one in outcomes]
        found.append(
            {
                "threshold": threshold,
                **{name: round(figure(moved), 3) for name, figure in FIGURES.items() if name != "brier"},
            }
        )
    return found


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Return all figures."""
    training = train_judge.gather(options.corpus, options.cache)
    files = episodes.corpus_exchanges(options.corpus)
    answers: dict[str, Any] = {}
    for title, labels in (
        ("labelled", options.labels or options.corpus / "knowledge.jsonl"),
        ("natural", options.natural),
    ):
        examples = episodes.embedded(episodes.labelled(options.corpus, files, labels), options.cache)
        observed = train_judge.observe(examples, shipped_parameters())
        for mode, outcomes in (
            ("shipped", shipped(examples, observed)),
            ("unseen repository", unseen(observed, training)),
        ):
            rows = {"reliability": reliability(outcomes), "curve": curve(outcomes)}
            answers[f"{title}, {mode}"] = {**intervals(outcomes), **rows}
    return answers


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", type=Path, required=True, help="the unpacked dev corpus")
    parser.add_argument("--labels", type=Path, help="labelled examples (default: the corpus' knowledge.jsonl)")
    natural = Path(__file__).parent / "labels" / "natural_dev_150.jsonl"
    parser.add_argument("--natural", type=Path, default=natural, help="labels on a natural sample")
    parser.add_argument(
        "--cache", type=Path, default=episodes.default_cache(), help="where vectors are kept between runs"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    options = parser.parse_args()
    answers = measure(options)
    if options.json:
        print(json.dumps(answers, indent=1))
        return
    for title, found in answers.items():
        print(title)
        for name, value in found.items():
            if name not in {"reliability", "curve"}:
                print(f"  {name:17s} {value[0]:7.3f}  [{value[1]:.3f}, {value[2]:.3f}]")
        for name in ("reliability", "curve"):
            for row in found[name]:
                print(f"  {name}", row)


if __name__ == "__main__":
    main()
