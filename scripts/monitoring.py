"""Write what is monitored from the one table, or check that the files say what the code says.

Made are `deploy/prometheus/alerts.yml`, the dashboard in `deploy/grafana/` and the rule in each page of
`docs/runbooks/`. Written by hand are `prometheus.yml`, `alertmanager.yml` and the words of the runbooks: they hold
nothing that could be derived. `--runbooks ADDRESS` publishes rules whose `runbook_url` begins with the address.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import dashboard
import yaml

from knowledge_system.domain.clock import SystemClock
from knowledge_system.operations.monitoring.alert import RUNBOOKS
from knowledge_system.operations.monitoring.rules import all_alerts, rule_file
from knowledge_system.operations.monitoring.runbooks import BEGIN, END, control_problems, rule_block, runbooks_complete

if TYPE_CHECKING:
    from collections.abc import Iterator

    from knowledge_system.operations.monitoring.alert import Alert

ROOT = Path(__file__).resolve().parent.parent
NOTE = "# Made from src/knowledge_system/operations/thresholds.py by scripts/monitoring.py; `make check` compares.\n"


def rules_text(runbooks: str) -> str:
    """Return `alerts.yml`."""
    return NOTE + yaml.safe_dump(rule_file(runbooks), sort_keys=False, width=120, allow_unicode=True)


def files(runbooks: str) -> Iterator[tuple[Path, str]]:
    """Return every made file with its content."""
    yield ROOT / "deploy" / "prometheus" / "alerts.yml", rules_text(runbooks)
    grafana = ROOT / "deploy" / "grafana"
    yield grafana / "dashboards" / "knowledge-system.json", json.dumps(dashboard.bare_model(), indent=1) + "\n"
    yield grafana / "knowledge-system-api.json", json.dumps(dashboard.api_body(), indent=1) + "\n"
    for alert in all_alerts():
        path = ROOT / "docs" / "runbooks" / f"{alert.name}.md"
        if path.is_file():
            yield path, with_rule(path.read_text("utf-8"), alert)


def with_rule(page: str, alert: Alert) -> str:
    """Return a page with the rule that is in force between its marks."""
    before, mark, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    return before + rule_block(alert) + after if mark and end else page


def stray_pages() -> list[str]:
    """Return pages of alerts that are no more."""
    known = {alert.name for alert in all_alerts()} | {"README"}
    return [
        f"{page.name}: no such alert" for page in (ROOT / "docs" / "runbooks").glob("*.md") if page.stem not in known
    ]


def documents() -> list[str]:
    """Return what is wrong with the control of documents that are no runbooks."""
    today = SystemClock().now().date()
    pages = (ROOT / "docs" / "monitoring.md", ROOT / "docs" / "runbooks" / "README.md")
    return [f"{page.name}: {problem}" for page in pages for problem in control_problems(page.read_text("utf-8"), today)]


def check(runbooks: str) -> int:
    """Return 1 when a file differs from the code or a runbook is missing, wrong or overdue."""
    wrong = [
        str(path.relative_to(ROOT))
        for path, text in files(runbooks)
        if not path.is_file() or path.read_text("utf-8") != text
    ]
    for name in wrong:
        print(f"{name} differs from the code: run scripts/monitoring.py")
    finding = runbooks_complete(ROOT / "docs" / "runbooks", SystemClock().now().date())
    problems = stray_pages() + documents() + ([] if finding.grade == "ok" else [finding.detail])
    print("\n".join(problems) or finding.detail)
    return int(bool(wrong or problems))


def main() -> int:
    """Write or check."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; fail when something differs")
    parser.add_argument("--runbooks", default=RUNBOOKS, help="address at which docs/runbooks is published")
    options = parser.parse_args()
    if options.check:
        return check(options.runbooks)
    for path, text in files(options.runbooks):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
