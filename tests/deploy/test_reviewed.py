"""Pages for operators say who looks after them, and an overdue review is noticed."""

from __future__ import annotations

import importlib.util
from datetime import date
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent


def test_a_review_that_is_overdue_or_not_planned_is_told(tmp_path: Path) -> None:
    spec = importlib.util.spec_from_file_location("reviewed", ROOT / "scripts" / "reviewed.py")
    assert spec is not None
    assert spec.loader is not None
    reviewed = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(reviewed)
    head = "---\nversion: 1.0\nlast_updated: 2026-11-23\nnext_review: 2027-06-30\nowner: operations\n---\n\n# A page\n"
    (tmp_path / "runbooks").mkdir()
    (tmp_path / "runbooks" / "HighLoad.md").write_text(head)
    (tmp_path / "operations.md").write_text("# Operating\n")
    (tmp_path / "tour.md").write_text("# Tour\n")

    in_time = reviewed.problems(tmp_path, date(2027, 6, 30))
    assert {line.partition(":")[0] for line in in_time} == {"operations.md"}
    late = reviewed.problems(tmp_path, date(2027, 7, 1))
    assert "runbooks/HighLoad.md: review was due on 2027-06-30" in late

    updated = date(2026, 11, 23)
    assert [one for one in reviewed.problems(ROOT / "docs", updated) if one.startswith("operations.md")] == []
