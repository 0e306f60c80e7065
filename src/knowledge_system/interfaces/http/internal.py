"""The private door: commands of the same user beside the running service; see `application/calls.py`."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI, Request, Response  # noqa: TC002 -- routes are read from annotations at run time
from starlette.responses import StreamingResponse

from knowledge_system import __version__
from knowledge_system.application.addresses import CALL_PATH, VERSION_HEADER
from knowledge_system.application.calls import error_document, perform
from knowledge_system.domain.errors import KnowledgeError, UsageError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from knowledge_system.application.system import KnowledgeSystem

_LOG = logging.getLogger(__name__)
_WAITING = 1000
"""Progress reports that may wait for a slow reader; older ones are dropped."""


def add_internal(app: FastAPI, system: KnowledgeSystem) -> None:
    """Add the private door to `app`; the guard lets only those pass who can read the data directory's secret."""
    door = _Door(system)
    app.add_api_route(CALL_PATH + "{verb}", door.call, methods=["POST"], response_model=None, include_in_schema=False)


class _Door:
    def __init__(self, system: KnowledgeSystem) -> None:
        self._system = system
        self._under_way: set[asyncio.Future[dict[str, Any]]] = set()

    async def call(self, verb: str, request: Request) -> Response:
        """Perform a verb; a client that goes away does not undo what it asked for."""
        _check_version(request.headers.get(VERSION_HEADER))
        arguments = json.loads(await request.body())
        return StreamingResponse(self._lines(verb, arguments), media_type="application/x-ndjson")

    async def _lines(self, verb: str, arguments: dict[str, Any]) -> AsyncIterator[bytes]:
        reports: asyncio.Queue[tuple[str, int, int] | None] = asyncio.Queue()

        def progress(stage: str, done: int, total: int) -> None:
            if reports.qsize() < _WAITING:
                reports.put_nowait((stage, done, total))

        work = asyncio.ensure_future(perform(self._system, verb, arguments, progress))
        self._under_way.add(work)
        work.add_done_callback(self._under_way.discard)
        work.add_done_callback(lambda _: reports.put_nowait(None))
        while (report := await reports.get()) is not None:
            yield _line({"progress": report})
        with contextlib.suppress(asyncio.CancelledError):
            yield _line(await _finished(work))


def _check_version(version: str | None) -> None:
    if version != __version__:
        raise UsageError(f"the service is version {__version__}, the command {version}", hint="restart the service")


async def _finished(work: asyncio.Future[dict[str, Any]]) -> dict[str, Any]:
    try:
        return {"result": await work}
    except KnowledgeError as error:
        return {"error": error_document(error)}
    except Exception as error:  # noqa: BLE001 -- the edge: the command must hear that its verb failed
        _LOG.error("a verb failed unexpectedly", exc_info=error)
        unexpected = KnowledgeError(
            f"unexpected failure in the service: {type(error).__name__}: {error}", hint="the service's log says more"
        )
        return {"error": error_document(unexpected)}


def _line(document: dict[str, Any]) -> bytes:
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
