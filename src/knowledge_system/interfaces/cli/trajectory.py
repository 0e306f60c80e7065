"""`knowledge trajectory`: how a session went, how sessions go, and which are alike."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer import Argument, Context, Option

from knowledge_system.domain.clock import SystemClock
from knowledge_system.domain.errors import UsageError
from knowledge_system.interfaces.cli.invocation import current
from knowledge_system.interfaces.cli.values import moment

if TYPE_CHECKING:
    from knowledge_system.application.system import KnowledgeSystem

MAX_LIMIT = 100
_COLOURS = {"blocked": "red", "off_track": "yellow", "on_track": "green"}


def trajectory(
    context: Context,
    session: Annotated[str | None, Argument(metavar="SESSION", help="Id of a session.")] = None,
    stats: Annotated[bool, Option("--stats", help="Sums over sessions instead of one session.")] = False,
    project: Annotated[str | None, Option(help="With --stats: only this project.")] = None,
    since: Annotated[str | None, Option(help="With --stats: only what is this new (2026-01-31, 30d).")] = None,
    similar: Annotated[bool, Option("--similar", help="Sessions like this one.")] = False,
    limit: Annotated[int, Option(help="With --similar: at most this many.")] = 5,
) -> None:
    """Show what a session wanted and how it went.

    With --stats how sessions go.
    """
    _check(session, limit, stats=stats, similar=similar, filtered=project is not None or since is not None)
    invocation = current(context)
    start = moment(since, "--since", SystemClock())

    async def ask(system: KnowledgeSystem) -> dict[str, Any]:
        from knowledge_system.application import trajectories

        if session is None:
            return await trajectories.trajectory_statistics(system.parts, project, start)
        if similar:
            return await trajectories.similar_sessions(system.parts, session, limit)
        return await trajectories.trajectory(system.parts, session)

    document = invocation.run("trajectory", ask)
    invocation.show(document, _statistics if session is None else _similar if similar else _timeline)


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(trajectory)


def _check(session: str | None, limit: int, *, stats: bool, similar: bool, filtered: bool) -> None:
    if stats == (session is not None):
        raise UsageError("name a session, or ask for --stats", hint="`knowledge sessions` lists them")
    if similar and stats:
        raise UsageError("--similar and --stats exclude each other", hint="--similar needs a session")
    if filtered and not stats:
        raise UsageError("--project and --since belong to --stats", hint="a session is named by its id alone")
    if not 1 <= limit <= MAX_LIMIT:
        raise UsageError(f"--limit {limit} is out of range", hint=f"1 to {MAX_LIMIT}")


def _timeline(document: dict[str, Any]) -> None:
    typer.secho(document["goal"] or "(no goal yet)", bold=True)
    goal = document["points"][0]["goal"] if document["points"] else ""
    for point in document["points"]:
        if "goal" in point["changed"] and point["goal"] != goal:
            typer.secho(f"  → {point['goal']}", bold=True)
        goal = point["goal"]
        typer.secho(
            f"{point['at'][:16].replace('T', ' ')}  {point['state']:<12}", nl=False, fg=_COLOURS.get(point["state"])
        )
        typer.echo(f" {point['intent'] or '-':<13} {point['trigger']}")
        about = ", ".join(f"{one['name']} ({one['engagement']})" for one in point["concepts"][:4])
        if about:
            typer.secho(f"{'':<18}{about}", dim=True)
    if not document["points"]:
        typer.echo("this session has not been tracked yet; the next `knowledge ingest` does it", err=True)


def _statistics(document: dict[str, Any]) -> None:
    typer.secho(f"{document['sessions']} sessions, {document['exchanges']} exchanges", bold=True)
    for state, found in document["states"].items():
        share = "" if found["share_of_time"] is None else f"{found['share_of_time']:>5.0%} of the time"
        typer.echo(f"  {state:<13}{found['exchanges']:>6} exchanges {found['seconds'] / 60:>9.1f} min {share}")
    typer.echo("Intents: " + ", ".join(f"{name} {count}" for name, count in document["intents"].items()))
    for title, moves in (("States", document["state_transitions"]), ("Intents", document["intent_transitions"])):
        typer.secho(f"{title}, common transitions", bold=True)
        for move in moves[:8]:
            typer.echo(f"  {move['from']} → {move['to']}: {move['count']}")


def _similar(document: dict[str, Any]) -> None:
    typer.secho(f"Like: {document['goal'] or document['session']}", bold=True)
    for one in document["results"]:
        about = f" · {', '.join(one['shared_concepts'][:5])}" if one["shared_concepts"] else ""
        typer.echo(f"{one['similarity']:.2f}  {one['session']}  {one['state']:<12} {one['goal']}{about}")
    if not document["results"]:
        typer.echo("no other session has a trajectory yet", err=True)
