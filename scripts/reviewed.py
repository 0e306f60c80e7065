"""Check the document control of the operators' pages: version, dates, owner, and that no review is overdue (R425)."""

from __future__ import annotations

import sys
from datetime import UTC, date, datetime
from pathlib import Path

from knowledge_system.operations.monitoring.runbooks import control_problems

DOCS = Path(__file__).resolve().parent.parent / "docs"
CONTROLLED = ("operations.md", "monitoring.md")
"""Pages that must say who looks after them; any other page that does is held to it too."""


def problems(docs: Path, today: date) -> list[str]:
    """Return what is wrong, a line each."""
    found = []
    for page in sorted(docs.rglob("*.md")):
        text = page.read_text(encoding="utf-8")
        if page.name in CONTROLLED or text.startswith("---\n"):
            found += [f"{page.relative_to(docs)}: {problem}" for problem in control_problems(text, today)]
    return found


if __name__ == "__main__":
    told = problems(DOCS, datetime.now(UTC).date())
    sys.stderr.write("".join(f"{line}\n" for line in told))
    sys.exit(1 if told else 0)
