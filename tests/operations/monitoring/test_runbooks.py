"""What a runbook says to type exists: commands with their options, settings, panels, pages, series."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from tests.operations.monitoring.exposed import exposed
from tests.operations.monitoring.servers import ROOT
from typer.exceptions import TyperException

from knowledge_system.interfaces.cli.app import app, hoisted, run
from knowledge_system.operations.monitoring.panels import dashboard_rows
from knowledge_system.operations.monitoring.rules import all_alerts
from knowledge_system.settings import Configuration

PAGES = [*sorted((ROOT / "docs" / "runbooks").glob("*.md")), ROOT / "docs" / "monitoring.md"]
COMMANDS = typer.main.get_command(app)


def fenced(text: str) -> Iterator[str]:
    """Yield the lines of shell blocks."""
    for block in re.findall(r"^```sh\n(.*?)^```", text, re.DOTALL | re.MULTILINE):
        yield from block.splitlines()


def spans(text: str) -> list[str]:
    """Return what stands in backticks within a line."""
    return re.findall(r"`([^`\n]+)`", text)


def misread(line: str, *, named: bool = False) -> str:
    """Return why the program would refuse a command line; `named`: in a sentence, where it may lack its arguments."""
    words = shlex.split(re.split(r" [|>] ", line)[0])[1:]
    command, context = COMMANDS, None
    try:
        while True:
            context = command.make_context(words[0] if words else "knowledge", hoisted(words), parent=context)
            left = [*getattr(context, "_protected_args", []), *context.args]
            if not hasattr(command, "get_command"):
                return ""
            found = command.get_command(context, left[0]) if left else None
            if found is None:
                return f"{line}: no such command" if left else ""
            command, words = found, left[1:]
    except typer.Exit:  # `--version`
        return ""
    except TyperException as error:
        message = error.format_message()
        return "" if named and message.startswith(("Missing", "Usage")) else f"{line}: {message}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_command_is_one_that_the_program_understands(page: Path) -> None:
    text = page.read_text()
    wrong = [misread(line) for line in fenced(text) if line.startswith("knowledge ")]
    wrong += [misread(span, named=True) for span in spans(text) if span.startswith("knowledge ")]
    assert [one for one in wrong if one] == []


@pytest.mark.parametrize(
    "line", ["knowledge dokter", "knowledge audit --limits 3", "knowledge index rebuilt", "knowledge list a b c | head"]
)
def test_a_command_that_does_not_exist_is_told(line: str) -> None:
    assert misread(line)


def has(key: str) -> bool:
    """Tell whether a dotted key in the spelling of the configuration file is a setting."""
    tree = Configuration().model_dump(by_alias=True)
    for part in key.split("."):
        if not isinstance(tree, dict) or part not in tree:
            return False
        tree = tree[part]
    return True


def test_every_setting_exists() -> None:
    sections = set(Configuration().model_dump(by_alias=True))
    named = {
        (page.stem, word)
        for page in PAGES
        for span in [*spans(page.read_text()), *fenced(page.read_text())]
        for word in re.findall(r"(?<![\w./-])([a-z]\w*(?:\.[a-zA-Z]\w*)+)", span)
        if word.partition(".")[0] in sections
    }
    assert named
    assert [one for one in named if not has(one[1])] == []


def test_every_value_that_is_to_be_set_is_a_valid_one(tmp_path: Path) -> None:
    said = {
        tuple(shlex.split(span)[1:])
        for page in PAGES
        for span in [*spans(page.read_text()), *fenced(page.read_text())]
        if span.startswith("knowledge config set ")
    }
    assert said
    assert [words for words in said if run(["--home", str(tmp_path), *words]) != 0] == []


def test_every_panel_series_and_page_exists() -> None:
    panels = {panel.title for row in dashboard_rows() for panel in row.panels}
    alerts = {alert.name for alert in all_alerts()}
    for page in PAGES[:-1]:
        text = page.read_text()
        assert set(re.findall(r"(?<!\*)\*([A-Z][^*\n]+)\*(?!\*)", text)) <= panels, page.stem
        assert set(re.findall(r"\b(?:see|See|follow|Follow) ([A-Z]\w+[a-z][A-Z0-9]\w+)", text)) <= alerts, page.stem
        bases = {name.removesuffix("_bucket").removesuffix("_count").removesuffix("_sum") for name in exposed()}
        assert {one for one in re.findall(r"knowledge_\w+", text) if one not in exposed()} <= bases, page.stem


def test_a_setting_in_the_file_is_read_at_the_next_start_and_the_page_says_so() -> None:
    silent = [
        page.stem for page in PAGES if "knowledge config set" in (text := page.read_text()) if "estart" not in text
    ]
    assert silent == []


def test_the_list_of_pages_is_whole() -> None:
    listed = re.findall(
        r"^\| \[(\w+)\]\(\1\.md\) \| (\w+) \| (\w+) \|$",
        (ROOT / "docs" / "runbooks" / "README.md").read_text(),
        re.MULTILINE,
    )
    assert sorted(listed) == sorted((alert.name, alert.level.severity, alert.level.priority) for alert in all_alerts())
