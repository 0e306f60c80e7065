"""`knowledge serve`: the HTTP door."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Annotated

import typer
from typer import Context, Option

from knowledge_system.application.addresses import SERVICE
from knowledge_system.interfaces.cli.invocation import current, print_json

if TYPE_CHECKING:
    from knowledge_system.application.system import KnowledgeSystem

TOKEN_VARIABLE = "KNOWLEDGE_API_TOKEN"  # noqa: S105 -- the name of a variable


def serve(
    context: Context,
    host: Annotated[str | None, Option(help="Address to listen on (server.host); not loopback: needs a token.")] = None,
    port: Annotated[int | None, Option(help="Port (server.port); 0 takes a free one.", min=0, max=65535)] = None,
) -> None:
    """Serve the engine in the OpenAI protocol: budget, breakers and privacy for any client.

    Every request needs the token in KNOWLEDGE_API_TOKEN where it is set.
    """
    invocation = current(context)
    token = os.environ.get(TOKEN_VARIABLE, "").strip() or None

    async def run(system: KnowledgeSystem) -> None:
        from knowledge_system.interfaces.http.server import Address, listen, serve_on

        chosen = system.parts.settings.tree.server
        address = Address(chosen.host if host is None else host, chosen.port if port is None else port)
        with listen(address, token) as listening:
            await serve_on(listening, system, token, lambda: _tell(listening[1], as_json=invocation.as_json))

    invocation.run(SERVICE, run, alone=True)


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(serve)


def _tell(url: str, *, as_json: bool) -> None:
    if as_json:
        print_json({"url": url})
    else:
        typer.echo(f"listening on {url} (OpenAI protocol: {url}/v1)")
    sys.stdout.flush()
