"""Quality on published fixtures and real transcripts that are not part of this repository."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from knowledge_system.sensitivity.detector import find
from knowledge_system.sensitivity.memory import KeyedMemory
from knowledge_system.sensitivity.redaction import redact

if TYPE_CHECKING:
    from pathlib import Path

    from knowledge_system.domain.sensitivity import Finding

LEAST_RECALL = 0.97
MOST_FALSE_POSITIVES = 0.02


def items(corpus: Path) -> list[dict[str, Any]]:
    lines = (corpus / "sensitive.jsonl").read_text(encoding="utf-8").splitlines()
    return [item for item in map(json.loads, lines) if item["tier"] == "core"]


def is_detected(item: dict[str, Any], findings: list[Finding]) -> bool:
    values = [value for value in item.get("values") or () if value]
    spans = [match.span() for value in values for match in re.finditer(re.escape(value), item["text"])]
    if not spans:
        return bool(findings)
    return any(f.start < end and start < f.end for f in findings for start, end in spans)


def rate(results: list[bool]) -> float:
    return sum(results) / len(results)


def test_recall_on_labelled_secrets_and_personal_data(dev_corpus: Path) -> None:
    assert rate([is_detected(item, find(item["text"])) for item in items(dev_corpus) if item["label"]]) >= LEAST_RECALL


def test_recall_on_material_that_is_no_tools_own_fixture(dev_corpus: Path) -> None:
    found = [
        item for item in items(dev_corpus) if item["label"] and item["source"].startswith(("CredData", "transcript"))
    ]
    assert rate([is_detected(item, find(item["text"])) for item in found]) >= LEAST_RECALL


def test_false_positives_on_hard_negatives(dev_corpus: Path) -> None:
    assert rate([bool(find(item["text"])) for item in items(dev_corpus) if not item["label"]]) <= MOST_FALSE_POSITIVES


def test_redaction_is_idempotent_on_every_item(dev_corpus: Path) -> None:
    memory = KeyedMemory(b"k" * 32)
    for item in items(dev_corpus):
        once, _ = redact(item["text"], memory)
        assert redact(once, memory) == (once, 0)


def test_few_exchanges_of_real_sessions_hold_anything(dev_corpus: Path) -> None:
    lines = (dev_corpus / "exchanges.jsonl").read_text(encoding="utf-8").splitlines()
    exchanges = [json.loads(line) for line in lines]
    touched = [any(find(text) for text in (e["user"], e["assistant"])) for e in exchanges]
    assert rate(touched) <= MOST_FALSE_POSITIVES
