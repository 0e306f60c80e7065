"""`knowledge budget`, `providers`, `audit`: what model calls cost, who answers them, what left the machine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer import Argument, Context, Option

from knowledge_system.domain.errors import UsageError
from knowledge_system.interfaces.cli.invocation import current

if TYPE_CHECKING:
    from collections.abc import Callable

budget_app = typer.Typer(help="The monthly budget: status, set, freeze, unfreeze.", no_args_is_help=True)
providers_app = typer.Typer(help="Model providers and their circuit breakers: status, reset.", no_args_is_help=True)
MAX_LIMIT = 1000


@budget_app.command("status")
def budget_status(context: Context) -> None:
    """Show limit, spend, reservations and tier of this month (UTC)."""
    from knowledge_system.application import engine

    _call(context, "budget status", engine.budget_status, (), _render_budget)


@budget_app.command("set")
def budget_set(
    context: Context,
    dollars: Annotated[float, Argument(help="US dollars a month.")],
    scope: Annotated[str, Option(help="project:NAME or operation:NAME instead of the whole.")] = "",
) -> None:
    """Set the monthly limit, at once and for every process."""
    from knowledge_system.application import engine

    _call(context, "budget set", engine.budget_change, ("set-limit", scope, dollars), _render_budget)


@budget_app.command("freeze")
def budget_freeze(context: Context) -> None:
    """Refuse every paid call from now on; local models go on."""
    from knowledge_system.application import engine

    _call(context, "budget freeze", engine.budget_change, ("freeze",), _render_budget)


@budget_app.command("unfreeze")
def budget_unfreeze(context: Context) -> None:
    """Allow paid calls again, within the limit."""
    from knowledge_system.application import engine

    _call(context, "budget unfreeze", engine.budget_change, ("unfreeze",), _render_budget)


@providers_app.command("status")
def providers_status(context: Context) -> None:
    """Show each provider's model, breaker, and what keeps it from being used."""
    from knowledge_system.application import engine

    _call(context, "providers status", engine.provider_status, (), _render_providers)


@providers_app.command("reset")
def providers_reset(context: Context, provider: Annotated[str, Argument(help="groq, openrouter, local, …")]) -> None:
    """Close a provider's circuit breaker by hand."""
    from knowledge_system.application import engine

    _call(context, "providers reset", engine.provider_reset, (provider,), _render_providers)


def audit(
    context: Context,
    limit: Annotated[int, Option(help="Rows of a page.")] = 50,
    after: Annotated[str | None, Option(help="Cursor `next` of the page before.")] = None,
) -> None:
    """Show what left this machine, why, and what it cost.

    Hashes only, never content; calls of operators are there too.
    """
    from knowledge_system.application import engine

    if not 1 <= limit <= MAX_LIMIT:
        raise UsageError(f"--limit {limit} is out of range", hint=f"1 to {MAX_LIMIT}")
    _call(context, "audit", engine.audit_page, (limit, after), _render_audit)


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(budget_app, name="budget")
    app.add_typer(providers_app, name="providers")
    app.command()(audit)


def _call(
    context: Context, purpose: str, verb: Callable[..., Any], arguments: tuple[Any, ...], render: Callable[[Any], None]
) -> None:
    invocation = current(context)
    invocation.show(invocation.run(purpose, lambda system: verb(system.parts, *arguments)), render)


def _render_budget(document: dict[str, Any]) -> None:
    typer.echo(
        f"{document['month']}: ${document['spend']:.4f} spent and ${document['reserved']:.4f} reserved "
        f"of ${document['limit']:.2f} ({document['percentage']:.1f} %), ${document['remaining']:.4f} left"
    )
    state = ", ".join(name for name in ("frozen", "offline") if document[name]) or "open"
    typer.echo(f"tier {document['tier']}, {state}")
    for scope, amount in document["limits"].items():
        typer.echo(f"  {scope}: at most ${amount:.2f}")


def _render_providers(document: dict[str, Any]) -> None:
    for row in document["providers"]:
        place = "local" if row["local"] else "remote"
        problem = f" · {row['problem']}" if row["problem"] else ""
        typer.echo(f"{row['provider']:<11} {row['breaker']:<10} {place:<7} {row['model'] or '?'}{problem}")


def _render_audit(document: dict[str, Any]) -> None:
    for row in document["results"]:
        typer.echo(
            f"{row['at']}  {row['kind']:<16} {row['operation']:<14} {row['provider']:<10} {row['sensitivity']:<12} "
            f"${row['cost']:.6f}  {row['outcome']}  {row['content_hash'][:12]}".rstrip()
        )
    if not document["results"]:
        typer.echo("nothing has left this machine")
