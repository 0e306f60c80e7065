"""The whole application in this process: real parts in a home of its own, asked over ASGI, its provider scripted."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
from fastapi import FastAPI
from tests.interfaces.http.conftest import configure

from knowledge_system import settings
from knowledge_system.application.compose import Parts
from knowledge_system.application.doorkeepers import admin_record, known_tokens
from knowledge_system.application.gateway import open_gateway
from knowledge_system.application.system import KnowledgeSystem
from knowledge_system.domain.clock import Clock, SystemClock
from knowledge_system.domain.events import Event
from knowledge_system.interfaces.http.app import make_app
from knowledge_system.interfaces.http.guard import GuardOptions
from knowledge_system.testing.scripted_provider import ScriptedProvider

URL = "http://127.0.0.1:3000"


@dataclass(frozen=True)
class Inside:
    """An application and everything behind it."""

    app: FastAPI
    system: KnowledgeSystem
    client: httpx2.AsyncClient
    events: list[Event]

    async def json(self, method: str, path: str, expected: int = 200, **options: Any) -> Any:
        response = await self.client.request(method, path, **options)
        assert response.status_code == expected, response.text
        return response.json()


@asynccontextmanager
async def inside(
    home: Path,
    provider: ScriptedProvider | None = None,
    environ: dict[str, str] | None = None,
    clock: Clock | None = None,
    **guard: Any,
) -> AsyncIterator[Inside]:
    """Open the home; the configuration is written first where a provider is given."""
    if provider is not None and not (home / "config.json").exists():
        configure(home, provider)
    events: list[Event] = []
    loaded = settings.load(home, environ=environ or {})
    async with Parts(loaded, "test", emit=events.append, clock=clock or SystemClock()) as parts:
        parts.own()
        system = KnowledgeSystem(parts)
        gateway = await open_gateway(parts)
        tokens = known_tokens(parts.settings.tree, None, environ or {})
        options = GuardOptions(record=admin_record(parts), tokens=tokens, **guard)
        app = make_app(gateway, options, system)
        transport = httpx2.ASGITransport(app=app, raise_app_exceptions=False)
        async with httpx2.AsyncClient(transport=transport, base_url=URL) as client:
            yield Inside(app, system, client, events)
