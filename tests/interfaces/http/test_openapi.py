"""The description of the API is true: schemathesis asks every operation of a real system, and checks the answers."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any

import jsonschema_rs
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from tests.interfaces.conftest import CHORE, FIXED_BUG, ROOT
from tests.interfaces.http.inside import URL, Inside, inside

from knowledge_system.testing.scripted_provider import ScriptedProvider

EXAMPLES = 8
"""Of each operation and mode; the whole stays well under a minute."""
CHECKS = [not_a_server_error, content_type_conformance, response_schema_conformance, status_code_conformance]
MODES = list(schemathesis.GenerationMode)


async def opened_with_data(door: Inside) -> None:
    document = {
        "format": "knowledge-transcript/1",
        "session": {"id": "s1", "project": "shop"},
        "exchanges": [FIXED_BUG, CHORE],
    }
    await door.json("POST", "/v1/exchanges", json=document)


def cases(document: dict[str, Any]) -> list[Any]:
    """Return bounded cases of every operation that is described."""
    found: list[Any] = []
    schema = schemathesis.openapi.from_dict(document)
    for result in schema.get_all_operations():
        operation = result.ok()
        for mode in MODES:
            strategy = operation.as_strategy(generation_mode=mode)

            @settings(
                max_examples=EXAMPLES, database=None, deadline=None, derandomize=True,
                phases=[Phase.explicit, Phase.generate], suppress_health_check=list(HealthCheck),
            )  # fmt: skip
            @given(strategy)
            def collect(case: Any) -> None:
                found.append(case)

            try:
                collect()
            except BaseException as error:  # nothing negative can be made of some operations
                if "Unsatisfiable" not in type(error).__name__:
                    raise
    return found


async def ask(door: Inside, case: Any) -> None:
    """Send a case and check what comes back."""
    prepared = requests.Session().prepare_request(requests.Request(**case.as_transport_kwargs(base_url=URL)))
    response = await door.client.request(
        prepared.method, prepared.url, headers=dict(prepared.headers), content=prepared.body
    )
    told = schemathesis.Response(
        status_code=response.status_code,
        headers={name: [value] for name, value in response.headers.items()},
        content=response.content,
        request=prepared,
        elapsed=0.0,
        verify=False,
        message=response.reason_phrase,
        http_version="1.1",
    )
    case.validate_response(told, checks=CHECKS)


async def test_every_operation_is_documented_and_has_its_problems(tmp_path: Path, provider: ScriptedProvider) -> None:
    async with inside(tmp_path / "home", provider) as door:
        document = await door.json("GET", "/openapi.json")
    page = (ROOT / "docs/http-api.md").read_text()
    written = set(re.findall(r"^\| `(GET|POST|DELETE|PUT|PATCH) (/[^`?]*)`", page, re.MULTILINE))
    described = {(method.upper(), path) for path, one in document["paths"].items() for method in one}

    assert described - written == set(), "not in docs/http-api.md"
    assert written - described <= {("GET", "/metrics")}, "in docs/http-api.md only"
    for path, operations in document["paths"].items():
        for operation in operations.values():
            assert {"401", "403", "500"} <= set(operation["responses"]), path
            assert operation["summary"]
    assert document["components"]["securitySchemes"]["token"]["scheme"] == "bearer"


async def test_every_body_has_an_example_that_is_one(tmp_path: Path, provider: ScriptedProvider) -> None:
    async with inside(tmp_path / "home", provider) as door:
        document = await door.json("GET", "/openapi.json")
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            shown = [operation["responses"]["200"]["content"], operation.get("requestBody", {}).get("content", {})]
            for content in (one["application/json"] for one in shown if "application/json" in one):
                assert "example" in content, (method, path)
                whole = {**content["schema"], "components": document["components"]}
                jsonschema_rs.validate(whole, content["example"])


async def test_every_operation_answers_as_it_is_described(tmp_path: Path, provider: ScriptedProvider) -> None:
    async with inside(tmp_path / "home", provider) as door:
        await opened_with_data(door)
        document = await door.json("GET", "/openapi.json")
        asked = await asyncio.to_thread(cases, document)
        for case in asked:
            await ask(door, case)

    operations = {(case.method.lower(), case.path) for case in asked}
    described = {(method, path) for path, one in document["paths"].items() for method in one}
    assert operations == described
    assert ("post", "/config") in described
