"""`knowledge index backfill`: says what it would cost, asks, then embeds what the larger space lacks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer import Context, Option

from knowledge_system.interfaces.cli.invocation import current
from knowledge_system.interfaces.cli.progress import progress_bar

if TYPE_CHECKING:
    from knowledge_system.application.system import KnowledgeSystem


def backfill(
    context: Context,
    dry_run: Annotated[bool, Option("--dry-run", help="Only say what would be sent and what it would cost.")] = False,
    limit: Annotated[int | None, Option(help="Embed at most this many entries.", min=1)] = None,
    yes: Annotated[bool, Option("--yes", help="Do not ask before spending.")] = False,
) -> None:
    """Embed entries in the larger space (1536 dimensions) for `search --accuracy high`; costs money.

    Prints the estimate first and asks. Stopped at any point, by the budget too, it goes on there when run again and
    pays nothing twice. Confidential and secret content never leaves this machine.
    """
    invocation = current(context)
    if dry_run:
        invocation.show(
            invocation.run("index backfill", lambda system: system.backfill_estimate(limit)),
            lambda document: _render_estimate(document, err=False),
        )
        return

    async def run(system: KnowledgeSystem) -> dict[str, Any]:
        plan = await system.backfill_estimate(limit)
        _render_estimate(plan, err=True)
        if plan["texts"]:
            invocation.confirm(
                f"Send {plan['texts']} texts to {plan['provider']} for about ${plan['cost']:.6f}?", yes=yes
            )
        with progress_bar(wanted=not invocation.as_json) as progress:
            return {**await system.index_backfill(limit, progress), "estimate": plan}

    document = invocation.run("index backfill", run)
    invocation.show(document, _render_done)
    raise typer.Exit(document["exit_code"])


def _render_estimate(plan: dict[str, Any], *, err: bool) -> None:
    def say(line: str) -> None:
        typer.echo(line, err=err)

    kinds = ", ".join(f"{count} {level}" for level, count in sorted(plan["levels"].items()))
    say(f"{plan['space']}: {plan['covered']} entries are there, {plan['entries']} would be added ({kinds or 'none'})")
    say(
        f"{plan['texts']} texts, about {plan['tokens']} tokens ({plan['counted']}) at ${plan['price_per_million']:g} a "
        f"million: about ${plan['cost']:.6f}, at most ${plan['at_most']:.6f}"
    )
    say(f"budget: ${plan['budget_remaining']:.4f} left this month; it stops there")
    if plan["withheld"]:
        kept = ", ".join(f"{count} {level}" for level, count in sorted(plan["withheld"].items()))
        say(f"not sent: {kept}")
    if plan["problem"]:
        say(f"{plan['provider']} cannot be used yet: {plan['problem']}")


def _render_done(document: dict[str, Any]) -> None:
    coverage = document["coverage"]
    typer.echo(
        f"{document['entries']} entries, {document['texts']} texts, {document['tokens']} tokens, "
        f"${document['cost']:.6f} in {document['seconds']:.1f} s"
    )
    if document["refused"]:
        typer.echo(f"{document['refused']} texts were judged too sensitive to leave and stay here")
    typer.echo(f"coverage {coverage['share']:.0%} ({coverage['covered']} of {coverage['embeddable'] or 0} entries)")
    if document["stopped"]:
        typer.echo(f"stopped: {document['stopped']['message']} — {document['stopped']['hint']}")
