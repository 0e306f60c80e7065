"""The private door when a verb fails in a way that nobody foresaw."""

from __future__ import annotations

import json
from typing import Any

import httpx2
import pytest
from fastapi import FastAPI

from knowledge_system import __version__
from knowledge_system.application.addresses import CALL_PATH, VERSION_HEADER
from knowledge_system.interfaces.http.internal import add_internal


async def test_an_unexpected_failure_is_told_to_the_command_and_written_to_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    app, nothing = FastAPI(), object()
    broken: Any = nothing
    add_internal(app, broken)
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app=app), base_url="http://here") as client:
        answer = await client.post(CALL_PATH + "index_status", headers={VERSION_HEADER: __version__}, json={})
    error = json.loads(answer.text.splitlines()[-1])["error"]
    assert "unexpected failure in the service: AttributeError" in error["message"]
    assert error["hint"] == "the service's log says more"
    (record,) = [one for one in caplog.records if one.name.endswith("http.internal")]
    assert record.exc_info is not None
    assert record.exc_info[0] is AttributeError
