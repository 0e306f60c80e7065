"""What changes how the system works: settings, breakers, budget; needs the scope `admin`, and every call is audited."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from fastapi import APIRouter, Path, Query, Request
from starlette.responses import JSONResponse, Response

from knowledge_system.application import engine as verbs
from knowledge_system.interfaces.http import shapes
from knowledge_system.interfaces.http.knowledge import Cursor, Limit, actor
from knowledge_system.interfaces.http.reading import StrictRoute

if TYPE_CHECKING:
    from knowledge_system.application.compose import Parts

Provider = Annotated[str, Path(min_length=1, max_length=60)]
BREAKERS = "/internal/circuit-breaker"
BUDGET = "/internal/budget"


def admin_routes(parts: Parts) -> APIRouter:
    """Return the routes over open parts."""
    doors = Doors(parts)
    router = APIRouter(tags=["admin"], route_class=StrictRoute)
    add = router.add_api_route
    add("/config", doors.config, methods=["GET"], response_model=shapes.ConfigShown)
    add("/config", doors.change, methods=["POST"], response_model=shapes.ConfigChanged)
    add("/config/history", doors.history, methods=["GET"], response_model=shapes.Rows)
    add("/config/undo/{change}", doors.undo, methods=["POST"], response_model=shapes.ConfigChanged)
    add(f"{BREAKERS}/status", doors.breakers, methods=["GET"], response_model=shapes.Providers)
    add(f"{BREAKERS}/reset/{{provider}}", doors.reset_breaker, methods=["POST"], response_model=shapes.Providers)
    add(f"{BUDGET}/reset", doors.recompute, methods=["POST"], response_model=shapes.Budget)
    add(f"{BUDGET}/freeze", doors.freeze, methods=["POST"], response_model=shapes.Budget)
    add(f"{BUDGET}/unfreeze", doors.unfreeze, methods=["POST"], response_model=shapes.Budget)
    add("/internal/audit", doors.audit, methods=["GET"], response_model=shapes.Rows)
    return router


class Doors:
    """One method a path."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    async def config(self) -> Response:
        """Show the effective configuration, without secrets, and what of it was changed at run time."""
        return JSONResponse(await self._parts.runtime().show())

    async def change(self, body: shapes.ConfigBody, request: Request) -> Response:
        """Merge a part of the configuration tree; validated as a whole, kept over restarts, undone by its id."""
        return JSONResponse(await self._parts.runtime().change(body.model_extra or {}, actor(request)))

    async def history(self, limit: Limit = 50, after: Cursor = None) -> Response:
        """List changes of settings, newest first."""
        return JSONResponse(await self._parts.runtime().history(limit, after))

    async def undo(self, change: Annotated[str, Path(min_length=1, max_length=60)], request: Request) -> Response:
        """Take a change back."""
        return JSONResponse(await self._parts.runtime().undo(change, actor(request)))

    async def breakers(self) -> Response:
        """Show every provider with its circuit breaker."""
        return JSONResponse(await verbs.provider_status(self._parts))

    async def reset_breaker(self, provider: Provider, request: Request) -> Response:
        """Close a circuit breaker by hand, and forget what else stands against the provider in this process."""
        await (await self._parts.engine()).reset(verbs.known_provider(provider), actor(request))
        return JSONResponse(await verbs.provider_status(self._parts))

    async def recompute(self, request: Request) -> Response:
        """Sum the spend of this month again from the ledger, and judge its tier afresh; nothing spent is forgotten."""
        return await self._budget("recompute", request)

    async def freeze(self, request: Request) -> Response:
        """Refuse every paid call from now on; local models go on."""
        return await self._budget("freeze", request)

    async def unfreeze(self, request: Request) -> Response:
        """Allow paid calls again, within the limit."""
        return await self._budget("unfreeze", request)

    async def audit(self, limit: Annotated[int, Query(ge=1, le=1000)] = 50, after: Cursor = None) -> Response:
        """List what left the machine and what was changed by hand, newest first; never content."""
        return JSONResponse(await verbs.audit_page(self._parts, limit, after))

    async def _budget(self, action: str, request: Request) -> Response:
        return JSONResponse(await verbs.budget_change(self._parts, action, actor=actor(request)))
