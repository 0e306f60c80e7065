"""The other side of `bench/engine.py`: LiteLLM's Router and a bare client against the same scripted server.

Run by the interpreter of a virtual environment with `litellm` in it; it imports nothing of this project. Prints one
JSON line: milliseconds of every call.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # no request to the network at import
os.environ.setdefault("LITELLM_LOG", "ERROR")

WARM = 50


async def spent(call: Callable[[], Awaitable[Any]], calls: int, at_once: int) -> list[float]:
    """Return the milliseconds of each of `calls` calls, `at_once` of them under way at any time."""
    times: list[float] = []
    left = iter(range(calls))

    async def caller() -> None:
        for _ in left:
            began = time.perf_counter()
            await call()
            times.append((time.perf_counter() - began) * 1000)

    await asyncio.gather(*(caller() for _ in range(at_once)))
    return times


async def run(url: str, calls: int, at_once: int) -> dict[str, Any]:
    import httpx  # noqa: PLC0415 -- only in the other environment
    import litellm  # noqa: PLC0415

    litellm.telemetry = False
    litellm.suppress_debug_info = True
    target = {"model": "openai/scripted", "api_base": url, "api_key": "sk-bench", "timeout": 60}
    deployments = [
        {"model_name": name, "litellm_params": {**target, "input_cost_per_token": 1e-6, "output_cost_per_token": 4e-6}}
        for name in ("first", "second")
    ]
    router = litellm.Router(model_list=deployments, fallbacks=[{"first": ["second"]}], num_retries=2)
    messages = [{"role": "user", "content": "Say what you see."}]
    body = {"model": "scripted", "messages": messages, "max_tokens": 64}
    client = httpx.AsyncClient(headers={"authorization": "Bearer sk-bench"}, timeout=60)

    async def through_router() -> None:
        answer = await router.acompletion(model="first", messages=messages, max_tokens=64)
        assert answer.choices[0].message.content, "the router got no text"

    async def bare() -> None:
        answer = await client.post(f"{url}/chat/completions", json=body)
        assert answer.json()["choices"][0]["message"]["content"], "no text"

    measured = {}
    for name, call in (("bare", bare), ("router", through_router)):
        await spent(call, WARM, 1)
        measured[name] = await spent(call, calls, at_once)
    await client.aclose()
    return {"litellm": version("litellm"), "python": sys.version.split()[0], **measured}


if __name__ == "__main__":
    print(json.dumps(asyncio.run(run(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))))
