"""What a cache hit takes: an engine's answers from memory and from a Redis of our own, questions from memory.

`python bench/cache.py [--calls 400] [--json]`: milliseconds, p50 and p95, with all wrappers on, money and breakers in
SQLite. "First sight" is a hit whose text the privacy layers had not judged before in this process. Needs redis-server.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import socket
import subprocess
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from knowledge_system import settings
from knowledge_system.application.compose import Parts
from knowledge_system.domain.inference import Call, EmbedCall, Message
from knowledge_system.domain.sensitivity import Sensitivity
from knowledge_system.testing.scripted_provider import ScriptedProvider, Step

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Sequence

PROSE = "How does the parser handle nested brackets in the grammar of version {}? "


@contextmanager
def redis_server(directory: Path) -> Iterator[str]:
    """Run a Redis on a free port; yield its URL."""
    binary = shutil.which("redis-server")
    assert binary is not None, "install redis-server"
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    options = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(directory)]
    process = subprocess.Popen([binary, *options], stdout=subprocess.DEVNULL)
    try:
        while True:
            with socket.socket() as probe:
                if not probe.connect_ex(("127.0.0.1", port)):
                    break
        yield f"redis://127.0.0.1:{port}/0"
    finally:
        process.terminate()
        process.wait()


def configure(home: Path, provider: str, redis: str) -> None:
    priced = {"baseUrl": provider, "model": "scripted", "price": {"input": 1.0, "output": 2.0}}
    inference = {"providerPriority": ["groq", "openai"], "localModels": {"enabled": False}}
    tree = {"inference": {**inference, "providers": {"groq": priced, "openai": {"baseUrl": provider}}}}
    home.mkdir(mode=0o700)
    (home / "config.json").write_text(json.dumps({**tree, "cache": {"l2": {"url": redis}}}))


async def spent(work: Callable[[Any], Awaitable[Any]], items: Sequence[Any]) -> dict[str, float]:
    """Return p50 and p95, in milliseconds, of `work` on each of `items`."""
    times = []
    for item in items:
        began = time.perf_counter()
        await work(item)
        times.append((time.perf_counter() - began) * 1000)
    times.sort()
    return {"p50": round(times[len(times) // 2], 3), "p95": round(times[int(len(times) * 0.95)], 3)}


async def engine_hits(home: Path, name: str, calls: Sequence[Call | EmbedCall]) -> dict[str, dict[str, float]]:
    """Return the time of hits: in Redis by a process that sees the text for the first time, in memory, in Redis."""
    loaded = settings.load(home, environ={})
    async with Parts(loaded, "bench") as first, Parts(loaded, "bench") as second:
        payer, reader = await first.engine(), await second.engine()
        for call in calls:
            await ask(payer, call)
        hit = hit_in(reader)
        rows = {f"{name}, L2, first sight": await spent(hit, calls), f"{name}, L1": await spent(hit, calls)}
        await reader._parts.shelves.l1.clear()  # noqa: SLF001 -- what lies in memory would hide Redis
        return {**rows, f"{name}, L2": await spent(hit, calls)}


def hit_in(reader: Any) -> Callable[[Call | EmbedCall], Awaitable[None]]:
    async def hit(call: Call | EmbedCall) -> None:
        assert (await ask(reader, call)).cached

    return hit


async def ask(engine: Any, call: Call | EmbedCall) -> Any:
    return await (engine.infer(call) if isinstance(call, Call) else engine.embed(call))


async def questions(home: Path, count: int) -> dict[str, dict[str, float]]:
    """Return the time of a question's vector: computed, computed with the memory in front, remembered."""
    async with Parts(settings.load(home, environ={}), "bench") as parts:
        model, asker = parts.model(), await parts.asker()
        await model.load()
        await asker.embed(["the first one reads what is kept"])
        fresh = [[PROSE.format(number)] for number in range(count)]
        return {
            "question, bare model": await spent(model.embed, fresh),
            "question, new": await spent(asker.embed, fresh),
            "question, known": await spent(asker.embed, fresh),
        }


async def measure(calls: int) -> dict[str, dict[str, float]]:
    """Run everything in a home of its own."""
    os.environ.setdefault("GROQ_API_KEY", "unused")
    os.environ.setdefault("OPENAI_API_KEY", "unused")
    step = Step(text="hello " * 200, input_tokens=100, output_tokens=200)
    with tempfile.TemporaryDirectory() as scratch, redis_server(Path(scratch)) as redis:
        async with ScriptedProvider(default=step) as provider:
            home = Path(scratch) / "home"
            configure(home, provider.openai_url, redis)
            texts = [PROSE.format(number) for number in range(calls)]
            public = Sensitivity.PUBLIC
            chat = [Call("bench", (Message("user", one * 20),), sensitivity=public, temperature=0) for one in texts]
            embeds = [EmbedCall("embed-query", (one,), sensitivity=public, provider="openai") for one in texts]
            rows = {**await engine_hits(home, "chat", chat), **await engine_hits(home, "vector of 1536", embeds)}
            return {**rows, **await questions(home, calls)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--calls", type=int, default=400)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    rows = asyncio.run(measure(options.calls))
    if options.json:
        print(json.dumps(rows))
        return
    print(f"{os.cpu_count()} cores, {options.calls} calls each, ms")
    for name, row in rows.items():
        print(f"{name:<32} p50 {row['p50']:>8.3f}   p95 {row['p95']:>8.3f}")


if __name__ == "__main__":
    main()
