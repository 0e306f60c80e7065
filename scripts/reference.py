"""Write `docs/reference/` from the code, or check that it says what the code says.

Every command, option, setting, error and event is listed because it is read from the code, not from memory.
"""

from __future__ import annotations

import dataclasses
import inspect
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from prometheus_client import CollectorRegistry

from knowledge_system import settings
from knowledge_system.domain import errors, events
from knowledge_system.interfaces.cli.app import app
from knowledge_system.operations import gauges
from knowledge_system.operations.series import Series

if TYPE_CHECKING:
    from collections.abc import Iterator

TARGET = Path(__file__).resolve().parent.parent / "docs" / "reference"
NOTE = "<!-- Made from the code by scripts/reference.py; `make check` fails when it differs. -->\n\n"


def commands() -> str:
    """Return the page of commands and options."""
    lines = ["# Commands\n", "Global options stand before or after the command.\n"]
    root = typer.main.get_command(app)
    lines.extend(_options(root))
    lines.extend(_command_lines("knowledge", root))
    return "\n".join(lines) + "\n"


def _command_lines(prefix: str, command: Any) -> Iterator[str]:
    for name, child in command.commands.items():
        title = f"{prefix} {name}"
        if hasattr(child, "commands"):
            if child.invoke_without_command:
                yield f"\n## `{title}`\n\n{inspect.cleandoc(child.help or '')}\n"
            yield from _command_lines(title, child)
            continue
        arguments = " ".join(_metavar(p) for p in child.params if p.param_type_name == "argument")
        yield f"\n## `{title}{' ' + arguments if arguments else ''}`\n\n{inspect.cleandoc(child.help or '')}\n"
        yield from _options(child)


def _metavar(parameter: Any) -> str:
    name = parameter.metavar or str(parameter.name).upper()
    return name if parameter.required else f"[{name}]"


def _options(command: Any) -> Iterator[str]:
    for parameter in command.params:
        if parameter.param_type_name == "option" and not parameter.hidden:
            yield f"- `{'`, `'.join(parameter.opts)}`: {parameter.help or ''}"


def configuration() -> str:
    """Return the page of settings: dotted key, default, environment variable."""
    rows = ["# Configuration\n", "| key | default | environment |", "|---|---|---|"]
    rows.extend(
        f"| `{key}` | `{value!r}` | `KNOWLEDGE__{key.replace('.', '__').upper()}` |"
        for key, value in _leaves(settings.dump(settings.Configuration()))
    )
    return "\n".join(rows) + "\n"


def _leaves(tree: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, object]]:
    for key, value in tree.items():
        if isinstance(value, dict) and value:
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def error_page() -> str:
    """Return the page of errors with their exit codes."""
    rows = ["# Errors and exit codes\n", "| exit code | code | meaning |", "|---|---|---|"]
    classes = [one for _, one in inspect.getmembers(errors, inspect.isclass) if issubclass(one, errors.KnowledgeError)]
    rows.extend(
        f"| {one.exit_code} | `{one.code}` | {(inspect.getdoc(one) or '').splitlines()[0]} |"
        for one in sorted(classes, key=lambda one: (one.exit_code, one.code))
    )
    return "\n".join([*rows, "| 130 | | interrupted |"]) + "\n"


def event_page() -> str:
    """Return the page of events with their fields."""
    rows = ["# Events\n", "| event | fields | meaning |", "|---|---|---|"]
    for name, one in inspect.getmembers(events, inspect.isclass):
        if issubclass(one, events.Event) and one is not events.Event:
            fields = ", ".join(f"`{field.name}`" for field in dataclasses.fields(one))
            rows.append(f"| `{name}` | {fields} | {' '.join((inspect.getdoc(one) or '').split())} |")
    return "\n".join(rows) + "\n"


def metrics_page() -> str:
    """Return the page of series that `GET /metrics` shows."""
    rows = ["# Metrics\n", "| series | kind | labels | meaning |", "|---|---|---|---|"]
    for one in sorted([*Series(CollectorRegistry()).rows(), *gauges.rows()]):
        labels = ", ".join(f"`{label}`" for label in one.labels)
        buckets = f" Buckets: {', '.join(f'{bound:g}' for bound in one.buckets)}." if one.buckets else ""
        rows.append(f"| `{one.name}` | {one.kind} | {labels} | {one.help}{buckets} |")
    return "\n".join(rows) + "\n"


PAGES = {
    "commands.md": commands,
    "configuration.md": configuration,
    "errors.md": error_page,
    "events.md": event_page,
    "metrics.md": metrics_page,
}


def main() -> None:
    """Write the pages; with `--check` fail when one differs."""
    TARGET.mkdir(parents=True, exist_ok=True)
    stale = []
    for name, make in PAGES.items():
        text = NOTE + make()
        path = TARGET / name
        if "--check" not in sys.argv:
            path.write_text(text)
        elif not path.exists() or path.read_text() != text:
            stale.append(name)
    if stale:
        sys.exit(f"docs/reference is stale ({', '.join(stale)}): run `.venv/bin/python scripts/reference.py`")


if __name__ == "__main__":
    main()
