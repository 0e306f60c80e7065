"""Requests read strictly: JSON and nothing else, bounded depth, known names only; answers only in what is accepted."""

from __future__ import annotations

import difflib
import json
import math
from typing import TYPE_CHECKING, Any

from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.requests import Request

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable

    from starlette.responses import Response

MAX_DEPTH = 64
"""Levels of nesting in a body: a document that is read by people has ten."""
JSON = "application/json"
_ACCEPTED = frozenset({JSON, "application/*", "*/*", "application/problem+json"})
_LOADED_WITH_BODY = frozenset({"POST", "PUT", "PATCH", "DELETE"})


class Refused(HTTPException):
    """A request that is wrong before anything looks at what it asks for; `hint` says how it would be right."""

    def __init__(self, status_code: int, detail: str, hint: str = "") -> None:
        super().__init__(status_code, detail)
        self.hint = hint


class StrictRequest(Request):
    """A request whose body is read by `parse`."""

    async def json(self) -> Any:
        """Return the value of the body. Raises Refused."""
        return parse(await self.body())


class StrictRoute(APIRoute):
    """A route that refuses what it would otherwise ignore."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return the handler behind the checks."""
        handle = super().get_route_handler()
        known = [parameter.alias for parameter in self.dependant.query_params]
        bodiless = self.body_field is None

        async def strict(request: Request) -> Response:
            check_accept(request.headers.get("accept"))
            _check_query([name for name, _ in request.query_params.multi_items()], known)
            wrapped = StrictRequest(request.scope, request.receive)
            if request.method in _LOADED_WITH_BODY:
                await _check_body(wrapped, bodiless=bodiless)
            return await handle(wrapped)

        return strict


def parse(raw: bytes) -> Any:
    """Return a JSON value. Raises Refused with the place of a fault; NaN, infinity and lone surrogates are faults."""
    try:
        value = json.loads(raw.decode("utf-8"), parse_constant=_refuse, parse_float=_finite)
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}"
        raise Refused(400, f"the body is not JSON at {place}: {error.msg}", "send one JSON document") from error
    except UnicodeDecodeError as error:
        raise Refused(400, f"the body is not UTF-8 at byte {error.start}", "encode it as UTF-8") from error
    except (ValueError, RecursionError) as error:
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)[:100]
        raise Refused(400, f"the body is not JSON that can be read: {reason}", "send one JSON document") from error
    _check_depth(value)
    if b"\\ud" in raw.lower():
        _check_text(value)
    return value


def check_accept(accept: str | None) -> None:
    """Raise Refused for a client that would not take JSON."""
    if not accept:
        return
    names = {one.partition(";")[0].strip().lower() for one in accept.split(",")}
    if not names & _ACCEPTED and names != {""}:
        raise Refused(406, "only application/json is answered here", f"send Accept: {JSON}")


async def _check_body(request: Request, *, bodiless: bool) -> None:
    """Raise Refused for a body that is not declared as JSON, or that nobody would read."""
    body = await declared_json(request)
    if body and bodiless and parse(body) != {}:
        raise Refused(400, "this request has no body", "send none, or an empty object")


async def declared_json(request: Request) -> bytes:
    """Return the body. Raises Refused for one not declared as JSON: a page of any site may send such ones unasked."""
    body = await request.body()
    declared = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if body and declared != JSON:
        raise Refused(415, f"{declared[:80] or 'a body without a type'} is not read", f"send Content-Type: {JSON}")
    return body


def _check_query(given: list[str], known: list[str]) -> None:
    for name in given:
        if name not in known:
            names = f"one of: {', '.join(known)}" if known else "this request has no parameters"
            raise Refused(400, f"unknown parameter {name[:80]}{suggestion(name, known)}", names)
        if given.count(name) > 1:
            raise Refused(400, f"the parameter {name} is given twice", "send it once")


def suggestion(name: str, known: Iterable[str]) -> str:
    """Return the nearest of the `known` names as a question in brackets, empty when none is near."""
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f" (did you mean {near[0]}?)" if near else ""


def _refuse(name: str) -> None:
    raise ValueError(f"{name} is no JSON number")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text[:20]} is too large a number")
    return value


def _check_depth(value: Any) -> None:
    level, depth = [value], 0
    while level := [inner for one in level if isinstance(one, dict | list) for inner in _inside(one)]:
        depth += 1
        if depth > MAX_DEPTH:
            raise Refused(400, f"the body is nested more than {MAX_DEPTH} levels deep", "send a flatter document")


def _inside(one: dict[str, Any] | list[Any]) -> Iterable[Any]:
    return one.values() if isinstance(one, dict) else one


def _check_text(value: Any) -> None:
    try:
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError:
        raise Refused(400, "the body has half of a surrogate pair", "send whole characters") from None
