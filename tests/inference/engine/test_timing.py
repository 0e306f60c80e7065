"""One attempt's time limit: how it ends, and that its error keeps nothing of the request."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from tests.inference.engine.actors import FakeModel, ask, hang, local, remote, scene

from knowledge_system.domain.inference import Call, Delta, EmbedCall, FailureKind, Message, ProviderFailed
from knowledge_system.inference.options import EngineOptions
from knowledge_system.inference.styles import styles
from knowledge_system.inference.timing import TimeLimited


async def streamed(model: TimeLimited) -> Any:
    return [delta async for delta in model.stream(ask())]


VERBS: dict[str, Callable[[TimeLimited], Any]] = {
    "infer": lambda model: model.infer(ask()),
    "stream": streamed,
    "embed": lambda model: model.embed(EmbedCall("embed-item", ("text",))),
}


@pytest.mark.parametrize("verb", VERBS)
async def test_t36_the_error_of_a_late_attempt_is_chained_to_nothing(verb: str) -> None:
    limited = TimeLimited(remote(FakeModel("groq", hang), timeout=0.001))
    with pytest.raises(ProviderFailed, match="gave no answer") as caught:
        await VERBS[verb](limited)
    assert (caught.value.kind, caught.value.provider) == (FailureKind.TIMEOUT, "groq")
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None


async def test_a_stream_may_take_long_but_not_pause_long() -> None:
    closed = []

    class Slow(FakeModel):
        async def stream(self, call: Call) -> AsyncIterator[Delta]:
            del call
            try:
                for word in ("a", "b"):
                    yield Delta(text=word)
                await asyncio.Event().wait()
            finally:
                closed.append(True)

    deltas = TimeLimited(remote(Slow("groq"), timeout=0.01)).stream(ask())
    assert [(await anext(deltas)).text for _ in range(2)] == ["a", "b"]
    with pytest.raises(ProviderFailed):
        await anext(deltas)
    assert closed == [True]


@pytest.mark.parametrize("style", [None, "latency-optimized", "quality-optimized"])
async def test_t36_late_hedged_and_streamed_failures_leave_nothing_in_memory(style: str | None) -> None:
    """Providers that hang hold their calls only until their time is up, under every strategy."""
    quick = styles({"latency-optimized": {"hedgeAfter": 0}})
    models = [remote(FakeModel("groq", hang), timeout=0.002), local(FakeModel("local", hang), timeout=0.002)]
    stage = scene(*models, options=EngineOptions(strategies=quick, retries=1))
    for number in range(12):
        call = ask(f"unforgettable {number}", strategy=style)
        await asyncio.gather(stage.engine.infer(call), drained(stage, call), return_exceptions=True)
    for candidate in models:
        candidate.port.seen.clear()
    await stage.engine.close()
    del call
    gc.collect()
    kept = [thing for thing in gc.get_objects() if isinstance(thing, Message) and "unforgettable" in thing.content]
    assert len(kept) <= 1  # the loop may still hold the frame of the last one


async def drained(stage: Any, call: Call) -> None:
    async for _ in stage.engine.stream(call):
        pass
