"""The gateway on a free port of this machine, its provider a scripted server."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import pytest
from openai import AsyncOpenAI

from knowledge_system import settings
from knowledge_system.application.compose import Parts
from knowledge_system.application.system import KnowledgeSystem
from knowledge_system.interfaces.http.server import Address, listen, serve_on
from knowledge_system.testing.scripted_provider import ScriptedProvider, Step

MODEL = "openai/gpt-oss-20b"


def configure(home: Path, provider: ScriptedProvider, monthly: float = 8.33) -> None:
    """Point groq (chat) and openai (embeddings) at the scripted server."""
    priced = {"input": 1.0, "output": 2.0}
    groq = {"baseUrl": provider.openai_url, "model": MODEL, "price": priced}
    tree = {
        "budget": {"monthly": monthly},
        "inference": {
            "providerPriority": ["groq"],
            "localModels": {"enabled": False},
            "providers": {"groq": groq, "openai": {"baseUrl": provider.openai_url}},
        },
    }
    home.mkdir(mode=0o700, exist_ok=True)
    (home / "config.json").write_text(json.dumps(tree))


@dataclass(frozen=True)
class Served:
    """A running gateway and the provider behind it."""

    url: str
    provider: ScriptedProvider
    clients: list[AsyncOpenAI] = field(default_factory=list)

    def client(self, **options: Any) -> AsyncOpenAI:
        made = AsyncOpenAI(base_url=f"{self.url}/v1", **{"api_key": "unused", "max_retries": 0, **options})
        self.clients.append(made)
        return made

    async def post(self, path: str, **options: Any) -> httpx2.Response:
        async with httpx2.AsyncClient(base_url=self.url) as client:
            return await client.post(path, **options)


@asynccontextmanager
async def serving(home: Path, provider: ScriptedProvider, token: str | None = None) -> AsyncIterator[Served]:
    """Serve the home on a free port until the end of the block."""
    ready = asyncio.Event()
    async with Parts(settings.load(home, environ={}), "test") as parts:
        with listen(Address("127.0.0.1", 0), token) as listening:
            task = asyncio.create_task(serve_on(listening, KnowledgeSystem(parts), token, ready.set))
            started = asyncio.create_task(ready.wait())
            await asyncio.wait({task, started}, return_when=asyncio.FIRST_COMPLETED)
            started.cancel()
            if task.done():
                task.result()
            running = Served(listening[1], provider)
            try:
                yield running
            finally:
                for client in running.clients:
                    await client.close()
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)


@pytest.fixture(autouse=True)
def _a_model_judges_what_leaves(tmp_path: Path, judging: Path) -> None:
    """Give the test's home the assembled model: what cannot be judged would not leave."""
    (tmp_path / "home").mkdir(mode=0o700)
    (tmp_path / "home" / "models").symlink_to(judging, target_is_directory=True)


@pytest.fixture
async def provider(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[ScriptedProvider]:
    for variable in ("GROQ_API_KEY", "OPENAI_API_KEY"):
        monkeypatch.setenv(variable, "key-of-a-test")
    async with ScriptedProvider(default=Step(text="hello there", input_tokens=100, output_tokens=10)) as server:
        yield server


@pytest.fixture
async def served(tmp_path: Path, provider: ScriptedProvider) -> AsyncIterator[Served]:
    configure(tmp_path / "home", provider)
    async with serving(tmp_path / "home", provider) as running:
        yield running
