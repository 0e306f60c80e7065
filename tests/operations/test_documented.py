"""Every series that the service shows is in the reference, and the reference knows no other."""

from __future__ import annotations

import re
from pathlib import Path

from prometheus_client import CollectorRegistry

from knowledge_system.operations import gauges
from knowledge_system.operations.series import Series

DOCS = Path(__file__).resolve().parent.parent.parent / "docs"


def known() -> set[str]:
    return {row.name for row in [*Series(CollectorRegistry()).rows(), *gauges.rows()]}


def test_the_reference_lists_every_series_and_no_other() -> None:
    text = (DOCS / "reference" / "metrics.md").read_text(encoding="utf-8")
    assert set(re.findall(r"^\| `(\w+)`", text, re.MULTILINE)) == known()


def test_the_guide_to_observability_names_only_what_exists() -> None:
    text = (DOCS / "observability.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`(knowledge_\w+)`", text))
    assert named
    assert named <= known()


def test_every_series_says_what_it_means() -> None:
    for row in [*Series(CollectorRegistry()).rows(), *gauges.rows()]:
        assert row.help.endswith("."), row.name
        assert "project" not in row.labels, "a project is no label: there are as many as a user has"
