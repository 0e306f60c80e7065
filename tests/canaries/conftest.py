"""A home, a provider far away and a model on this machine: both scripted, both remember every byte they were sent."""

from __future__ import annotations

import asyncio
import json
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from tests.canaries.birds import TOPICS, Net, everything
from tests.inference.engine.redis_server import RedisServer

from knowledge_system.testing.scripted_provider import Received, ScriptedProvider, Step

KEYS = {f"{name}_API_KEY": "key-of-a-test" for name in ("GROQ", "OPENAI", "ANTHROPIC", "GEMINI", "OPENROUTER")}
_EXCHANGES = re.compile(rb"There are (\d+) exchanges")
PRICED = {"input": 1.0, "output": 2.0}
ALL = Net(everything())
REDACTED = Net([one for one in everything() if not one.kind.startswith("topic:")])
"""What may not even be stored; confidential sentences may."""
SECRET = Net([one for one in everything() if one.level.value == "secret"])


class Servers:
    """Scripted providers in a thread of their own: processes and coroutines of a test can both be their clients."""

    def __init__(self) -> None:
        self.remote = ScriptedProvider(default=Step(text="a remote answer", input_tokens=10, output_tokens=5))
        self.local = ScriptedProvider()
        self.remote.respond = _far
        self.local.respond = _near
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def start(self) -> None:
        self._thread.start()
        for server in (self.remote, self.local):
            asyncio.run_coroutine_threadsafe(server.start(), self._loop).result(30)

    def stop(self) -> None:
        for server in (self.remote, self.local):
            asyncio.run_coroutine_threadsafe(server.stop(), self._loop).result(30)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(30)
        self._loop.close()

    def seen_far(self) -> str:
        """Return all that the remote provider was sent: paths, headers, bodies, questions about models."""
        return "\n".join(one.text for one in [*self.remote.requests, *self.remote.probes])

    def seen_near(self) -> str:
        return "\n".join(one.text for one in [*self.local.requests, *self.local.probes])


def _far(received: Received) -> Step | None:
    """Embed, say of every exchange that it is not worth keeping, or say anything."""
    if received.path.endswith("/embeddings"):
        return Step(dimensions=1536, input_tokens=10, output_tokens=0)
    asked = _EXCHANGES.search(received.raw)
    if asked is None:
        return None
    blank = {"worth": False, "type": "tool_usage", "title": "", "content": "", "quotes": []}
    answers = [{"index": number, **blank} for number in range(1, int(asked[1]) + 1)]
    return Step(text=json.dumps({"exchanges": answers}), input_tokens=100, output_tokens=20)


def _near(received: Received) -> Step | None:
    """Answer with what was said, so that answers are as sensitive as questions; object to everything doubtful."""
    if b"You decide whether passages" in received.raw:
        return Step(text='{"sensitive": true}')
    return Step(text=received.raw.decode("utf-8", "replace")[-400:])


@dataclass
class World:
    """The home and everybody around it."""

    home: Path
    servers: Servers
    output: list[str] = field(default_factory=list)

    def configure(self, **changes: Any) -> None:
        """Write a configuration that lets out whatever the layers let out: the worst there is."""
        far = self.servers.remote.openai_url
        providers = {name: {"baseUrl": far, "model": "m", "price": PRICED} for name in ("groq", "openai")}
        providers["anthropic"] = {"baseUrl": self.servers.remote.anthropic_url, "model": "m", "price": PRICED}
        inference = {
            "providerPriority": ["groq", "local"],
            "internal": "anywhere",
            "providers": providers,
            "localModels": {"endpoint": self.servers.local.ollama_url},
        }
        tree = {"budget": {"monthly": 1000}, "inference": inference, **changes}
        (self.home / "config.json").write_text(json.dumps(tree))
        (self.home / "sensitivity-topics.json").write_text(json.dumps(TOPICS))


@pytest.fixture(scope="module")
def servers() -> Iterator[Servers]:
    running = Servers()
    running.start()
    yield running
    running.stop()


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, judging: Path, servers: Servers) -> World:
    home = tmp_path_factory.mktemp("canaries") / "home"
    home.mkdir(mode=0o700)
    (home / "models").symlink_to(judging, target_is_directory=True)
    one = World(home, servers)
    one.configure()
    return one


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with RedisServer(tmp_path_factory.mktemp("redis")) as server:
        yield server
