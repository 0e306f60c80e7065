"""Recall, false positives and speed of the detector on a labelled file: `python bench/redaction.py FILE [--json]`.

FILE is JSONL: `id`, `text`, `label` (1: must not leave the machine), `kind`, `source`, `tier`, `values` where known.
An item counts as detected when a finding overlaps one of its values, or, without values, when there is any finding.
`all_values` counts an item only when every labelled value is covered from end to end. `--exchanges` names a JSONL of
exchanges (`user`, `assistant`, `tools`) on which the throughput is measured: labelled items are denser than life.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import time
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "src"))

from knowledge_system.sensitivity.detector import find

if TYPE_CHECKING:
    from collections.abc import Iterable

    from knowledge_system.domain.sensitivity import Finding

Item = dict[str, Any]


def spans(item: Item) -> list[tuple[int, int]]:
    """Return where the labelled values stand in the text."""
    values = [value for value in item.get("values") or () if value]
    return [match.span() for value in values for match in re.finditer(re.escape(value), item["text"])]


def is_detected(item: Item, findings: list[Finding]) -> bool:
    places = spans(item)
    if not places:
        return bool(findings)
    return any(f.start < end and start < f.end for f in findings for start, end in places)


def is_covered(item: Item, findings: list[Finding]) -> bool:
    places = spans(item)
    return bool(findings) and all(any(f.start <= start and end <= f.end for f in findings) for start, end in places)


def family(item: Item) -> str:
    """Return the collection an item comes from: the part of `source` before the first colon or slash."""
    return str(re.split(r"[:/]", str(item.get("source", "")))[0])


def groups(item: Item) -> Iterable[str]:
    tier = str(item.get("tier", "core"))
    yield tier
    yield f"{tier} source {family(item)}"
    yield f"{tier} kind {item.get('kind')}"
    yield f"{tier} kind {item.get('kind')} {item.get('subkind', '')}"


def score(items: list[Item]) -> dict[str, dict[str, float]]:
    """Return, by group, positives, recall, negatives and false-positive rate."""
    counts: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for item in items:
        findings = find(item["text"])
        for group in groups(item):
            count = counts[group]
            if item["label"]:
                count["positives"] += 1
                count["detected"] += is_detected(item, findings)
                count["all_values"] += is_covered(item, findings)
            else:
                count["negatives"] += 1
                count["false_positives"] += bool(findings)
    return {group: _rates(count) for group, count in sorted(counts.items())}


def _rates(count: dict[str, int]) -> dict[str, float]:
    rates: dict[str, float] = {}
    if positives := count["positives"]:
        rates |= {"positives": positives, "recall": round(count["detected"] / positives, 4)}
        rates["all_values"] = round(count["all_values"] / positives, 4)
    if negatives := count["negatives"]:
        rates |= {"negatives": negatives, "false_positives": count["false_positives"]}
        rates["false_positive_rate"] = round(count["false_positives"] / negatives, 4)
    return rates


def throughput(pieces: list[str]) -> dict[str, float]:
    """Return megabytes of text a second of processor time."""
    size = sum(map(len, pieces)) / 1e6
    start = time.process_time()
    for piece in pieces:
        find(piece)
    seconds = time.process_time() - start
    return {"megabytes": round(size, 3), "seconds": round(seconds, 3), "megabytes_per_second": round(size / seconds, 2)}


def read(path: Path) -> list[Item]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]


def texts_of(exchange: Item) -> list[str]:
    tools = [tool if isinstance(tool, str) else json.dumps(tool) for tool in exchange.get("tools") or ()]
    return [text for text in (exchange["user"], exchange["assistant"], *tools) if text]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("--json", action="store_true", help="one JSON document instead of a table")
    parser.add_argument("--exchanges", type=Path, help="measure the throughput on these exchanges")
    options = parser.parse_args()
    items = read(options.file)
    pieces = [text for item in read(options.exchanges) for text in texts_of(item)] if options.exchanges else []
    groups_scored, speed = score(items), throughput(pieces or [item["text"] for item in items])
    if options.json:
        report = {"file": options.file.name, "items": len(items), "groups": groups_scored, "throughput": speed}
        print(json.dumps(report, indent=1))
        return
    for group, rates in groups_scored.items():
        print(f"{group:60}", "  ".join(f"{name} {value}" for name, value in rates.items()))
    print("throughput", "  ".join(f"{name} {value}" for name, value in speed.items()))


if __name__ == "__main__":
    main()
