"""`knowledge index`: what it holds, and what an operator does to it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer
from typer import Context

from knowledge_system.interfaces.cli.backfill import backfill
from knowledge_system.interfaces.cli.invocation import current

if TYPE_CHECKING:
    from collections.abc import Callable

Document = dict[str, Any]
app = typer.Typer(help="The index: status, rebuild, optimize, verify, backfill.", no_args_is_help=True)
_MB = 1e6


@app.command("status")
def status(context: Context) -> None:
    """Show points, vectors, size and health."""
    _show(context, "status", _render_status)


@app.command("rebuild")
def rebuild(context: Context) -> None:
    """Build the index again from the truth and swap it in."""
    _show(context, "rebuild", _render_rebuild)


@app.command("optimize")
def optimize(context: Context) -> None:
    """Improve the graph on a copy, in a process of its own, and swap it in when recall holds."""
    _show(context, "optimize", _render_optimize)


@app.command("verify")
def verify(context: Context) -> None:
    """Check files and content, compare with the truth, repair what differs."""
    _show(context, "verify", _render_verify)


def register(into: typer.Typer) -> None:
    """Add the commands."""
    app.command("backfill")(backfill)
    into.add_typer(app, name="index")


def _show(context: Context, verb: str, render: Callable[[Document], None]) -> None:
    invocation = current(context)
    document = invocation.run(f"index {verb}", lambda system: getattr(system, f"index_{verb}")())
    invocation.show(document, render)


def _render_status(document: Document) -> None:
    _collection(document)
    for one in document["index_process"]:
        trouble = f"; the last trouble: {one['reason']}" if one["reason"] else ""
        typer.echo(f"process    {one['pid']} is {one['state']}, restarted {one['restarts']} times{trouble}")
    for one in document.get("index_server", []):
        typer.echo(f"server     {one['url']} is {one['state']}{': ' + one['reason'] if one['reason'] else ''}")
    larger = document["larger_space"]
    if "points" in larger:
        _collection(larger)
    if larger["embeddable"]:
        typer.echo(f"1536       {larger['share']:.0%} ({larger['covered']} of {larger['embeddable']}) embedded")
    waiting = ", ".join(f"{count} {stage}" for stage, count in document["outbox"].items() if count)
    typer.echo(f"waiting    {waiting or 'nothing'}")


def _collection(document: Document) -> None:
    counts = f"{document['points']} points, {document['vectors']} vectors, {document['indexed_vectors']} in the graph"
    typer.echo(f"index      {counts}, {document['bytes'] / _MB:.1f} MB ({document['backend']})")
    typer.echo(f"space      {document['space']}")
    if document["healthy"]:
        typer.echo("health     healthy")
    else:
        typer.secho(f"health     not healthy: {document['detail']}", fg="red")


def _render_rebuild(document: Document) -> None:
    removed = document.get("removed_collections", 0)
    more = f"; {removed} collections of other models removed" if removed else ""
    built = f"rebuilt with {document['points']} points in {document['seconds']:.1f} s"
    typer.echo(f"{built}, {document['embedded']} embedded{more}")
    if "larger_space" in document:
        larger = document["larger_space"]
        typer.echo(f"the larger space: rebuilt with {larger['points']} points in {larger['seconds']:.1f} s")


def _render_optimize(document: Document) -> None:
    _optimized("", document)
    if "larger_space" in document:
        _optimized("the larger space: ", document["larger_space"])


def _optimized(where: str, document: Document) -> None:
    done = "a better graph is in use" if document["swapped"] else "nothing was changed"
    detail = f" ({document['detail']})" if document["detail"] else ""
    typer.echo(f"{where}{done}{detail}: {document['points']} points, recall {document['recall']:.3f}")


def _render_verify(document: Document) -> None:
    _verified("", document)
    if "larger_space" in document:
        _verified("the larger space: ", document["larger_space"])


def _verified(where: str, document: Document) -> None:
    counted = f", {document['points']} points" if "points" in document else ""
    found = "sound" if document["ok"] else f"was damaged ({'; '.join(document['problems'])}) and has been rebuilt"
    differed = document["missing"] + document["surplus"]
    repaired = f"{document['missing']} entries were missing, {document['surplus']} too many: repaired"
    typer.echo(f"{where}{found}{counted}; {repaired if differed else 'equal to the database'}")
