"""Verbs as messages: what a command says to the service that owns the data directory, and what it hears back.

A call is one JSON object of arguments; the answer is JSON lines: any number of `{"progress": [stage, done, total]}`,
then `{"result": …}` or `{"error": …}`. Both ends are the same version on the same machine; this is no public protocol.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from knowledge_system.domain.clock import from_stored, to_stored
from knowledge_system.domain.errors import KnowledgeError, UsageError
from knowledge_system.domain.search import Accuracy, Scope, SearchRequest

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from knowledge_system.application.system import KnowledgeSystem, Progress

Document = dict[str, Any]
_MOMENTS = ("since", "as_of")
_TUPLES = ("types", "projects", "intents")


def request_arguments(request: SearchRequest) -> Document:
    """Return a search request as JSON."""
    raw = asdict(request)
    return {**raw, **{name: to_stored(raw[name]) if raw[name] else None for name in _MOMENTS}}


def request_of(raw: Mapping[str, Any]) -> SearchRequest:
    """Return the search request that `request_arguments` wrote."""
    values = dict(raw)
    values.update({name: from_stored(values[name]) if values.get(name) else None for name in _MOMENTS})
    values.update({name: tuple(values[name]) for name in _TUPLES})
    values.update(scope=Scope(values["scope"]), accuracy=Accuracy(values["accuracy"]))
    return SearchRequest(**values)


async def _search(system: KnowledgeSystem, raw: Document, _: Progress) -> Document:
    return await system.search(request_of(raw["request"]))


async def _ingest(system: KnowledgeSystem, raw: Document, progress: Progress) -> Document:
    from knowledge_system.application.options import IngestOptions

    options = dict(raw["options"])
    options["since"] = from_stored(options["since"]) if options["since"] else None
    return await system.ingest([Path(one) for one in raw["paths"]], IngestOptions(**options), progress)


async def _forget(system: KnowledgeSystem, raw: Document, _: Progress) -> Document:
    return await system.forget(raw["ids"])


async def _supersede(system: KnowledgeSystem, raw: Document, _: Progress) -> Document:
    return await system.supersede(raw["old"], raw["new"])


async def _import(system: KnowledgeSystem, raw: Document, _: Progress) -> Document:
    return await system.import_(raw["lines"])


async def _backfill(system: KnowledgeSystem, raw: Document, progress: Progress) -> Document:
    return await system.index_backfill(raw["limit"], progress)


async def _inject(system: KnowledgeSystem, raw: Document, _: Progress) -> Document:
    from knowledge_system.application.injecting import inject

    return await inject(system, raw)


async def _feedback(system: KnowledgeSystem, raw: Document, _: Progress) -> Document:
    return await system.feedback(raw)


async def _remember(system: KnowledgeSystem, raw: Document, _: Progress) -> Document:
    return await system.remember(raw)


async def _processes(system: KnowledgeSystem, raw: Document, _: Progress) -> Document:
    del raw
    from knowledge_system.application.model_process import told

    return told(system.parts)


async def _diagnose(system: KnowledgeSystem, raw: Document, _: Progress) -> Document:
    from knowledge_system.application.diagnosing import diagnose

    return await diagnose(system.parts, raw["what"])


def _plain(verb: str) -> Callable[[KnowledgeSystem, Document, Progress], Awaitable[Document]]:
    async def call(system: KnowledgeSystem, raw: Document, _: Progress) -> Document:
        document: Document = await getattr(system, verb)(**raw)
        return document

    return call


VERBS: Mapping[str, Callable[[KnowledgeSystem, Document, Progress], Awaitable[Document]]] = {
    "search": _search,
    "ingest": _ingest,
    "forget": _forget,
    "supersede": _supersede,
    "import": _import,
    "inject": _inject,
    "feedback": _feedback,
    "remember": _remember,
    "index_backfill": _backfill,
    "processes": _processes,
    "diagnose": _diagnose,
    **{verb: _plain(verb) for verb in ("index_status", "index_rebuild", "index_optimize", "index_verify", "doctor")},
    "cache_warm": _plain("cache_warm"),
    "config_undo": _plain("config_undo"),
}
"""Everything that needs the data directory to itself; all else reads the database beside the service."""


async def perform(system: KnowledgeSystem, verb: str, raw: Document, progress: Progress) -> Document:
    """Run a verb of `VERBS`. Raises UsageError for any other, and whatever the verb raises."""
    if verb not in VERBS:
        raise UsageError(f"the service knows no {verb!r}", hint="restart the service: it is of another version")
    return await VERBS[verb](system, raw, progress)


def error_document(error: KnowledgeError) -> Document:
    """Return an error as it travels."""
    return {"code": error.code, "message": error.message, "hint": error.hint}


def error_of(raw: Document) -> KnowledgeError:
    """Return the error that `error_document` wrote, of the same class, so that exit codes stay the same."""
    kinds = {kind.code: kind for kind in _all_kinds(KnowledgeError)}
    return kinds.get(str(raw.get("code")), KnowledgeError)(str(raw.get("message")), hint=str(raw.get("hint")))


def _all_kinds(kind: type[KnowledgeError]) -> list[type[KnowledgeError]]:
    return [kind, *(below for one in kind.__subclasses__() for below in _all_kinds(one))]
