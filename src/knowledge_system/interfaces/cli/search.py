"""`knowledge search`."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer import Argument, Context, Option

from knowledge_system.domain.clock import SystemClock
from knowledge_system.domain.errors import KnowledgeError, NotFound, UsageError
from knowledge_system.domain.knowledge import KnowledgeType
from knowledge_system.domain.search import DEFAULT_LIMIT, Accuracy, Scope, SearchRequest
from knowledge_system.interfaces.cli.invocation import current, one_of, print_json
from knowledge_system.interfaces.cli.values import counted, listed, moment

if TYPE_CHECKING:
    from collections.abc import Iterator

    from knowledge_system.application.system import KnowledgeSystem

MAX_LIMIT = 1000


@dataclass(frozen=True, slots=True)
class Options:
    """The options of a search as typed, on the command line or in a line of a batch."""

    scope: str = "all"
    type: tuple[str, ...] = ()
    project: tuple[str, ...] = ()
    intent: tuple[str, ...] = ()
    since: str | None = None
    as_of: str | None = None
    accuracy: str = "normal"
    threshold: float | None = None
    limit: int = DEFAULT_LIMIT
    include_deprecated: bool = False
    explain: bool = False

    def request(self, query: str) -> SearchRequest:
        """Return the validated request. Raises UsageError naming the option that is wrong."""
        clock = SystemClock()
        if not 1 <= self.limit <= MAX_LIMIT:
            raise UsageError(f"--limit {self.limit} is out of range", hint=f"1 to {MAX_LIMIT}")
        if self.threshold is not None and not 0 <= self.threshold <= 1:
            raise UsageError(f"--threshold {self.threshold} is out of range", hint="0 (hide nothing) to 1")
        return SearchRequest(
            query=query,
            scope=Scope(one_of(self.scope, list(Scope), "--scope")),
            types=tuple(one_of(one, list(KnowledgeType), "--type") for one in self.type),
            projects=self.project,
            intents=self.intent,
            since=moment(self.since, "--since", clock),
            as_of=moment(self.as_of, "--as-of", clock),
            accuracy=Accuracy(one_of(self.accuracy, list(Accuracy), "--accuracy")),
            threshold=self.threshold,
            limit=self.limit,
            include_deprecated=self.include_deprecated,
        )


def search(
    context: Context,
    query: Annotated[str | None, Argument(help="The question, in plain words.")] = None,
    scope: Annotated[str, Option(help="items, exchanges or all.")] = "all",
    type_: Annotated[list[str] | None, Option("--type", help="Only items of this type (repeatable).")] = None,
    project: Annotated[list[str] | None, Option(help="Only this project (repeatable).")] = None,
    intent: Annotated[list[str] | None, Option(help="Only this intent (repeatable).")] = None,
    since: Annotated[str | None, Option(help="Only what is at least this new (2026-01-31, 30d).")] = None,
    as_of: Annotated[
        str | None, Option(help="Answer as at this time: nothing later, nothing superseded later.")
    ] = None,
    accuracy: Annotated[str, Option(help="normal or high.")] = "normal",
    threshold: Annotated[float | None, Option(help="Hide hits that score less; 0 hides nothing.")] = None,
    limit: Annotated[int, Option(help="At most this many hits.")] = DEFAULT_LIMIT,
    include_deprecated: Annotated[bool, Option("--include-deprecated", help="Also superseded and deprecated.")] = False,
    explain: Annotated[bool, Option("--explain", help="Print why each hit stands where it stands.")] = False,
    batch: Annotated[Path | None, Option(help="JSON objects, one a line (`-`: standard input), each a query.")] = None,
) -> None:
    """Ask a question of everything that was learned."""
    options = Options(
        scope, listed(type_), listed(project), listed(intent), since, as_of, accuracy, threshold, limit,
        include_deprecated, explain,
    )  # fmt: skip
    invocation = current(context)
    if batch is not None:
        if query is not None:
            raise UsageError("a query and --batch exclude each other", hint="put the query into a line of the batch")
        raise typer.Exit(invocation.run("search", lambda system: _batch(system, batch, options)))
    if query is None:
        raise UsageError("a search needs a question", hint='knowledge search "how did we fix the flaky test?"')
    request = options.request(query)
    document = invocation.run("search", lambda system: system.search(request))
    invocation.show(document, lambda shown: render(shown, explain=explain))


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(search)


async def _batch(system: KnowledgeSystem, file: Path, defaults: Options) -> int:
    """Answer each line in order; a bad line gets an error document and the exit code of the worst."""
    code = 0
    for number, line in enumerate(_lines(file), start=1):
        try:
            query, options = _parsed(line, number, defaults)
            print_json(await system.search(options.request(query)))
        except KnowledgeError as error:
            print_json({"error": {"code": error.code, "message": error.message, "hint": error.hint}, "line": number})
            code = max(code, error.exit_code)
    return code


def _lines(file: Path) -> Iterator[str]:
    if str(file) == "-":
        yield from (line for line in sys.stdin if line.strip())
        return
    try:
        with file.open(encoding="utf-8", errors="replace") as lines:
            yield from (line for line in lines if line.strip())
    except FileNotFoundError:
        raise NotFound(f"no batch file at {file}", hint="name a file of JSON lines, or - for standard input") from None


def _parsed(line: str, number: int, defaults: Options) -> tuple[str, Options]:
    try:
        raw = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"line {number} is not JSON: {error}", hint='{"query": "…"}') from error
    if not isinstance(raw, dict) or not isinstance(raw.get("query"), str):
        raise UsageError(f"line {number} has no query", hint='{"query": "…", "limit": 5}')
    given = {key.replace("-", "_"): value for key, value in raw.items() if key != "query"}
    merged: dict[str, Any] = {name: given.pop(name, getattr(defaults, name)) for name in Options.__slots__}
    given.pop("id", None)
    if given:
        raise UsageError(f"line {number} has unknown options: {', '.join(given)}", hint="see `knowledge search --help`")
    return raw["query"], _typed(merged, number)


def _typed(raw: dict[str, Any], number: int) -> Options:
    """Return options from JSON values. Raises UsageError for a value of the wrong kind."""
    for name in ("type", "project", "intent"):
        value = raw[name] if raw[name] is not None else ()
        raw[name] = (value,) if isinstance(value, str) else tuple(value) if isinstance(value, list | tuple) else value
    wanted: dict[str, tuple[type, ...]] = {
        "limit": (int,), "threshold": (int, float, type(None)), "scope": (str,), "accuracy": (str,),
        "since": (str, type(None)), "as_of": (str, type(None)), "include_deprecated": (bool,), "explain": (bool,),
        "type": (tuple,), "project": (tuple,), "intent": (tuple,),
    }  # fmt: skip
    for name, kinds in wanted.items():
        if not isinstance(raw[name], kinds) or (isinstance(raw[name], bool) and bool not in kinds):
            raise UsageError(
                f"line {number}: {name} has a value of the wrong kind", hint="see `knowledge search --help`"
            )
    return Options(**raw)


def day(hit: dict[str, Any]) -> str:
    """Return the day of a hit; an exchange whose transcript has no times carries the beginning of time."""
    return "no date" if hit["freshness"] == "unknown" else str(hit["created_at"][:10])


def render(document: dict[str, Any], *, explain: bool) -> None:
    """Print hits for a person."""
    for number, hit in enumerate(document["results"], start=1):
        kind = hit["type"] or "exchange"
        confidence = "" if hit["confidence"] is None else f", confidence {hit['confidence']:.2f}"
        typer.secho(f"{number}. {hit['title']}", bold=True)
        typer.secho(
            f"   {kind} · {hit['project']} · {day(hit)} ({hit['freshness']}) · score {hit['score']:.2f}"
            f"{confidence} · {hit['id']}",
            dim=True,
        )
        if hit["superseded_by"]:
            typer.secho(f"   superseded by {hit['superseded_by']}", fg="yellow")
        for line in hit["content"].strip().splitlines()[: 40 if explain else 8]:
            typer.echo(f"   {line}")
        why = hit["why"] if explain else hit["why"][:2]
        typer.secho(f"   why: {'; '.join(why)}", dim=True)
        for source in hit["source"][: None if explain else 1]:
            typer.secho(f"   from {source['path']} #{source['exchange_index']}", dim=True)
        typer.echo()
    if not document["results"]:
        typer.echo(
            "Nothing known answers this. Ask with fewer options, or see with `--threshold 0` what comes nearest."
        )
    normal = next((one for hit in document["results"] for one in hit["why"] if one.startswith("normal accuracy")), "")
    if normal and not explain:
        typer.secho(normal, fg="yellow", err=True)
    notes = f" · degraded: {', '.join(document['degraded'])}" if document["degraded"] else ""
    typer.secho(
        f"{counted(len(document['results']), 'hit')} in {document['took_ms']:.1f} ms{notes}", dim=True, err=True
    )
