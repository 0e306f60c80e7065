"""The canaries themselves: many, of every kind that is known, and each one objected to by the layers that should."""

from __future__ import annotations

import ast
from collections import Counter
from pathlib import Path

import pytest
from tests.canaries.birds import TOPICS, Canary, Net, everything
from tests.conftest import ROOT

from knowledge_system.domain.sensitivity import Sensitivity
from knowledge_system.sensitivity import identity, vendors
from knowledge_system.sensitivity.gatekeeper import DoorGatekeeper
from knowledge_system.sensitivity.topics import parse_topics

NOT_SENT = {"local-address", "number", "setting"}
"""What is no secret by itself (a private network's address), or only as the whole of a text (`test_command_line`)."""
DOOR = DoorGatekeeper(parse_topics(TOPICS, "topics"), b"key of a test")


def test_there_are_thousands_and_no_two_are_alike() -> None:
    canaries = everything()
    assert len(canaries) >= 3_000
    assert len({one.needle for one in canaries}) == len(canaries)
    assert all(one.needle in one.text for one in canaries)


def known_kinds() -> set[str]:
    """Return every kind of finding that the detectors' sources name."""
    kinds = {one.kind for one in vendors._FORMATS} | {one.kind for one in identity._SCHEMES}
    for path in (ROOT / "src" / "knowledge_system" / "sensitivity").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") in {"Finding", "NameClass"}:
                texts = [one.value for one in ast.walk(node) if isinstance(one, ast.Constant)]
                kinds |= {one for one in texts if isinstance(one, str)} - {"secret", "personal"}
    return kinds


def test_every_kind_that_redaction_knows_has_canaries() -> None:
    counted = Counter(one.kind for one in everything())
    assert known_kinds() - NOT_SENT - set(counted) == set()
    assert min(counted.values()) >= 20


@pytest.mark.parametrize("kind", sorted({one.kind for one in everything() if not one.kind.startswith("topic:")}))
def test_the_door_takes_each_out_and_levels_it(kind: str) -> None:
    for one in everything():
        if one.kind == kind:
            clean, level = DOOR.scrub(one.text)
            assert one.needle not in clean, one.text
            assert level is one.level, one.text


def test_the_net_catches_what_is_there_whatever_it_is_written_in(tmp_path: Path) -> None:
    birds = [Canary("x", "first-needle", ""), Canary("x", 'with "quotes"', ""), Canary("x", "absent-needle", "")]
    net = Net(birds)
    assert net.caught('...first-needle{"a": "with \\"quotes\\""}') == {"first-needle", 'with \\"quotes\\"'}
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "file.db").write_bytes(b"\0\xff first-needle\0")
    assert net.caught_in(tmp_path) == {"file.db": {"first-needle"}}


def test_topics_only_meaning_gives_away_are_no_finding_of_the_patterns() -> None:
    for one in everything():
        if one.kind.removeprefix("topic:") in {"health", "personnel", "legal", "finance", "customer-data", "whistle"}:
            clean, level = DOOR.scrub(one.text)
            assert (clean, level) == (one.text, Sensitivity.INTERNAL)
