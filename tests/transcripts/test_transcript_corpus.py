"""The reader agrees with the reference segmentation of real sessions, and reads the sample sessions."""

from __future__ import annotations

import json
from collections import defaultdict
from typing import TYPE_CHECKING, Any

import pytest
from tests.transcripts.samples import Result, read_file

from knowledge_system.domain.sessions import normalised

if TYPE_CHECKING:
    from pathlib import Path

TOLERANCE = 0.02


@pytest.fixture(scope="module")
def reference(dev_corpus: Path) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for line in (dev_corpus / "exchanges.jsonl").read_text("utf-8").splitlines():
        row = json.loads(line)
        found[row["file"]].append(row)
    return found


@pytest.fixture(scope="module")
def results(dev_corpus: Path) -> dict[str, Result]:
    rows = (dev_corpus / "MANIFEST.tsv").read_text("utf-8").splitlines()[1:]
    return {name: read_file(dev_corpus / name) for name in (row.split("\t")[0] for row in rows)}


def test_counts_agree_with_the_manifest(dev_corpus: Path, results: dict[str, Result]) -> None:
    for row in (dev_corpus / "MANIFEST.tsv").read_text("utf-8").splitlines()[1:]:
        name, _, _, _, _, exchanges, *_ = row.split("\t")
        assert abs(len(results[name].exchanges) - int(exchanges)) <= TOLERANCE * int(exchanges), name


def test_the_format_is_recognised(dev_corpus: Path, results: dict[str, Result]) -> None:
    for row in (dev_corpus / "MANIFEST.tsv").read_text("utf-8").splitlines()[1:]:
        name, _, _, expected, *_ = row.split("\t")
        result = results[name]
        assert (result.state.format if result.states else "unknown_text") == expected


def test_prompts_and_answers_agree(reference: dict[str, list[dict[str, Any]]], results: dict[str, Result]) -> None:
    same_prompt = same_answer = total = 0
    for name, rows in reference.items():
        for row, exchange in zip(rows, results[name].exchanges, strict=True):
            expanded = row["user"].startswith("## User Input")
            total += 1
            same_prompt += expanded or normalised(row["user"]) == normalised(exchange.user)
            same_answer += _similar(row["assistant"], exchange.assistant)
            assert row["exchange_index"] == exchange.index
    assert same_prompt == total
    assert same_answer >= total * (1 - TOLERANCE)


def test_interruptions_agree(reference: dict[str, list[dict[str, Any]]], results: dict[str, Result]) -> None:
    """All but aider's: there the reference counts leaving after a finished answer."""
    pairs = [
        (row["interrupted"], exchange.facts.interrupted)
        for name, rows in reference.items()
        if "aider" not in name
        for row, exchange in zip(rows, results[name].exchanges, strict=True)
    ]
    assert sum(one == two for one, two in pairs) >= len(pairs) * (1 - TOLERANCE)


def test_real_sessions_are_read_without_drift(results: dict[str, Result]) -> None:
    reasons = " ".join(result.reasons for result in results.values())
    assert "format may have changed" not in reasons


def _similar(one: str, two: str) -> bool:
    first, second = set(one.split()), set(two.split())
    return len(first & second) >= 0.9 * max(len(first), len(second))


EXPECTED = {
    "aider/ledger-sync": ("aider", "ledger-sync", 5),
    "claude-code": ("claude-code", "orders-api", 4),
    "codex": ("codex", "ledger-sync", 3),
    "copilot/shop-frontend": ("copilot", "shop-frontend", 3),
    "cursor/shop-frontend": ("cursor", "shop-frontend", 3),
    "knowledge-transcript": ("any", "infra", 3),
    "live-session-log": ("claude-code", "infra", 3),
    "rendered/notify-worker": ("claude-code", "notify-worker", 2),
    "specstory/orders-api": ("claude-code", "orders-api", 3),
}


@pytest.mark.parametrize("folder", EXPECTED)
def test_the_sample_sessions(examples: Path, folder: str) -> None:
    (path,) = (path for path in (examples / folder).rglob("*") if path.is_file())
    result = read_file(path)
    agent, project, count = EXPECTED[folder]
    assert {(exchange.session.agent, exchange.session.project) for exchange in result.exchanges} == {(agent, project)}
    assert len(result.exchanges) == count
    assert not result.warnings
