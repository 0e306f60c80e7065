"""The application: the OpenAI protocol on top of the engine, behind the guard."""

from __future__ import annotations

import contextlib
import errno
import json
import uuid
from contextlib import aclosing
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse

from knowledge_system import __version__
from knowledge_system.application.gateway import AUTO, OPERATION
from knowledge_system.domain.errors import DependencyUnavailable, KnowledgeError, NotFound
from knowledge_system.interfaces.http import gateway as protocol
from knowledge_system.interfaces.http import problems, shapes
from knowledge_system.interfaces.http.admin import admin_routes
from knowledge_system.interfaces.http.connected import ClientGone, while_connected
from knowledge_system.interfaces.http.described import allowed, describe, faults
from knowledge_system.interfaces.http.engine import engine_routes
from knowledge_system.interfaces.http.guard import Guard, GuardOptions
from knowledge_system.interfaces.http.health import health_routes
from knowledge_system.interfaces.http.internal import add_internal
from knowledge_system.interfaces.http.knowledge import knowledge_routes
from knowledge_system.interfaces.http.observing import Observing, metrics_routes, stamps
from knowledge_system.interfaces.http.reading import declared_json

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator

    from starlette.types import Receive, Scope, Send

    from knowledge_system.application.gateway import Gateway
    from knowledge_system.application.system import KnowledgeSystem
    from knowledge_system.domain.inference import Call, Delta

_CLIENT_GONE = 499
_EXHAUSTED = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EMFILE, errno.ENFILE})
"""What a disk or a process that is full answers: no failure of ours, and it passes."""


def make_app(gateway: Gateway, options: GuardOptions, system: KnowledgeSystem | None = None) -> FastAPI:
    """Return the ASGI application over an open gateway and system; whoever opened them closes them."""
    app = FastAPI(title="knowledge", version=__version__, docs_url=None, redoc_url=None, redirect_slashes=False)
    doors = Doors(gateway)
    shape: dict[str, Any] = {"response_model": shapes.Loose, "tags": ["openai"]}
    if system is not None:  # first: routes are compared in their order, and searches are what comes most
        app.router.routes.extend(knowledge_routes(system).routes)
    loose = {"requestBody": {"required": True, "content": {"application/json": {"schema": {"type": "object"}}}}}
    app.add_api_route("/v1/chat/completions", doors.chat, methods=["POST"], openapi_extra=loose, **shape)
    app.add_api_route("/v1/embeddings", doors.embeddings, methods=["POST"], openapi_extra=loose, **shape)
    app.add_api_route("/v1/models", doors.models, methods=["GET"], **shape)
    app.add_api_route("/v1/models/{name:path}", doors.model, methods=["GET"], **shape)
    if system is not None:
        add_internal(app, system)
        app.include_router(health_routes(system, anonymous=not options.tokens))
        for made in (engine_routes(system.parts, gateway), admin_routes(system.parts)):
            app.router.routes.extend(made.routes)
    telemetry = None if system is None else system.parts.telemetry
    if telemetry is not None:
        app.include_router(metrics_routes(telemetry))
    describe(app)
    app.add_exception_handler(KnowledgeError, _known)
    app.add_exception_handler(HTTPException, _refused)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(ClientGone, _gone)
    app.add_exception_handler(ClientDisconnect, _gone)
    app.add_exception_handler(OSError, _without_room)
    app.add_exception_handler(Exception, _unexpected)
    app.add_middleware(Guard, options=options)
    app.add_middleware(Observing, telemetry=telemetry)
    return app


class Doors:
    """One method a path."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    async def chat(self, request: Request) -> Response:
        """Answer a chat completion, as a whole or streamed."""
        body = protocol.parse(await declared_json(request))
        call = protocol.chat_call(body, protocol.envelope(request.headers), OPERATION)
        if protocol.streams(body):
            return await self._streamed(request, call, protocol.wants_usage(body))
        reply = await while_connected(request.receive, self._gateway.infer(call))
        return JSONResponse(protocol.completion(reply, self._stamp(call)), headers=protocol.fact_headers(reply))

    async def embeddings(self, request: Request) -> Response:
        """Embed texts."""
        body = protocol.parse(await declared_json(request))
        call = protocol.embed_call(body, protocol.envelope(request.headers), OPERATION)
        reply = await while_connected(request.receive, self._gateway.embed(call))
        document = protocol.embeddings(reply, body.get("encoding_format"))
        return JSONResponse(document, headers=protocol.fact_headers(reply))

    async def models(self) -> Response:
        """List the models that can be asked now."""
        return JSONResponse({"object": "list", "data": self._listed()})

    async def model(self, name: str) -> Response:
        """Return one model of the list."""
        for row in self._listed():
            if row["id"] == name:
                return JSONResponse(row)
        raise NotFound(f"the model {name[:200]!r} does not exist", hint="see /v1/models")

    def _listed(self) -> list[dict[str, Any]]:
        usable = [target for target in self._gateway.models.targets if not target.problem]
        return [protocol.listed(AUTO, "knowledge"), *(protocol.listed(one.name, one.provider) for one in usable)]

    async def _streamed(self, request: Request, call: Call, include_usage: bool) -> Response:  # noqa: FBT001 -- private
        """Wait for the first piece, so that a refusal still has its status; then stream."""
        deltas = self._gateway.stream(call)
        first = await while_connected(request.receive, _following(deltas))
        chunks = protocol.Chunks(self._stamp(call), include_usage)
        headers = protocol.fact_headers(first.reply) if first is not None and first.reply is not None else {}
        return EventStream(deltas, _events(first, deltas, chunks), headers)

    def _stamp(self, call: Call) -> protocol.Stamp:
        moment = int(self._gateway.clock.now().timestamp())
        return protocol.Stamp(f"chatcmpl-{uuid.uuid4().hex}", moment, call.model or AUTO)


class EventStream(Response):
    """Server-sent events; they and the `source` they are made from are closed as soon as the client has gone."""

    media_type = "text/event-stream"

    def __init__(
        self, source: AsyncGenerator[Delta, None], events: AsyncGenerator[str, None], headers: dict[str, str]
    ) -> None:
        super().__init__(headers={**headers, "cache-control": "no-cache", "x-accel-buffering": "no"})
        del self.headers["content-length"]
        self._source = source
        self._events = events

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send until the end, or until nobody reads."""
        del scope
        async with aclosing(self._source):
            with contextlib.suppress(ClientGone):
                await while_connected(receive, self._send(send))

    async def _send(self, send: Send) -> None:
        async with aclosing(self._events) as events:
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            async for event in events:
                await send({"type": "http.response.body", "body": event.encode(), "more_body": True})
        await send({"type": "http.response.body", "body": b""})


async def _following(deltas: AsyncIterator[Delta]) -> Delta | None:
    return await anext(deltas, None)


async def _events(
    first: Delta | None, deltas: AsyncIterator[Delta], chunks: protocol.Chunks
) -> AsyncGenerator[str, None]:
    """Yield the events of a stream; an error in the middle is its last event, without the mark of the end."""
    try:
        delta = first
        while delta is not None:
            for chunk in chunks.feed(delta):
                yield _event(chunk)
            delta = await _following(deltas)
    except KnowledgeError as error:
        yield _event(problems.openai_error(error))
        return
    yield "data: [DONE]\n\n"


def _event(document: dict[str, Any]) -> str:
    return f"data: {json.dumps(document, ensure_ascii=False, separators=(',', ':'))}\n\n"


async def _known(request: Request, error: Exception) -> Response:
    assert isinstance(error, KnowledgeError)  # noqa: S101 -- registered for it; tells the type checker
    return problems.answer(request.url.path, error)


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 -- as above
    headers, hint = dict(error.headers or {}), getattr(error, "hint", "")
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        headers = {"allow": ", ".join(allowed(request))}
    return problems.plain(request.url.path, error.status_code, error.detail, headers, hint)


async def _invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # noqa: S101 -- as above
    return problems.invalid(request.url.path, faults(error))


async def _gone(request: Request, error: Exception) -> Response:
    del request, error
    return Response(status_code=_CLIENT_GONE)


async def _without_room(request: Request, error: Exception) -> Response:
    assert isinstance(error, OSError)  # noqa: S101 -- as above
    if error.errno not in _EXHAUSTED:
        raise error
    full = DependencyUnavailable(f"the system refuses: {error.strerror}", hint="free disk space, then ask again")
    return problems.answer(request.url.path, full)


async def _unexpected(request: Request, error: Exception) -> Response:
    seen = stamps(request)
    error.add_note(", ".join(f"{name}: {value}" for name, value in seen.items()))  # for the log
    unexpected = KnowledgeError(f"unexpected failure: {type(error).__name__}", hint="the server's log says more")
    answer = problems.answer(request.url.path, unexpected)
    answer.headers.update(seen)
    return answer
