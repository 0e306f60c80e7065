"""`/v1` of knowledge: search, items, exchanges, sessions."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Path, Query, Request
from pydantic_core import to_json
from starlette.responses import JSONResponse, Response

from knowledge_system.application import arrivals, trajectories
from knowledge_system.domain.errors import NotFound
from knowledge_system.domain.feedback import FeedbackVerdict
from knowledge_system.domain.search import Accuracy, Scope, SearchRequest
from knowledge_system.domain.truth import Page
from knowledge_system.interfaces.cli.values import moment
from knowledge_system.interfaces.http import shapes
from knowledge_system.interfaces.http.reading import StrictRoute

if TYPE_CHECKING:
    from knowledge_system.application.system import KnowledgeSystem

AT_ONCE = 32
"""Searches under way at once, the others wait in order: each holds what it has found so far. With 32 clients on two
cores 32 at once got 131 answers a second in the mean of eight runs, 4 at once 117."""
Identity = Annotated[str, Path(min_length=1, max_length=500)]
Limit = Annotated[int, Query(ge=1, le=shapes.MAX_LIMIT)]
Cursor = Annotated[str | None, Query(max_length=500, description="`next` of the page before.")]
Name = Annotated[str | None, Query(max_length=500)]


def knowledge_routes(system: KnowledgeSystem) -> APIRouter:
    """Return the routes over an open system."""
    doors = Doors(system)
    router = APIRouter(prefix="/v1", tags=["knowledge"], route_class=StrictRoute)
    add = router.add_api_route
    add("/search", doors.search, methods=["POST"], response_model=shapes.SearchAnswer)
    add("/items", doors.items, methods=["GET"], response_model=shapes.Page)
    add("/items/{id}", doors.item, methods=["GET"], response_model=shapes.Record)
    add("/items/{id}", doors.forget, methods=["DELETE"], response_model=shapes.Forgotten)
    add("/items/{id}/feedback", doors.feedback, methods=["POST"], response_model=shapes.FeedbackAnswer)
    add("/exchanges", doors.exchanges, methods=["POST"], response_model=shapes.Stored)
    add("/sessions", doors.sessions, methods=["GET"], response_model=shapes.Page)
    add("/trajectory/{session}", doors.trajectory, methods=["GET"], response_model=shapes.Trajectory)
    return router


class Doors:
    """One method a path."""

    def __init__(self, system: KnowledgeSystem) -> None:
        self._system = system
        self._arrivals = arrivals.Arrivals(system)
        self._turns = asyncio.Semaphore(AT_ONCE)

    async def search(self, body: shapes.SearchBody) -> Response:
        """Find what was learned: ranked, explained results."""
        request = self._asked(body)
        async with self._turns:
            document = await self._system.search(request)
        return Response(to_json(document, inf_nan_mode="null"), media_type="application/json")

    async def items(  # noqa: PLR0917 -- query parameters are named by whoever calls
        self,
        limit: Limit = 50,
        after: Cursor = None,
        project: Name = None,
        type: Annotated[shapes.KINDS | None, Query()] = None,  # noqa: A002 -- query parameter
        session: Name = None,
        include_deprecated: Annotated[bool, Query()] = False,  # noqa: FBT002 -- query parameter
    ) -> Response:
        """List items, newest first."""
        page = Page(limit, after, project, type, session, include_deprecated)
        return JSONResponse(await self._system.list("items", page))

    async def item(self, id: Identity) -> Response:  # noqa: A002 -- path parameter
        """Return an item with its evidence, or an exchange."""
        return JSONResponse(await self._system.show(id))

    async def forget(self, id: Identity) -> Response:  # noqa: A002 -- path parameter
        """Erase an item or exchange for good; learning does not bring it back."""
        return JSONResponse(await self._system.forget([id]))

    async def feedback(self, id: Identity, body: shapes.FeedbackBody, request: Request) -> Response:  # noqa: A002 -- path parameter
        """Say whether an item helped, misled, or is wrong."""
        raw = {**body.model_dump(), "id": id, "verdict": FeedbackVerdict(body.verdict).value, "actor": actor(request)}
        return JSONResponse(await self._system.feedback(raw))

    async def exchanges(self, body: shapes.TranscriptBody) -> Response:
        """Store exchanges, redacted, once; they can be searched at once, and are learned from soon after."""
        return JSONResponse(await self._arrivals.deliver(body.model_dump(exclude_none=True, exclude_unset=True)))

    async def sessions(self, limit: Limit = 50, after: Cursor = None, project: Name = None) -> Response:
        """List sessions, newest first."""
        return JSONResponse(await self._system.list("sessions", Page(limit, after, project)))

    async def trajectory(self, session: Identity) -> Response:
        """Show what a session wanted and how it went, one point an exchange."""
        if "\0" in session:
            raise NotFound("no session is called so", hint="see /v1/sessions")
        return JSONResponse(await trajectories.trajectory(self._system.parts, session))

    def _asked(self, body: shapes.SearchBody) -> SearchRequest:
        clock = self._system.parts.clock
        return SearchRequest(
            body.query,
            scope=Scope(body.scope),
            types=_several(body.type),
            projects=_several(body.project),
            intents=_several(body.intent),
            since=moment(body.since, "since", clock),
            as_of=moment(body.as_of, "as_of", clock),
            accuracy=Accuracy(body.accuracy),
            threshold=body.threshold,
            limit=body.limit,
            include_deprecated=body.include_deprecated,
        )


def actor(request: Request) -> str:
    """Return who asks: the name of the token, `http` without one."""
    found: Any = request.scope.get("state", {}).get("actor", "")
    return f"http:{found}" if found else "http"


def _several(value: Any) -> tuple[str, ...]:
    return () if value is None else (value,) if isinstance(value, str) else tuple(value)
