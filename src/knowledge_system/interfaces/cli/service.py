"""`knowledge service install|uninstall|status`."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from typer import Context, Option

from knowledge_system.interfaces.cli.invocation import current

service_app = typer.Typer(help="Keep `serve` running: install, uninstall, status.", no_args_is_help=True)


@service_app.command("install")
def install(
    context: Context,
    start: Annotated[bool, Option("--start/--no-start", help="Also start it now and at every login.")] = True,
) -> None:
    """Write a user unit (systemd) or agent (launchd) that runs `knowledge serve`."""
    from knowledge_system.application import service_unit
    from knowledge_system.application.connecting import executable

    invocation = current(context)
    document = service_unit.install(invocation.settings(), executable(), start=start)
    invocation.show(document, _render)


@service_app.command("uninstall")
def uninstall(context: Context) -> None:
    """Stop the service and remove its unit."""
    from knowledge_system.application import service_unit
    from knowledge_system.application.connecting import executable

    invocation = current(context)
    document = service_unit.uninstall(invocation.settings(), executable())
    invocation.show(document, _render)


@service_app.command("status")
def status(context: Context) -> None:
    """Show whether the unit is installed as it would be now."""
    from knowledge_system.application import service_unit
    from knowledge_system.application.connecting import executable

    invocation = current(context)
    document = service_unit.state(invocation.settings(), executable())
    invocation.show(document, lambda shown: typer.echo(f"{shown['state']}: {shown['unit']}"))


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(service_app, name="service")


def _render(document: dict[str, Any]) -> None:
    if "removed" in document:
        typer.echo(f"removed {document['unit']}" if document["removed"] else "was not installed")
    else:
        typer.echo(f"{'wrote' if document['changed'] else 'unchanged:'} {document['unit']}")
        typer.echo("running" if document["started"] else f"not running ({document['problem']}); to start it:")
        if document["run"]:
            typer.echo(f"  {document['run']}")
