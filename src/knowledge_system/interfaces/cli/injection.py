"""`knowledge why-injected`, `feedback`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer import Argument, Context, Option

from knowledge_system.domain.errors import UsageError
from knowledge_system.domain.feedback import FeedbackVerdict
from knowledge_system.interfaces.cli.invocation import current, one_of

if TYPE_CHECKING:
    from knowledge_system.application.system import KnowledgeSystem

MAX_LIMIT = 1000


def why_injected(
    context: Context,
    session: Annotated[str, Argument(metavar="SESSION", help="Id of a session.")],
    limit: Annotated[int, Option(help="The last so many decisions.")] = 200,
) -> None:
    """Show what was and was not put into a session, and why."""
    if not 1 <= limit <= MAX_LIMIT:
        raise UsageError(f"--limit {limit} is out of range", hint=f"1 to {MAX_LIMIT}")
    invocation = current(context)

    async def ask(system: KnowledgeSystem) -> dict[str, Any]:
        from knowledge_system.application.injecting import why_injected as told

        return await told(system.parts, session, limit)

    invocation.show(invocation.run("why-injected", ask), _render)


def feedback(
    context: Context,
    identity: Annotated[str, Argument(metavar="ID", help="Id of an item.")],
    verdict: Annotated[str, Argument(help="helpful, harmful or wrong.")],
    note: Annotated[str, Option(help="Why.")] = "",
) -> None:
    """Say whether an item helped.

    It is trusted more, less, or not found any more.
    """
    chosen = one_of(verdict, list(FeedbackVerdict), "verdict")
    invocation = current(context)
    given = {"id": identity, "verdict": chosen, "note": note, "actor": "user"}
    document = invocation.run("feedback", lambda system: system.feedback(given))
    invocation.show(
        document,
        lambda shown: typer.echo(f"{shown['id']}: confidence {shown['confidence']:.2f}, {shown['status']}"),
    )


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("why-injected")(why_injected)
    app.command()(feedback)


def _render(document: dict[str, Any]) -> None:
    for row in document["results"]:
        mark = "injected" if row["injected"] else f"not injected: {row['reason']}"
        detail = f" ({row['detail']})" if row["detail"] else ""
        score = "" if row["score"] is None else f" · score {row['score']:.2f}"
        about = f"{row['item_id']} {row['title'][:70]}" if row["item_id"] else "(nothing in particular)"
        typer.echo(f"{row['at']} {row['occasion']:<13} {mark}{detail}{score} · {about}")
    if not document["results"]:
        typer.echo("nothing was decided for this session: no hook asked, or another session id", err=True)
