"""`knowledge serve`: the HTTP door."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer
from typer import Context, Option

from knowledge_system.application.addresses import SERVICE
from knowledge_system.interfaces.cli.invocation import current, print_json

if TYPE_CHECKING:
    from knowledge_system.application.system import KnowledgeSystem


def serve(
    context: Context,
    host: Annotated[str | None, Option(help="Address to listen on (server.host); not loopback: needs a token.")] = None,
    port: Annotated[int | None, Option(help="Port (server.port); 0 takes a free one.", min=0, max=65535)] = None,
) -> None:
    """Serve HTTP, the OpenAI protocol and MCP; capture and learn.

    Every request needs a token where KNOWLEDGE_API_TOKEN or server.tokens is set.
    """
    from knowledge_system.application.residence import give_way

    invocation = current(context)

    async def run(system: KnowledgeSystem) -> None:
        from knowledge_system.application.doorkeepers import api_token, known_tokens
        from knowledge_system.interfaces.http.server import Address, listen, serve_on

        token, tree = api_token(), system.parts.settings.tree
        chosen, secured = tree.server, next((one.name for one in known_tokens(tree, token)), None)
        address = Address(chosen.host if host is None else host, chosen.port if port is None else port)
        with listen(address, secured) as listening:
            await serve_on(listening, system, token, lambda: _tell(listening[1], as_json=invocation.as_json))

    give_way()
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
