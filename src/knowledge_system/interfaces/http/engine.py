"""`/v1` of the engine in words of its own: inference, embeddings, costs, budget."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from fastapi import APIRouter, Query, Request
from starlette.responses import JSONResponse, Response

from knowledge_system.application import asking, costs
from knowledge_system.application import engine as verbs
from knowledge_system.domain.errors import UsageError
from knowledge_system.domain.inference import Call, EmbedCall, Message
from knowledge_system.domain.sensitivity import Sensitivity
from knowledge_system.interfaces.cli.values import moment
from knowledge_system.interfaces.http import shapes
from knowledge_system.interfaces.http.connected import while_connected
from knowledge_system.interfaces.http.reading import StrictRoute

if TYPE_CHECKING:
    from knowledge_system.application.compose import Parts
    from knowledge_system.application.gateway import Gateway


def engine_routes(parts: Parts, gateway: Gateway) -> APIRouter:
    """Return the routes over an open gateway."""
    doors = Doors(parts, gateway)
    router = APIRouter(prefix="/v1", tags=["engine"], route_class=StrictRoute)
    add = router.add_api_route
    add("/infer", doors.infer, methods=["POST"], response_model=shapes.InferAnswer)
    add("/embed", doors.embed, methods=["POST"], response_model=shapes.EmbedAnswer)
    add("/costs/report", doors.costs, methods=["GET"], response_model=shapes.CostReport)
    add("/budget", doors.budget, methods=["GET"], response_model=shapes.Budget)
    return router


class Doors:
    """One method a path."""

    def __init__(self, parts: Parts, gateway: Gateway) -> None:
        self._parts = parts
        self._gateway = gateway

    async def infer(self, body: shapes.InferBody, request: Request) -> Response:
        """Ask a model; budget, privacy and breakers decide which, the answer says why."""
        call = Call(
            body.operation,
            _messages(body),
            project=body.project,
            sensitivity=Sensitivity(body.sensitivity),
            idempotency_key=body.idempotency_key,
            max_output=body.max_output,
            temperature=body.temperature,
            schema=body.answer_schema,
            model=body.model,
        )
        reply = await while_connected(request.receive, self._gateway.infer(call))
        return JSONResponse(asking.reply_document(reply))

    async def embed(self, body: shapes.EmbedBody, request: Request) -> Response:
        """Embed texts: on this machine, or by the provider of the larger space."""
        texts = (body.texts,) if isinstance(body.texts, str) else tuple(body.texts)
        call = EmbedCall("embed", texts, project=body.project, sensitivity=Sensitivity(body.sensitivity))
        work = asking.embed(self._parts, self._gateway, call, body.dimension)
        return JSONResponse(await while_connected(request.receive, work))

    async def costs(
        self,
        period: Annotated[Literal["hour", "day", "week", "month"], Query()] = "day",
        at: Annotated[str | None, Query(max_length=64, description="A moment in the period; default: now.")] = None,
    ) -> Response:
        """Sum up what model calls cost in a calendar period, UTC."""
        chosen = moment(at, "at", self._parts.clock)
        return JSONResponse(await costs.report(self._parts, period, chosen))

    async def budget(self) -> Response:
        """Show limit, spend, reservations and tier of this month."""
        return JSONResponse(await verbs.budget_status(self._parts))


def _messages(body: shapes.InferBody) -> tuple[Message, ...]:
    if (body.prompt is None) == (body.messages is None):
        raise UsageError("one of prompt and messages is needed", hint='{"prompt": "…"}')
    said: list[Any] = body.messages or []
    return tuple(Message(one.role, one.content) for one in said) or (Message("user", body.prompt or ""),)
