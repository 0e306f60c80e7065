"""Fit the parameters of the intent classifier: `python bench/train_intents.py [--write] [--cross-validate]`.

Trains on `training/intents.jsonl` alone, prompts written for it; labelled prompts of real sessions are only
measured (`intents.py`). With the same file the outcome is the same.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from importlib import resources
from math import log
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.feature_extraction import DictVectorizer
from sklearn.linear_model import LogisticRegression

from knowledge_system.trajectory.cues import CUES
from knowledge_system.trajectory.intents import PARAMETER_FILE, SCALE, IntentModel, parse_model
from knowledge_system.trajectory.prompts import features, grams, read_prompt

if TYPE_CHECKING:
    from collections.abc import Sequence

    from knowledge_system.trajectory.prompts import Spoken

WRITTEN = Path(__file__).parent / "training" / "intents.jsonl"
VERSION = "1"
STRENGTH = 5.0
"""Inverse regularisation (scikit-learn's C)."""
LEAST_PROMPTS = 2
"""A word or piece that only one prompt has says nothing in general, and would only make the file larger."""
FOLDS = 8


def rarity_of(prompts: Sequence[Spoken]) -> dict[str, float]:
    """Return the inverse document frequency of words and pieces that enough prompts have."""
    documents: Counter[str] = Counter()
    for spoken in prompts:
        words, pieces = grams(spoken)
        documents.update(words.keys() | pieces.keys())
    return {name: log((1 + len(prompts)) / (1 + n)) + 1 for name, n in documents.items() if n >= LEAST_PROMPTS}


def train(texts: Sequence[str], labels: Sequence[str]) -> dict[str, Any]:
    """Return the fitted parameters as they are stored."""
    prompts = [read_prompt(text) for text in texts]
    rarity = rarity_of(prompts)
    vectorizer = DictVectorizer()
    inputs = vectorizer.fit_transform([features(spoken, rarity) for spoken in prompts])
    model = LogisticRegression(C=STRENGTH, class_weight="balanced", max_iter=5000, tol=1e-7)
    model.fit(inputs, list(labels))
    weights = np.rint(model.coef_ * SCALE).astype(int)
    stored = {}
    for place, name in enumerate(vectorizer.get_feature_names_out()):
        row = weights[:, place].tolist()
        stored[str(name)] = [round(rarity[name] * SCALE), *row] if name in rarity else row
    bias = np.rint(model.intercept_ * SCALE).astype(int).tolist()
    return {"version": VERSION, "classes": [str(one) for one in model.classes_], "bias": bias, "features": stored}


def written() -> tuple[list[str], list[str]]:
    """Return the texts and labels of the prompts written for training."""
    rows = [json.loads(line) for line in WRITTEN.read_text(encoding="utf-8").splitlines()]
    return [row["text"] for row in rows], [row["intent"] for row in rows]


def packed(parameters: dict[str, Any]) -> bytes:
    """Return the file: one feature a line, so that a difference can be read."""
    head = {key: parameters[key] for key in ("version", "classes", "bias")}
    lines = [f"{json.dumps(k, ensure_ascii=False)}:{json.dumps(v, separators=(',', ':'))}"
             for k, v in sorted(parameters["features"].items())]  # fmt: skip
    return (json.dumps(head)[:-1] + ', "features": {\n' + ",\n".join(lines) + "\n}}\n").encode()


def unseen(texts: Sequence[str], labels: Sequence[str]) -> float:
    """Return the share of written prompts that a model which saw other folds gets right."""
    right = 0
    for fold in range(FOLDS):
        kept = [place for place in range(len(texts)) if place % FOLDS != fold]
        model: IntentModel = parse_model(packed(train([texts[i] for i in kept], [labels[i] for i in kept])))
        for place in range(fold, len(texts), FOLDS):
            right += str(model.classify(texts[place]).intent or "none") == labels[place]
    return right / len(texts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="write the parameters into the package")
    parser.add_argument("--cross-validate", action="store_true", help="measure on the written prompts too")
    options = parser.parse_args()
    texts, labels = written()
    parameters = packed(train(texts, labels))
    print(json.dumps({"prompts": Counter(labels), "cues": len(CUES), "bytes": len(parameters)}))
    file = Path(str(resources.files("knowledge_system.trajectory"))) / "parameters" / PARAMETER_FILE
    if options.write:
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(parameters)
    if options.cross_validate:
        print(json.dumps({"accuracy, cross-validated on the written prompts": round(unseen(texts, labels), 3)}))
    same = file.is_file() and file.read_bytes() == parameters
    print("the package ships these parameters" if same else "the package ships OTHER parameters")


if __name__ == "__main__":
    main()
