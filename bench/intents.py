"""Measure the intent classifier on labelled prompts: `python bench/intents.py --file FILE`.

Each line: `text`, `intent`, and where there are `alt` and `prev_prompt`. Prints one JSON document:
macro averages over the eight intents (`none` apart), accuracy, bootstrap intervals, confusion, and time a prompt.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from knowledge_system.domain.trajectory import Intent
from knowledge_system.trajectory.intents import NONE, shipped_model

if TYPE_CHECKING:
    from collections.abc import Sequence

    Pair = tuple[str, str]

DRAWS = 2000


def macro(pairs: Sequence[Pair], classes: Sequence[str]) -> dict[str, float]:
    """Return macro-averaged F1 and recall over those `classes` that occur among the labels."""
    f1, recall = [], []
    for name in classes:
        labelled = sum(label == name for label, _ in pairs)
        if not labelled:
            continue
        right = sum(label == said == name for label, said in pairs)
        told = sum(said == name for _, said in pairs)
        f1.append(2 * right / (labelled + told))
        recall.append(right / labelled)
    return {"f1": sum(f1) / len(f1), "recall": sum(recall) / len(recall)} if f1 else {"f1": 0.0, "recall": 0.0}


def interval(pairs: Sequence[Pair], classes: Sequence[str], figure: str) -> list[float]:
    """Return the 95 % bootstrap interval of a macro average."""
    draw = random.Random(7)
    found = sorted(macro(draw.choices(pairs, k=len(pairs)), classes)[figure] for _ in range(DRAWS))
    return [round(found[int(DRAWS * 0.025)], 3), round(found[int(DRAWS * 0.975)], 3)]


def said_about(row: dict[str, Any]) -> str:
    """Return what the classifier says, knowing the prompt before as a session would."""
    model = shipped_model()
    before = model.classify(row["prev_prompt"]).intent if row.get("prev_prompt") else None
    return str(model.classify(row["text"], before).intent or NONE)


def measured(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return all figures for labelled prompts."""
    names = [str(one) for one in Intent]
    seconds = []
    pairs = []
    for row in rows:
        began = time.perf_counter()
        said = said_about(row)
        seconds.append(time.perf_counter() - began)
        pairs.append((row["intent"], said))
    lenient = [
        (said if said == row.get("alt") else label, said) for row, (label, said) in zip(rows, pairs, strict=True)
    ]
    everything = [*names, NONE]
    figures = {
        "macro, eight intents": macro(pairs, names),
        "macro, eight intents and none": macro(pairs, everything),
        "macro, eight intents, alt accepted": macro(lenient, names),
    }
    rounded = {title: {key: round(value, 3) for key, value in found.items()} for title, found in figures.items()}
    return {
        "prompts": len(rows),
        "labels": Counter(label for label, _ in pairs),
        **rounded,
        "interval 95 %, eight intents, f1": interval(pairs, names, "f1"),
        "interval 95 %, eight intents, recall": interval(pairs, names, "recall"),
        "accuracy": round(sum(label == said for label, said in pairs) / max(1, len(pairs)), 3),
        "confusion": {name: Counter(said for label, said in pairs if label == name) for name in everything},
        "milliseconds a prompt with the one before, median": round(1000 * sorted(seconds)[len(seconds) // 2], 2),
        "milliseconds, slowest": round(1000 * max(seconds), 2),
        "model": shipped_model().version,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--file", type=Path, required=True, help="labelled prompts, one JSON object a line")
    options = parser.parse_args()
    rows = [json.loads(line) for line in options.file.read_text(encoding="utf-8").splitlines() if line.strip()]
    shipped_model()
    print(json.dumps(measured(rows), indent=1))


if __name__ == "__main__":
    main()
