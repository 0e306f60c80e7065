"""Errors as HTTP tells them: RFC 9457 problem details, and the OpenAI shape on the paths that speak its protocol."""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import Any, Final

from starlette.responses import JSONResponse

from knowledge_system.domain.errors import (
    Busy,
    DependencyUnavailable,
    KnowledgeError,
    NotFound,
    RefusedByPolicy,
    UsageError,
)

OPENAI_PATHS = ("/v1/chat/completions", "/v1/embeddings", "/v1/models")

_STATUS: dict[type[KnowledgeError], int] = {
    UsageError: 400,
    RefusedByPolicy: 403,
    NotFound: 404,
    DependencyUnavailable: 503,
    Busy: 503,
}
_SERVER = 500
_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "invalid_request_error",
    405: "invalid_request_error",
    408: "invalid_request_error",
    413: "invalid_request_error",
    415: "invalid_request_error",
    422: "invalid_request_error",
    429: "rate_limit_error",
}
_CODES = {
    400: "usage",
    401: "unauthorized",
    403: "forbidden",
    404: "not-found",
    405: "method-not-allowed",
    406: "not-acceptable",
    408: "timeout",
    413: "too-large",
    415: "unsupported-media-type",
    422: "usage",
    429: "rate-limited",
    431: "too-large",
    503: "busy",
    504: "timeout",
}
_HINTS: Final = {
    400: "send one well-formed HTTP/1.1 request",
    401: "send Authorization: Bearer with a token of server.tokens, or that of KNOWLEDGE_API_TOKEN",
    403: "without a token only programs of this machine are served; a token needs the scope of the path",
    404: "/openapi.json lists the paths",
    405: "Allow names the methods of this path",
    408: "send the request faster, or let server.headerTimeout and server.bodyTimeout be longer",
    413: "send less at once",
    429: "wait as many seconds as Retry-After says",
    431: "send shorter headers",
    503: "wait as many seconds as Retry-After says",
    504: "ask for less, or let server.deadline be longer",
}
"""What to do where nobody who refused knew better."""


def status_of(error: KnowledgeError) -> int:
    """Return the HTTP status of an error: that of its nearest class, 500 for what was not foreseen."""
    return next((_STATUS[kind] for kind in type(error).__mro__ if kind in _STATUS), 500)


def openai_error(error: KnowledgeError) -> dict[str, Any]:
    """Return `{"error": {"message", "type", "code", "param"}}`; a name that nothing answers to is `model_not_found`."""
    code = "model_not_found" if isinstance(error, NotFound) else error.code
    message = f"{error.message} ({error.hint})" if error.hint else error.message
    return _openai(_told(error, message), status_of(error), code)


def answer(path: str, error: KnowledgeError) -> JSONResponse:
    """Return the response for an error. Clients need not ask again: the engine has done what retrying can do."""
    status = status_of(error)
    headers = {} if isinstance(error, Busy) else {"x-should-retry": "false"}
    if speaks_openai(path):
        return JSONResponse(openai_error(error), status, headers)
    told = problem(status, _told(error, error.message), error.code, _told(error, error.hint))
    return JSONResponse(told, status, headers, PROBLEM)


def plain(path: str, status: int, detail: str, headers: dict[str, str] | None = None, hint: str = "") -> JSONResponse:
    """Return the response for what HTTP itself refuses: a path, a method, a size, a token."""
    code = _CODES.get(status, "unexpected")
    if speaks_openai(path):
        return JSONResponse(_openai(detail, status, code), status, headers)
    return JSONResponse(problem(status, detail, code, hint), status, headers, PROBLEM)


def invalid(path: str, errors: list[dict[str, Any]]) -> JSONResponse:
    """Return the response for a request whose fields do not validate: `errors` name each with what is wrong."""
    detail = "; ".join(f"{one['field']}: {one['message']}" for one in errors[:10]) or "the request does not validate"
    if speaks_openai(path):
        return JSONResponse(_openai(detail, 422, "usage"), 422)
    document = problem(422, detail, "usage", "see /openapi.json")
    return JSONResponse({**document, "errors": errors}, 422, media_type=PROBLEM)


def speaks_openai(path: str) -> bool:
    """Tell whether `path` belongs to the OpenAI protocol."""
    return path.startswith(OPENAI_PATHS)


PROBLEM = "application/problem+json"
_PATH: Final = re.compile(r"(?<![\w:/.])/(?:[^\s/:]+/)+(?=[^\s/])")
"""The directories of a path: those of the server are not for everybody who hears that it failed."""


def _told(error: KnowledgeError, text: str) -> str:
    return _PATH.sub("…/", text) if status_of(error) >= _SERVER else text


def _openai(message: str, status: int, code: str) -> dict[str, Any]:
    return {"error": {"message": message, "type": _TYPES.get(status, "server_error"), "code": code, "param": None}}


def problem(status: int, detail: str, code: str = "", hint: str = "") -> dict[str, Any]:
    """Return problem details (RFC 9457): `code` as on the command line, `hint` what to do about it."""
    return {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        "code": code or _CODES.get(status, "unexpected"),
        "hint": hint or _HINTS.get(status, ""),
    }
