"""`knowledge doctor`, and `doctor latency|memory|locks|index`: what is wrong, measured, and what to do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer
from typer import Context

from knowledge_system.interfaces.cli.invocation import current
from knowledge_system.interfaces.cli.values import counted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MARKS = {"ok": ("ok", "green"), "warning": ("warn", "yellow"), "error": ("FAIL", "red")}
_GRADES = {"ok": ("ok", "green"), "slow": ("SLOW", "red"), "unknown": ("?", "yellow")}
_MB = 1_000_000

doctor_app = typer.Typer(
    help="Check everything; say what is wrong and what to do. Exits with the code of the gravest finding.",
    invoke_without_command=True,
)


@doctor_app.callback()
def doctor(context: Context) -> None:
    """Check everything; say what is wrong and what to do. Exits with the code of the gravest finding.

    `latency`, `memory`, `locks` and `index` look at one thing closely.
    """
    if context.invoked_subcommand is not None:
        return
    invocation = current(context)
    document = invocation.run("doctor", lambda system: system.doctor())
    invocation.show(document, _render_doctor)
    raise typer.Exit(document["exit_code"])


@doctor_app.command("latency")
def latency(context: Context) -> None:
    """Measure embedding, search, inference and the machine: which is slow, why, and what helps."""
    _diagnose(context, "latency", _render_latency)


@doctor_app.command("memory")
def memory(context: Context) -> None:
    """Show what the service has in memory, how that moved over the last day, and what to make of it."""
    _diagnose(context, "memory", _render_memory)


@doctor_app.command("locks")
def locks(context: Context) -> None:
    """Show who locks the database, which transactions are open, and whether its log can be emptied."""
    _diagnose(context, "locks", _render_locks)


@doctor_app.command("index")
def index(context: Context) -> None:
    """Show the process or server, collections and segments of the index, and its last troubles."""
    _diagnose(context, "index", _render_index)


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(doctor_app, name="doctor")


def _diagnose(context: Context, what: str, render: Callable[[dict[str, Any]], None]) -> None:
    from knowledge_system.application.diagnosing import diagnosed

    invocation = current(context)
    document = invocation.run(f"doctor {what}", lambda system: diagnosed(system, what))
    invocation.show(document, render)
    raise typer.Exit(document["exit_code"])


def _render_doctor(document: dict[str, Any]) -> None:
    for check in document["checks"]:
        mark, colour = MARKS[check["grade"]]
        typer.secho(f"{mark:>4}  ", fg=colour, nl=False)
        typer.echo(f"{check['check']}: {check['detail']}")
        if check["advice"]:
            typer.echo(f"      → {check['advice']}")


def _render_latency(document: dict[str, Any]) -> None:
    for row in document["rows"]:
        mark, colour = _GRADES[row["grade"]]
        typer.secho(f"{mark:>4}  ", fg=colour, nl=False)
        typer.echo(f"{row['area']}: {row['symptom']}" if row["grade"] == "slow" else row["area"])
        for name, value in row["measured"].items():
            typer.echo(f"      {name:<18} {_shown(value)}")
        if row["cause"]:
            typer.echo(f"      because {row['cause']}")
        if row["solution"]:
            typer.echo(f"      → {row['solution']}")
    if document["slowest"]:
        typer.echo("slowest requests since the start, with their longest steps")
    for one in document["slowest"]:
        steps = "".join(f", {name} {ms} ms" for name, ms in one["steps"].items())
        typer.echo(f"      {one['ms']:>9} ms  {one['operation']}{steps} (trace {one['trace']})")


def _render_memory(document: dict[str, Any]) -> None:
    growth, traced = document["growth"], document["traced"]
    typer.echo(
        f"resident   {document['rss'] / _MB:.0f} MB of {document['limit'] / _MB:.0f} (process {document['pid']})"
    )
    for one in document["processes"]:
        typer.echo(f"           {one['rss'] / _MB:.0f} MB more in process {one['pid']} ({one['name']})")
    told = "not traced (PYTHONTRACEMALLOC=1)" if traced is None else f"{traced['current']} B, peak {traced['peak']} B"
    typer.echo(f"traced     {told}")
    typer.echo(f"objects    {document['gc']['objects']}, {document['gc']['uncollectable']} cannot be collected")
    slope = growth["rss_per_hour"]
    moved = "too few samples to say" if slope is None else f"{slope / _MB:+.1f} MB an hour"
    typer.echo(f"growth     {moved} ({growth['samples']} samples since {growth['since'] or 'now'})")
    for one in document["caches"]:
        typer.echo(f"cache      {one['name']}: {one['entries']} of {one['limit']} entries, {one['bytes']} B")
    for one in document["types"]:
        typer.echo(f"type       {one['count']:>9}  {one['bytes']:>12} B  {one['type']}")
    for one in document["allocations"] or []:
        typer.echo(f"allocated  {one['count']:>9}  {one['bytes']:>12} B  {one['place']}")
    for one in document["guide"]:
        typer.secho(f"warn  {one['symptom']}", fg="yellow")
        typer.echo(f"      because {one['cause']}\n      → {one['solution']}")


def _render_locks(document: dict[str, Any]) -> None:
    typer.echo(f"database   {document['engine']}, write lock {document['write_lock'] or 'not looked at'}")
    if document["in_use_by"]:
        typer.echo(f"in use by  process {document['in_use_by'].get('pid')} ({document['in_use_by'].get('purpose')})")
    for one in document["holders"] or []:
        typer.echo(f"holder     process {one['pid']} ({one['command']}) {one['role']}")
    for one in document["transactions"] or []:
        typer.echo(f"{one['state']:<10} {one['seconds']:>9.3f} s  {one['kind']:<5}  {one['purpose']} ({one['thread']})")
    typer.echo(f"log        {document['log_bytes']} B before; {_checkpoint(document)}")
    _findings(document["findings"])


def _checkpoint(document: dict[str, Any]) -> str:
    done = document["checkpoint"]
    return str(document.get("problem", "not asked for")) if done is None else str(done["meaning"])


def _render_index(document: dict[str, Any]) -> None:
    typer.echo(f"backend    {document['backend']}")
    for one in document["processes"]:
        memory = "" if one["rss_bytes"] is None else f", {one['rss_bytes'] / _MB:.0f} MB"
        typer.echo(
            f"process    {one['pid']} {one['state']}{memory}, restarted {one['restarts']} times ({one['space']})"
        )
    for one in document.get("servers", []):
        _render_server(one)
    for one in document["collections"]:
        counts = f"{one['points']} points, {one['vectors']} vectors, {one['indexed_vectors']} in the graph"
        health = "healthy" if one["healthy"] else "not healthy"
        typer.echo(f"collection {one['name']}: {counts}, {one['bytes'] / _MB:.1f} MB, {health}")
    for one in document["files"]:
        typer.echo(
            f"files      {one['collection']}: {counted(one['segments'], 'segment')} ({', '.join(one['generations'])})"
        )
    typer.echo(f"waiting    {_shown(document['outbox']) or 'nothing'}")
    for problem in document["problems"]:
        typer.secho(f"warn  {problem}", fg="yellow")
    if document["advice"]:
        typer.echo(f"      → {document['advice']}")


def _render_server(one: dict[str, Any]) -> None:
    facts = one["facts"]
    ready = "ready" if facts.get("ready") else "not ready"
    version = f"Qdrant {facts['version'] or '?'}, {ready}" if facts else "no answer"
    outages = counted(one["outages"], "outage")
    typer.echo(f"server     {one['url']}: {one['state']}, {version}, {outages} ({one['space']})")
    if facts:
        typer.echo(f"           collections {', '.join(facts['collections']) or 'none'}")
        typer.echo(
            f"           {facts['collection']}: {facts['status']}, optimizer {facts['optimizer_status']}, "
            f"{facts['indexed_vectors']} vectors in graphs of {facts['points']} points, "
            f"{counted(facts['segments'], 'segment')}"
        )
    typer.echo(f"           {one['logs']}")


def _findings(findings: list[dict[str, Any]]) -> None:
    for one in findings:
        typer.secho(f"warn  {one['problem']}", fg="yellow")
        typer.echo(f"      → {one['advice']}")
    if not findings:
        typer.secho("ok    nothing is in the way", fg="green")


def _shown(value: Any) -> str:
    """Return a measured value in a line."""
    return ", ".join(_pairs(value)) if isinstance(value, dict) else str(value)


def _pairs(value: dict[str, Any]) -> Iterator[str]:
    for name, one in value.items():
        yield f"{name} {'-' if one is None else one}"
