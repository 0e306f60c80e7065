"""`knowledge config overrides`, `history`, `undo`: settings that were changed while the service ran."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer import Argument, Context, Option

from knowledge_system.domain.errors import UsageError
from knowledge_system.interfaces.cli.invocation import current
from knowledge_system.interfaces.cli.operate import config_app

if TYPE_CHECKING:
    from knowledge_system.application.system import KnowledgeSystem

MAX_LIMIT = 1000


@config_app.command("overrides")
def overrides(context: Context) -> None:
    """Show what was changed at run time and counts instead of the configuration file."""
    invocation = current(context)

    async def shown(system: KnowledgeSystem) -> dict[str, Any]:
        document = await system.parts.runtime().show()
        return {"overrides": document["overrides"], "ignored": document["ignored"]}

    invocation.show(invocation.run("config overrides", shown), _render_overrides)


@config_app.command("history")
def history(
    context: Context,
    limit: Annotated[int, Option(help="Rows of a page.")] = 50,
    after: Annotated[str | None, Option(help="Cursor `next` of the page before.")] = None,
) -> None:
    """Show changes of settings at run time, newest first."""
    if not 1 <= limit <= MAX_LIMIT:
        raise UsageError(f"--limit {limit} is out of range", hint=f"1 to {MAX_LIMIT}")
    invocation = current(context)
    document = invocation.run("config history", lambda system: system.parts.runtime().history(limit, after))
    invocation.show(document, lambda one: _render(one["results"]))


@config_app.command("undo")
def undo(context: Context, change: Annotated[str, Argument(help="Id from `knowledge config history`.")]) -> None:
    """Take back a change of settings: its keys are again what they were before."""
    invocation = current(context)
    document = invocation.run("config undo", lambda system: system.config_undo(change))
    invocation.show(document, _render_change)


def register(app: typer.Typer) -> None:
    """Add nothing: the commands belong to `knowledge config`, which is added already."""
    del app


def _render_overrides(document: dict[str, Any]) -> None:
    _render(document["overrides"])
    for one in document["ignored"]:
        typer.echo(f"ignored: {one['key']}: {one['reason']}")


def _render(rows: list[dict[str, Any]]) -> None:
    for row in rows:
        value = "as the file says" if row["value"] is None else json.dumps(row["value"], ensure_ascii=False)
        mark = "" if row["in_force"] else "  (not in force)"
        typer.echo(f"{row['id']}  {row['at']}  {row['by']:<14} {row['key']} = {value}{mark}")
    if not rows:
        typer.echo("nothing was changed at run time")


def _render_change(document: dict[str, Any]) -> None:
    for key, value in document["changed"].items():
        told = "as the file says" if value is None else json.dumps(value, ensure_ascii=False)
        wait = " (after a restart)" if key in document["restart_required"] else ""
        typer.echo(f"{key} = {told}{wait}")
    typer.echo(f"change {document['change']}")
