"""`/health`, `/health/live`, `/health/ready`: for load balancers, supervisors and people.

They answer without a token, and then say no more than the status; details are for those who may come in.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, Request, Response

from knowledge_system.application.health import report_document

if TYPE_CHECKING:
    from knowledge_system.application.system import KnowledgeSystem

_HEALTH_JSON = "application/health+json"
_EXAMPLE = {"timestamp": "2026-01-01T00:00:00Z", "status": "healthy"}


def health_routes(system: KnowledgeSystem, *, anonymous: bool) -> APIRouter:
    """Return the routes. `anonymous`: there is no token, so whoever the guard let in may have details."""
    router = APIRouter(tags=["health"])
    doors = _Doors(system, anonymous=anonymous)
    for path, door, summary in (
        ("/health", doors.health, "How everything is"),
        ("/health/live", doors.live, "Whether the process answers at all; touches nothing"),
        ("/health/ready", doors.ready, "Whether the next request can be answered"),
    ):
        router.add_api_route(
            path, door, methods=["GET"], response_model=None, summary=summary, responses=_responses(path)
        )
    return router


class _Doors:
    def __init__(self, system: KnowledgeSystem, *, anonymous: bool) -> None:
        self._health = system.parts.health()
        self._anonymous = anonymous

    async def live(self, request: Request) -> Response:
        """Answer 200 as long as requests are answered; nothing is asked or opened."""
        return _answer(request, {"timestamp": self._health.now(), "status": "healthy"})

    async def ready(self, request: Request) -> Response:
        """Answer 200 when the truth can be read and the index is open, 503 when not; within two seconds."""
        report = await self._health.ready()
        return _answer(request, report_document(self._health, report, detailed=self._knows(request)))

    async def health(self, request: Request) -> Response:
        """Answer 200 when healthy or degraded, 503 when unhealthy; within two seconds, whatever hangs."""
        report = await self._health.report()
        return _answer(request, report_document(self._health, report, detailed=self._knows(request)))

    def _knows(self, request: Request) -> bool:
        """Tell whether the guard has found a token with this request, where tokens are asked for."""
        return self._anonymous or "actor" in request.scope.get("state", {})


def _answer(request: Request, document: dict[str, Any]) -> Response:
    kind = _HEALTH_JSON if _HEALTH_JSON in request.headers.get("accept", "") else "application/json"
    status = 503 if document["status"] == "unhealthy" else 200
    return Response(json.dumps(document), status, {"cache-control": "no-store"}, kind)


def _responses(path: str) -> dict[int | str, dict[str, Any]]:
    """Return how the answers look, for the OpenAPI document."""
    schema = {
        "type": "object",
        "required": ["timestamp", "status"],
        "properties": {
            "timestamp": {"type": "string", "format": "date-time"},
            "status": {"type": "string", "enum": ["healthy", "degraded", "unhealthy"]},
            "checks": {"type": "object", "additionalProperties": {"type": "object"}},
        },
    }
    kinds = ("application/json", _HEALTH_JSON)
    content = {kind: {"schema": schema, "example": _EXAMPLE} for kind in kinds}
    well: dict[int | str, dict[str, Any]] = {200: {"description": "It answers.", "content": content}}
    if path != "/health/live":
        well[503] = {"description": "It cannot work right now.", "content": content}
    return well
