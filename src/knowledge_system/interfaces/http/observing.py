"""Every request as it is seen from outside: a trace, an id, counters. And `GET /metrics`.

The outermost middleware: what the guard refuses is counted too. Responses carry `x-request-id` (the caller's, where it
is one) and `traceparent` (W3C Trace Context); a trace that the caller began is continued.
"""

from __future__ import annotations

import re
import time
import uuid
from typing import TYPE_CHECKING, Any, Final

from fastapi import APIRouter, Request, Response
from starlette.datastructures import Headers, MutableHeaders
from starlette.routing import Match

from knowledge_system.application.addresses import CALL_PATH
from knowledge_system.application.calls import VERBS
from knowledge_system.domain.tracing import Tracer, current_trace, parse_traceparent

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from knowledge_system.application.telemetry import Telemetry

UNMATCHED: Final = "unmatched"
METRICS: Final = "/metrics"
REQUEST_ID: Final = "x-request-id"
STAMPS: Final = "stamps"
_SANE_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_QUIET = ("/metrics", "/health")
"""Paths that are asked every few seconds by machines: counted, not traced."""
_LONG = frozenset({"ingest", "import", "forget", "index_backfill", "index_rebuild", "index_optimize", "index_verify"})
"""Verbs of the private door that may take minutes; nobody calls them slow."""
_DOOR = CALL_PATH + "{verb}"
_UNKNOWN_METHOD: Final = "OTHER"
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_FAILED: Final = 500


class Observing:
    """ASGI middleware around everything else. Without telemetry it gives requests their ids, and that is all."""

    def __init__(self, app: ASGIApp, telemetry: Telemetry | None = None) -> None:
        self._app = app
        self._telemetry = telemetry
        self._routes: dict[tuple[str, str], str] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, and tell how that went."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        seen = _Seen(scope, self._route_of(scope))
        telemetry = self._telemetry
        if telemetry is None:
            await self._app(scope, receive, seen.following(send))
            return
        in_flight = telemetry.metrics.series.http_in_flight
        in_flight.inc()
        began = time.perf_counter()
        try:
            await self._traced(telemetry, seen, receive, send)
        finally:
            in_flight.dec()
            telemetry.metrics.answered(scope["method"], seen.route, seen.status, time.perf_counter() - began)

    def _route_of(self, scope: Scope) -> str:
        """Return the template of the route; that of a path without parameters is looked for once."""
        place = scope["method"], scope["path"]
        route = self._routes.get(place)
        if route is None:
            route = route_of(scope)
            if route == scope["path"] and scope["method"] in _METHODS:  # as many as there are routes
                self._routes[place] = route
        return route

    async def _traced(self, telemetry: Telemetry, seen: _Seen, receive: Receive, send: Send) -> None:
        tracer = Tracer() if seen.scope["path"].startswith(_QUIET) else telemetry.tracer
        facts = {"http.route": seen.route, "http.request.method": seen.method, "knowledge.request_id": seen.id}
        caller = parse_traceparent(seen.headers.get("traceparent", ""))
        with tracer.trace(seen.operation, caller, interactive=seen.interactive, attributes=facts) as step:
            if (trace := current_trace()) is not None:
                seen.stamps["traceparent"] = trace.traceparent
            await self._app(seen.scope, receive, seen.following(send))
            step.set(**{"http.response.status_code": seen.status})
            if seen.status >= _FAILED:
                step.fail(_ServerError())


class _ServerError(Exception):
    """Stands for an answer that says that the server failed."""


class _Seen:
    """What is known of one request so far. `status` is 500 until an answer begins: none ever may."""

    def __init__(self, scope: Scope, route: str) -> None:
        self.scope = scope
        self.headers = Headers(scope=scope)
        self.status = _FAILED
        given = self.headers.get(REQUEST_ID, "")
        self.id = given if _SANE_ID.fullmatch(given) else uuid.uuid4().hex
        self.route = route
        self.method = scope["method"] if scope["method"] in _METHODS else _UNKNOWN_METHOD
        verb = scope["path"].removeprefix(CALL_PATH) if self.route == _DOOR else ""
        known = verb if verb in VERBS else "{verb}"
        self.operation = f"{self.method} {self.route.replace('{verb}', known)}"
        streams = self.route == "/mcp" and self.method == "GET"
        self.interactive = verb not in _LONG and not streams
        self.stamps = {REQUEST_ID: self.id, "x-content-type-options": "nosniff"}
        scope["state"] = {**scope.get("state", {}), STAMPS: self.stamps}

    def following(self, send: Send) -> Send:
        """Return `send` that notes the status, and says who asked and in which trace."""

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                self.status = message["status"]
                headers = MutableHeaders(scope=message)
                headers.update(self.stamps)
                headers.setdefault("cache-control", "no-store")  # content and settings are nobody's to keep
            await send(message)

        return sending


def stamps(request: Request) -> dict[str, str]:
    """Return the headers with the ids of a request, for an answer that is made outside of this middleware."""
    return dict(getattr(request.state, STAMPS, {}))


def route_of(scope: Scope) -> str:
    """Return the template of the route that a request goes to, `unmatched` where there is none."""
    app: Any = scope.get("app")
    partial = UNMATCHED
    for route in _flat(app.router.routes) if app is not None else ():
        match, _ = route.matches(scope)
        if match is Match.FULL:
            return str(route.path)
        if match is Match.PARTIAL and partial is UNMATCHED:  # the path, with another method
            partial = str(route.path)
    return partial


def _flat(routes: Iterable[Any]) -> Iterator[Any]:
    """Yield routes with a path; those of an included router (which has none itself) in its place."""
    for route in routes:
        if hasattr(route, "path"):
            yield route
        elif (inner := getattr(route, "original_router", None)) is not None:
            yield from _flat(inner.routes)


def metrics_routes(telemetry: Telemetry) -> APIRouter:
    """Return `GET /metrics`: needs the scope `read`, as every look does."""
    router = APIRouter()

    async def metrics(request: Request) -> Response:
        """Return every series in the format of Prometheus, or in OpenMetrics where `Accept` asks for it."""
        content, content_type = await telemetry.exposition(request.headers.get("accept", ""))
        return Response(content, headers={"content-type": content_type})

    shown = {"description": "Text exposition.", "content": {"text/plain": {"schema": {"type": "string"}}}}
    described: dict[int | str, dict[str, Any]] = {200: shown}
    router.add_api_route(
        METRICS, metrics, methods=["GET"], response_class=Response, responses=described, tags=["operations"]
    )
    return router
