"""The OpenAPI description: what FastAPI knows of the routes, with problems, tokens and examples."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastapi.openapi.utils import get_openapi
from starlette.routing import Match

from knowledge_system import __version__
from knowledge_system.interfaces.http.examples import ANSWERS, REQUESTS
from knowledge_system.interfaces.http.problems import PROBLEM, speaks_openai
from knowledge_system.interfaces.http.reading import suggestion
from knowledge_system.interfaces.http.shapes import Problem

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from fastapi import FastAPI, Request
    from fastapi.exceptions import RequestValidationError
    from starlette.routing import BaseRoute

Json = dict[str, Any]
ABOUT = (
    "What was learned in coding sessions, and an engine that asks models within a budget. Without a token only this "
    "machine is served; a token has the scope read, write or admin. Errors are RFC 9457 problem details, on the paths "
    "of the OpenAI protocol errors of that protocol."
)
_TEXT: Json = {
    "400": "The request is wrong.",
    "401": "The token is missing or wrong.",
    "403": "The scope of the token, the origin, the budget or the level of the content forbids it.",
    "404": "There is no such thing.",
    "405": "The path knows other methods.",
    "406": "Only JSON is answered.",
    "408": "The body took too long.",
    "413": "The body is too large.",
    "415": "Only application/json is read.",
    "422": "A field does not validate; `errors` names it.",
    "429": "Too many wrong tokens.",
    "500": "An unexpected failure; the log says more.",
    "503": "Something it needs cannot be used right now.",
    "504": "No answer in time.",
}


def describe(app: FastAPI) -> None:
    """Let `/openapi.json` say all of it; made when it is first asked for."""

    def made() -> Json:
        if app.openapi_schema is None:
            app.openapi_schema = _document(app)
        return app.openapi_schema

    app.openapi = made  # type: ignore[method-assign]


def _document(app: FastAPI) -> Json:
    document = get_openapi(title="knowledge", version=__version__, description=ABOUT, routes=app.routes)
    components = document.setdefault("components", {})
    schemas = components.setdefault("schemas", {})
    for gone in ("HTTPValidationError", "ValidationError"):
        schemas.pop(gone, None)
    schemas["Problem"] = Problem.model_json_schema()
    schemas["OpenAIError"] = {
        "type": "object",
        "required": ["error"],
        "properties": {"error": {"type": "object", "required": ["message", "type", "code", "param"]}},
    }
    components["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
    document["security"] = [{"token": []}, {}]
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            _complete(path, method, operation)
    return document


def _complete(path: str, method: str, operation: Json) -> None:
    operation["responses"].pop("422", None)
    kind, schema = ("application/json", "OpenAIError") if speaks_openai(path) else (PROBLEM, "Problem")
    content = {kind: {"schema": {"$ref": f"#/components/schemas/{schema}"}}}
    for status, text in _TEXT.items():
        operation["responses"].setdefault(status, {"description": text, "content": content})
    if (asked := REQUESTS.get((path, method))) is not None:
        operation["requestBody"]["content"]["application/json"]["example"] = asked
    if (answered := ANSWERS.get((path, method))) is not None:
        operation["responses"]["200"]["content"]["application/json"]["example"] = answered


def allowed(request: Request) -> list[str]:
    """Return the methods that the path of a request knows."""
    found: set[str] = set()
    for route in _flat(request.app.router.routes):
        match, _ = route.matches(request.scope)
        if match is not Match.NONE:
            found |= getattr(route, "methods", None) or set()
    return sorted(found | ({"HEAD"} if "GET" in found else set()))


def _flat(routes: Iterable[BaseRoute]) -> Iterator[BaseRoute]:
    """Yield routes, those of included routers one by one."""
    for route in routes:
        inner = getattr(route, "original_router", None)
        if inner is None:
            yield route
        else:
            yield from _flat(inner.routes)


def faults(error: RequestValidationError) -> list[Json]:
    """Return what does not validate: field (dotted), message, and for an unknown one the nearest known."""
    found = []
    for one in error.errors():
        place = [str(step) for step in one["loc"]]
        name = ".".join(place[1:]) or place[0]
        message = str(one["msg"])
        if one["type"] == "extra_forbidden":
            message = f"unknown field{suggestion(place[-1], _fields())}"
        found.append({"in": place[0], "field": name, "message": message})
    return found


def _fields() -> list[str]:
    """Return every field of every body."""
    from knowledge_system.interfaces.http import shapes

    bodies = [one for one in vars(shapes).values() if isinstance(one, type) and issubclass(one, shapes.Body)]
    return sorted({field.alias or name for body in bodies for name, field in body.model_fields.items()})
