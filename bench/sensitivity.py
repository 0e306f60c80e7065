"""What the meaning layer finds and what it wrongly objects to: `python bench/sensitivity.py [--exchanges FILE]`.

Labelled sentences of our own (`bench/labels/sensitive_topics.jsonl`; thresholds were chosen on the half `choose`):
recall is the share of sensitive sentences that count as sensitive, doubts included (nobody is there to clear them);
false positives are ordinary sentences, hard ones, that do. `--exchanges` names a JSONL of real exchanges (`user`,
`assistant`) of ordinary work: the share of sentences and of exchanges objected to as a call, and the share raised when
stored, by the vectors of their passages. Processor seconds are those of the whole process.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "src"))

from knowledge_system.embedding.local import open_local_model
from knowledge_system.retrieval.passages import _passages, readable
from knowledge_system.sensitivity.meaning import MeaningLayer, MeaningScreen, Nearness
from knowledge_system.sensitivity.meanings import meanings_of
from knowledge_system.sensitivity.sentences import sentences
from knowledge_system.sensitivity.topics import BUILT_IN

LABELS = Path(__file__).resolve().parent / "labels" / "sensitive_topics.jsonl"
Row = dict[str, Any]


def read(path: Path) -> list[Row]:
    with path.open(encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


async def judged(layer: MeaningLayer, text: str) -> Nearness:
    return await layer.nearness(sentences(text))


async def labelled(layer: MeaningLayer, rows: list[Row]) -> Row:
    """Return recall and false positives of each half, certain and with doubts."""
    found: Counter[tuple[str, bool, str]] = Counter()
    missed: Counter[str] = Counter()
    for row in rows:
        near = await judged(layer, row["text"])
        grade = "sensitive" if near.sensitive else "doubtful" if near.doubtful else "none"
        found[row["half"], row["topic"] is not None, grade] += 1
        if row["topic"] and grade == "none":
            missed[row["topic"]] += 1
    report: Row = {"missed": dict(missed)}
    for half in ("choose", "check"):
        for name, sensitive in (("recall", True), ("false_positives", False)):
            grades = {grade: found[half, sensitive, grade] for grade in ("sensitive", "doubtful", "none")}
            total = sum(grades.values())
            report[f"{half} {name}, certain"] = round(grades["sensitive"] / total, 3)
            report[f"{half} {name}, with doubts"] = round(1 - grades["none"] / total, 3)
    return report


async def stored(layer: MeaningLayer, model: Any, rows: list[Row]) -> list[bool]:
    """Return for each exchange whether its passages raise its level."""
    texts = [
        [passage.text for passage in _passages(readable(row["user"]), readable(row["assistant"]), "")] for row in rows
    ]
    vectors = iter(await model.embed([text for passages in texts for text in passages]))
    grouped = [[next(vectors) for _ in passages] for passages in texts]
    return [level is not None for level in await MeaningScreen(layer).levels(grouped)]


async def natural(layer: MeaningLayer, model: Any, rows: list[Row], *, show: bool) -> Row:
    """Return what is objected to in exchanges of ordinary work."""
    begun = time.process_time()
    certain = doubtful = count = letters = objections = 0
    for row in rows:
        texts = [row["user"], row["assistant"]]
        letters += sum(map(len, texts))
        read_sentences = list(dict.fromkeys(one for text in texts for one in sentences(text)))
        count += len(read_sentences)
        near = await layer.nearness(read_sentences)
        objections += len(near.sensitive) + len(near.doubtful)
        certain += bool(near.sensitive)
        doubtful += bool(near.doubtful) and not near.sensitive
        for sentence, one in near.doubtful if show else ():
            print(f"{one.margin:.3f} {one.topic}: {sentence[:120]}", file=sys.stderr)
    spent = time.process_time() - begun
    raised = await stored(layer, model, rows)
    return {
        "exchanges": len(rows),
        "characters": letters,
        "sentences": count,
        "sentences objected to": round(objections / count, 4),
        "exchanges objected to, certain": round(certain / len(rows), 4),
        "exchanges objected to, doubtful only": round(doubtful / len(rows), 4),
        "exchanges raised when stored": round(sum(raised) / len(rows), 4),
        "processor ms a sentence": round(1000 * spent / count, 2),
    }


async def measure(options: argparse.Namespace) -> Row:
    rows = read(LABELS)
    with tempfile.TemporaryDirectory() as folder:
        model = open_local_model(Path(options.models or folder), options.variant, threads=2)
        layer = MeaningLayer(model, meanings_of(BUILT_IN))
        report = {"variant": options.variant}
        report |= await labelled(layer, [row for row in rows if row["kind"] == "sentence"])
        about = [row for row in rows if row["kind"] == "exchange"]
        report["sensitive exchanges raised when stored"] = f"{sum(await stored(layer, model, about))} of {len(about)}"
        met = [await judged(layer, f"{row['user']}\n{row['assistant']}") for row in about]
        objected = sum(bool(one.sensitive or one.doubtful) for one in met)
        report["sensitive exchanges objected to"] = f"{objected} of {len(met)}"
        if options.exchanges:
            chosen = read(options.exchanges)[options.skip :][: options.limit]
            report["natural"] = await natural(layer, model, chosen, show=options.show)
        model.close()
        return report


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--variant", default="int8", choices=["int8", "fp32"])
    parser.add_argument("--models", type=Path, help="folder of assembled models, to save a second")
    parser.add_argument("--exchanges", type=Path)
    parser.add_argument("--skip", type=int, default=0)
    parser.add_argument("--limit", type=int, default=100_000)
    parser.add_argument("--show", action="store_true", help="print doubtful sentences to standard error")
    print(json.dumps(asyncio.run(measure(parser.parse_args())), indent=2, ensure_ascii=False))


if __name__ == "__main__":
    main()
