"""What the engine costs: its overhead beside LiteLLM's Router, failing over, cache hits, and the ledger.

`python bench/engine.py [--router-python PYTHON] [--calls 400] [--json]`. The scripted provider runs in a process of its
own. Overhead: all wrappers on (ledger and breakers in SQLite, audit, privacy layers), cache off, the same question
every time, one after another and 32 at once; the other side is `bench/engine_router.py`, run by the interpreter of an
environment that has `litellm`, against the same server in the same run, each side in turn so that a busy machine slows
both. Failing over: from the first failing call to the answer of the next provider. Cache hits are those of
`bench/cache.py`, the ledger's figures those of `bench/engine_ledger.py`; both have more to say.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cache
import engine_ledger
from engine_router import WARM, spent
from knowledge_system import settings
from knowledge_system.application.compose import Parts
from knowledge_system.domain.inference import Call, Message
from knowledge_system.domain.sensitivity import Sensitivity
from knowledge_system.testing.scripted_provider import ScriptedProvider, Step

if TYPE_CHECKING:
    from collections.abc import Iterator

AT_ONCE = 32
ROUNDS = 3
TIMEOUT_MS = 300
QUESTION = "Say what you see."


def percentiles(times: list[float]) -> dict[str, float]:
    ordered = sorted(times)
    return {f"p{share}": round(ordered[min(len(ordered) - 1, len(ordered) * share // 100)], 3) for share in (50, 95)}


async def provide() -> None:
    """Answer until standard input ends; says its URL first."""
    async with ScriptedProvider(default=Step(text="hello " * 20, input_tokens=20, output_tokens=20)) as provider:
        print(provider.openai_url, flush=True)
        await asyncio.to_thread(sys.stdin.read)


@contextmanager
def provider_process() -> Iterator[str]:
    command = [sys.executable, __file__, "--provide"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        yield process.stdout.readline().strip()
        process.stdin.close()


def configure(home: Path, urls: dict[str, str], timeout: int = 60_000) -> settings.Settings:
    """Write a configuration whose providers are scripted; the first one fails over to the next."""
    home.mkdir(mode=0o700)
    priced = {"model": "scripted", "price": {"input": 1.0, "output": 4.0}, "timeout": timeout}
    providers = {name: {**priced, "baseUrl": url} for name, url in urls.items()}
    inference = {"providerPriority": list(urls), "localModels": {"enabled": False}, "providers": providers}
    tree = {"inference": inference, "budget": {"monthly": 1_000_000}}
    (home / "config.json").write_text(json.dumps(tree))
    return settings.load(home, environ={})


def call(text: str = QUESTION) -> Call:
    return Call("bench", (Message("user", text),), sensitivity=Sensitivity.PUBLIC, max_output=64, cacheable=False)


async def through_engine(home: Path, url: str, calls: int, at_once: int) -> list[float]:
    async with Parts(configure(home, {"groq": url, "openrouter": url}), "bench") as parts:
        engine = await parts.engine()

        async def ask() -> None:
            reply = await engine.infer(call())
            assert reply.text
            assert not reply.cached

        await spent(ask, WARM, 1)
        return await spent(ask, calls, at_once)


def through_router(python: str, url: str, calls: int, at_once: int) -> dict[str, Any]:
    script = Path(__file__).with_name("engine_router.py")
    command = [python, str(script), url, str(calls), str(at_once)]
    answer: dict[str, Any] = json.loads(subprocess.check_output(command, text=True).splitlines()[-1])
    return answer


def overhead(scratch: Path, python: str | None, calls: int) -> dict[str, Any]:
    """Return milliseconds a call of the engine, of a bare client and of the router, and how many times less."""
    rows: dict[str, Any] = {}
    with provider_process() as url:
        for name, at_once in (("sequential", 1), (f"{AT_ONCE} at once", AT_ONCE)):
            times: dict[str, list[float]] = {"engine": [], "bare": [], "router": []}
            for number in range(ROUNDS):
                home = scratch / f"{at_once}-{number}"
                times["engine"] += asyncio.run(through_engine(home, url, calls, at_once))
                if python is not None:
                    other = through_router(python, url, calls, at_once)
                    times["bare"] += other["bare"]
                    times["router"] += other["router"]
                    rows["litellm"] = other["litellm"]
            row: dict[str, Any] = {side: percentiles(values) for side, values in times.items() if values}
            if times["router"]:
                row["router over engine, p50"] = round(row["router"]["p50"] / row["engine"]["p50"], 2)
            rows[name] = row
    return rows


async def fail_over(scratch: Path) -> dict[str, Any]:
    """Return milliseconds from the question to the next provider's answer while the first one hangs."""
    async with ScriptedProvider(Step(), default=Step(hang="start")) as down, ScriptedProvider() as up:
        urls = {"groq": down.openai_url, "openrouter": up.openai_url}
        async with Parts(configure(scratch / "down", urls, TIMEOUT_MS), "bench") as parts:
            engine = await parts.engine()
            await engine.infer(call())  # answered: models are loaded and connections open before it goes down
            times = []
            for number in range(60):
                began = time.perf_counter()
                reply = await engine.infer(call(f"{QUESTION} {number}"))
                times.append(((time.perf_counter() - began) * 1000, len(reply.attempts)))
                assert reply.provider == "openrouter"
    closed = [spent for spent, attempts in times if attempts > 1]
    opened = [spent for spent, attempts in times if attempts == 1]
    return {"timeout": TIMEOUT_MS, "first": round(times[0][0], 1), "breaker closed": percentiles(closed),
            "breaker open": percentiles(opened), "calls before it opened": len(closed)}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--router-python", help="interpreter of an environment with litellm")
    parser.add_argument("--calls", type=int, default=400)
    parser.add_argument("--skip", nargs="*", default=[], choices=["overhead", "fail-over", "cache", "ledger"])
    parser.add_argument("--provide", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.provide:
        asyncio.run(provide())
        return
    os.environ.setdefault("GROQ_API_KEY", "unused")
    os.environ.setdefault("OPENROUTER_API_KEY", "unused")
    result: dict[str, Any] = {"cores": os.cpu_count(), "load": os.getloadavg()}
    with tempfile.TemporaryDirectory(prefix="engine") as name:
        scratch = Path(name)
        if "overhead" not in options.skip:
            result["overhead_ms"] = overhead(scratch, options.router_python, options.calls)
        if "fail-over" not in options.skip:
            result["provider_down_ms"] = asyncio.run(fail_over(scratch))
        if "cache" not in options.skip:
            result["cache_ms"] = asyncio.run(cache.measure(options.calls))
        if "ledger" not in options.skip:
            result["sqlite_ledger_ms"] = engine_ledger.loads(f"sqlite:///{scratch}/ledger.db", 8, 300)
            commands = engine_ledger.postgres_commands()
            if commands is not None:
                with engine_ledger.postgres(commands) as url:
                    result["postgresql_ledger_ms"] = engine_ledger.loads(url, 8, 300)
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
