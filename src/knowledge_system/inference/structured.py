"""Answers that must be JSON of a given form: found in the text, validated, and asked for again once.

The validator knows the part of JSON Schema that pydantic writes and models are asked for. A schema with another
assertion is refused before anything is sent: an assertion nobody checks is worse than none.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from knowledge_system.domain.inference import FailureKind, Message, ProviderFailed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from knowledge_system.domain.inference import Call, Reply

_MOST_STARTS = 64
"""Places in a text where JSON may begin that are tried: a long chat answer costs nothing."""

_KEPT = 8_000
"""Characters of a malformed answer that go into its repair."""

_DEEPEST = 64
"""Levels of nesting that are followed; recursive schemas and answers end here."""

_NOTES = frozenset(
    {
        "title",
        "description",
        "default",
        "examples",
        "$schema",
        "$id",
        "$defs",
        "definitions",
        "$comment",
        "format",
        "deprecated",
        "readOnly",
        "writeOnly",
        "discriminator",
        "contentMediaType",
        "contentEncoding",
    }
)
_CHECKED = frozenset(
    {
        "$ref",
        "type",
        "properties",
        "required",
        "additionalProperties",
        "items",
        "prefixItems",
        "enum",
        "const",
        "anyOf",
        "oneOf",
        "allOf",
        "minimum",
        "maximum",
        "exclusiveMinimum",
        "exclusiveMaximum",
        "multipleOf",
        "minLength",
        "maxLength",
        "pattern",
        "minItems",
        "maxItems",
        "uniqueItems",
        "minProperties",
        "maxProperties",
    }
)
_NESTED = ("items", "additionalProperties")
_LISTED = ("anyOf", "oneOf", "allOf", "prefixItems")
_NAMED = ("properties", "$defs", "definitions")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_integer(value: Any) -> bool:
    return _is_number(value) and (isinstance(value, int) or value.is_integer())


_TYPES: dict[str, Callable[[Any], bool]] = {
    "object": lambda value: isinstance(value, dict),
    "array": lambda value: isinstance(value, list),
    "string": lambda value: isinstance(value, str),
    "boolean": lambda value: isinstance(value, bool),
    "null": lambda value: value is None,
    "integer": _is_integer,
    "number": _is_number,
}


class MalformedReply(ProviderFailed):
    """An answer that is not the JSON that was asked for.

    `text` is the start of the answer and `problem` says what is wrong with it, for `repair_call`; the error's own
    message holds neither. `usage` is what was billed all the same. Its kind is MALFORMED, or BAD_REQUEST where our
    `max_output` cut the answer off: then neither provider nor model is to blame and a repair would be cut as well.
    """

    def __init__(self, reply: Reply, problem: str) -> None:
        cut = reply.finish == "length"
        reason = "the answer was cut off by max_output" if cut else "the answer is not the JSON that was asked for"
        kind = FailureKind.BAD_REQUEST if cut else FailureKind.MALFORMED
        super().__init__(f"{reply.provider}: {reason}", kind=kind, provider=reply.provider)
        self.usage = reply.usage
        self.text = reply.text[:_KEPT]
        self.problem = problem


def with_data(call: Call, reply: Reply) -> Reply:
    """Return the reply with `data` set to its validated JSON; unchanged without a schema, and for refusals and tools.

    Raises MalformedReply.
    """
    if call.schema is None or reply.finish in {"refusal", "tool"}:
        return reply
    found = extract_json(reply.text)
    problem = "it holds no JSON" if found is None else first_problem(found[0], call.schema)
    if problem:
        raise MalformedReply(reply, problem)
    return replace(reply, data=found[0] if found else None)


def repair_call(call: Call, text: str, problem: str) -> Call:
    """Return the call that asks once more, with the malformed `text` and what is wrong with it.

    It is an attempt of its own: it reserves for itself and has an idempotency key of its own.
    """
    complaint = (
        f"This is not the JSON that was asked for: {problem}. Answer again with the corrected JSON only, without any "
        f"other text. It must be valid against this schema: {json.dumps(call.schema, ensure_ascii=False)}"
    )
    said = (Message("assistant", text[:_KEPT] or "(nothing)"), Message("user", complaint))
    key = f"{call.idempotency_key}:repair" if call.idempotency_key else None
    return replace(call, messages=(*call.messages, *said), idempotency_key=key)


def unsupported(schema: Mapping[str, Any]) -> str:
    """Return the name of an assertion in `schema` that is not checked here, empty when there is none."""
    for part in _parts(schema):
        for keyword in part:
            if keyword not in _NOTES and keyword not in _CHECKED:
                return str(keyword)[:40]
        if "pattern" in part and not _compiles(part["pattern"]):
            return "pattern"
    return ""


def is_strict(schema: Mapping[str, Any]) -> bool:
    """Tell whether constrained decoding takes the schema: every object closed and all its properties required."""
    for part in _parts(schema):
        if "properties" in part or part.get("type") == "object":
            closed = part.get("additionalProperties") is False
            if not closed or set(part.get("required", ())) != set(part.get("properties", ())):
                return False
    return True


def first_problem(value: Any, schema: Mapping[str, Any]) -> str:
    """Return the first thing that is wrong with `value`, as `$.path: what`, empty when it is valid.

    The text names properties of the schema and array positions, never what the answer itself said.
    """
    return next(_problems(value, schema, ("$", schema, 0)), "")


def extract_json(text: str) -> tuple[Any] | None:
    """Return the JSON in a text (bare, fenced, after thoughts, or amid prose) as a tuple of one, else None."""
    body = re.sub(r"^\s*<think>.*?</think>", "", text, count=1, flags=re.DOTALL).strip()
    for candidate in (body, *re.findall(r"```(?:json|JSON)?\s*\n(.*?)```", body, flags=re.DOTALL)):
        value = parsed_json(candidate)
        if value is not _NOTHING:
            return (value,)
    decoder = json.JSONDecoder(parse_constant=_refuse)
    for match, _ in zip(re.finditer(r"[{\[]", body), range(_MOST_STARTS), strict=False):
        try:
            return (decoder.raw_decode(body, match.start())[0],)
        except (ValueError, RecursionError):
            continue
    return None


class _Nothing:
    """What unreadable JSON is parsed to: no value that JSON can hold."""


_NOTHING = _Nothing()


def parsed_json(text: str | bytes) -> Any:
    """Return the JSON value of a text; for anything else (NaN and Infinity included) an object of no JSON type."""
    try:
        return json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return _NOTHING


def _refuse(name: str) -> Any:
    raise ValueError(name)


def _compiles(pattern: str) -> bool:
    try:
        re.compile(pattern)
    except (re.error, TypeError):
        return False
    return True


def _parts(schema: Any, depth: int = 0) -> Iterator[Mapping[str, Any]]:
    if not isinstance(schema, Mapping) or depth > _DEEPEST:
        return
    yield schema
    nested = [schema.get(name) for name in _NESTED]
    for name in _LISTED:
        nested += list(schema.get(name, ()))
    for name in _NAMED:
        nested += list(schema.get(name, {}).values())
    for part in nested:
        yield from _parts(part, depth + 1)


_Where = tuple[str, Mapping[str, Any], int]
"""Path of a value, the whole schema (for references), and the depth."""


def _problems(value: Any, schema: Any, where: _Where) -> Iterator[str]:
    path, root, depth = where
    if schema is True or not isinstance(schema, Mapping):
        if schema is False:
            yield f"{path}: nothing is allowed here"
        return
    if depth > _DEEPEST:
        yield f"{path}: nested too deeply"
        return
    if "$ref" in schema:
        yield from _problems(value, _referred(root, str(schema["$ref"])), (path, root, depth + 1))
    yield from _of_type(value, schema, path)
    yield from _of_choice(value, schema, where)
    if isinstance(value, dict):
        yield from _of_object(value, schema, where)
    elif isinstance(value, list):
        yield from _of_array(value, schema, where)
    elif isinstance(value, str):
        yield from _of_string(value, schema, path)
    elif _is_number(value):
        yield from _of_number(value, schema, path)


def _of_type(value: Any, schema: Mapping[str, Any], path: str) -> Iterator[str]:
    wanted = schema.get("type")
    names = [wanted] if isinstance(wanted, str) else list(wanted or ())
    if names and not any(_TYPES[name](value) for name in names if name in _TYPES):
        yield f"{path}: must be {' or '.join(names)}"
    if "enum" in schema and not any(_same(value, one) for one in schema["enum"]):
        yield f"{path}: must be one of {json.dumps(schema['enum'])[:200]}"
    if "const" in schema and not _same(value, schema["const"]):
        yield f"{path}: must be {json.dumps(schema['const'])[:200]}"


def _of_choice(value: Any, schema: Mapping[str, Any], where: _Where) -> Iterator[str]:
    path, root, depth = where
    inner = (path, root, depth + 1)
    for part in schema.get("allOf", ()):
        yield from _problems(value, part, inner)
    for name, most in (("anyOf", math.inf), ("oneOf", 1)):
        if name in schema:
            valid = sum(next(_problems(value, part, inner), None) is None for part in schema[name])
            if not 1 <= valid <= most:
                yield f"{path}: does not match {'any' if name == 'anyOf' else 'exactly one'} of the allowed forms"


def _of_object(value: Mapping[str, Any], schema: Mapping[str, Any], where: _Where) -> Iterator[str]:
    path, root, depth = where
    properties = schema.get("properties", {})
    for name in schema.get("required", ()):
        if name not in value:
            yield f"{path}.{name}: is missing"
    for name, one in value.items():
        if name in properties:
            yield from _problems(one, properties[name], (f"{path}.{name}", root, depth + 1))
        elif schema.get("additionalProperties") is False:
            yield f"{path}: holds a property that is not in the schema"
        else:
            yield from _problems(one, schema.get("additionalProperties", True), (f"{path}.*", root, depth + 1))
    yield from _size(len(value), schema, (path, "Properties"))


def _of_array(value: list[Any], schema: Mapping[str, Any], where: _Where) -> Iterator[str]:
    path, root, depth = where
    first = schema.get("prefixItems", ())
    for number, one in enumerate(value):
        part = first[number] if number < len(first) else schema.get("items", True)
        yield from _problems(one, part, (f"{path}[{number}]", root, depth + 1))
    if schema.get("uniqueItems") and len({json.dumps(one, sort_keys=True) for one in value}) < len(value):
        yield f"{path}: holds an item twice"
    yield from _size(len(value), schema, (path, "Items"))


def _of_string(value: str, schema: Mapping[str, Any], path: str) -> Iterator[str]:
    yield from _size(len(value), schema, (path, "Length"))
    if "pattern" in schema and not re.search(schema["pattern"], value):
        yield f"{path}: does not match the pattern"


def _of_number(value: float, schema: Mapping[str, Any], path: str) -> Iterator[str]:
    bounds: dict[str, Callable[[Any], bool]] = {
        "minimum": lambda limit: value >= limit,
        "maximum": lambda limit: value <= limit,
        "exclusiveMinimum": lambda limit: value > limit,
        "exclusiveMaximum": lambda limit: value < limit,
        "multipleOf": lambda limit: math.isclose(value / limit, round(value / limit), abs_tol=1e-9),
    }
    for name, holds in bounds.items():
        if name in schema and not holds(schema[name]):
            yield f"{path}: {name} is {schema[name]}"


def _size(size: int, schema: Mapping[str, Any], named: tuple[str, str]) -> Iterator[str]:
    path, what = named
    if size < schema.get(f"min{what}", 0):
        yield f"{path}: min{what} is {schema[f'min{what}']}"
    if size > schema.get(f"max{what}", math.inf):
        yield f"{path}: max{what} is {schema[f'max{what}']}"


def _referred(root: Mapping[str, Any], reference: str) -> Any:
    found: Any = root
    for step in reference.removeprefix("#").strip("/").split("/"):
        found = found.get(step.replace("~1", "/").replace("~0", "~"), False) if isinstance(found, Mapping) else False
    return root if reference == "#" else found


def _same(value: Any, other: Any) -> bool:
    return bool(value == other) and isinstance(value, bool) == isinstance(other, bool)
