"""`knowledge connect`, `disconnect`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer import Argument, Context, Option

from knowledge_system.domain.errors import UsageError
from knowledge_system.interfaces.cli.invocation import current, one_of

if TYPE_CHECKING:
    from knowledge_system.application.connecting import Target

Agent = Annotated[str | None, Argument(help="claude-code, codex, cursor, copilot, gemini, opencode or generic.")]
ScopeOption = Annotated[str, Option("--scope", help="user, or project: only in the directory --project.")]
ProjectOption = Annotated[Path | None, Option("--project", help="Directory of the project (default: the current one).")]
DryRun = Annotated[bool, Option("--dry-run", help="Show what would change, change nothing.")]


def connect(
    context: Context,
    agent: Agent = None,
    scope: ScopeOption = "user",
    project: ProjectOption = None,
    dry_run: DryRun = False,
    list_: Annotated[bool, Option("--list", help="Show what is connected, and what drifted since.")] = False,
) -> None:
    """Install hooks and the MCP server in a coding agent.

    They go into the agent's own configuration; touched files are backed up.
    """
    from knowledge_system.application import connecting

    invocation = current(context)
    settings = invocation.settings()
    if list_:
        invocation.show(connecting.connections(settings), _render_list)
        return
    document = connecting.connect(settings, _target(agent, scope, project), dry_run=dry_run)
    invocation.show(document, _render_change)


def disconnect(
    context: Context,
    agent: Agent = None,
    scope: ScopeOption = "user",
    project: ProjectOption = None,
    dry_run: DryRun = False,
) -> None:
    """Remove exactly what `connect` added.

    Files that nobody changed since become what they were.
    """
    from knowledge_system.application import connecting

    invocation = current(context)
    document = connecting.disconnect(invocation.settings(), _target(agent, scope, project), dry_run=dry_run)
    invocation.show(document, _render_change)


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(connect)
    app.command()(disconnect)


def _target(agent: str | None, scope: str, project: Path | None) -> Target:
    from knowledge_system.application.connecting import Target

    if agent is None:
        raise UsageError("which agent?", hint="knowledge connect claude-code; `knowledge connect --list` shows all")
    chosen = one_of(scope, ("user", "project"), "--scope")
    if chosen == "user" and project is not None:
        raise UsageError("--project needs --scope project", hint="knowledge connect AGENT --scope project")
    return Target(agent, (project or Path.cwd()).absolute() if chosen == "project" else None)


def _render_change(document: dict[str, Any]) -> None:
    for text in document.get("diff", []):
        typer.echo(text)
    for path in document["changed"]:
        typer.echo(f"changed {path}")
    if not document["changed"] and not document.get("diff"):
        typer.echo(f"{document['agent']}: nothing to change")
    if document.get("note"):
        typer.echo(f"note: {document['note']}")


def _render_list(document: dict[str, Any]) -> None:
    for row in document["agents"]:
        installed = "installed" if row["installed"] else "not found"
        if not row["connections"]:
            typer.echo(f"{row['agent']:<12} {installed:<10} not connected")
        for one in row["connections"]:
            where = one["project"] or "user"
            typer.echo(f"{row['agent']:<12} {installed:<10} {one['state']} ({where}, since {one['since']})")
            for path, state in one["files"].items():
                if state != "connected":
                    typer.echo(f"{'':<12} {state}: {path}")
            if not one["executable_exists"]:
                typer.echo(f"{'':<12} gone: {one['executable']}; connect again")
