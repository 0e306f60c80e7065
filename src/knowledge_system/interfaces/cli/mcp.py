"""`knowledge mcp`: the tools of an agent over standard input and output."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from typer import Context  # noqa: TC002 -- typer reads annotations at run time

from knowledge_system.interfaces.cli.invocation import Invocation, current

if TYPE_CHECKING:
    import typer


def mcp(context: Context) -> None:
    """Serve the Model Context Protocol on standard streams.

    `connect` sets agents up to call this.
    """
    invocation = current(context)
    asyncio.run(_serve(invocation))


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(mcp)


async def _serve(invocation: Invocation) -> None:
    from knowledge_system.application.addresses import LEASE
    from knowledge_system.application.leasing import Lease
    from knowledge_system.application.logs import configure
    from knowledge_system.interfaces.mcp import Use, make_server

    lease = Lease(invocation.settings(), LEASE, configure(verbose=invocation.verbose))
    try:
        await make_server(Use(lease.use)).run_stdio_async()
    finally:
        await lease.close()
