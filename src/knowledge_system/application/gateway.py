"""The engine as foreign clients reach it: a name becomes a model, and the engine decides.

A name is `auto`, a provider (`groq`), a provider and its model (`groq/openai/gpt-oss-20b`), or a configured model. The
engine judges what a call shows: its level is the stricter of what its caller declares and what the layers find.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from knowledge_system.application.engine import embedding_providers, named_providers, provider_of
from knowledge_system.application.upkeep import start_upkeep, warming_job
from knowledge_system.domain.errors import NotFound
from knowledge_system.inference.streams import Closing

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

    from knowledge_system.application.compose import Parts
    from knowledge_system.application.upkeep import Job
    from knowledge_system.domain.clock import Clock
    from knowledge_system.domain.inference import Call, Delta, EmbedCall, EmbedReply, LanguageModel, Reply
    from knowledge_system.inference.provider import Provider

OPERATION = "gateway"
AUTO = "auto"
_CallT = TypeVar("_CallT", "Call", "EmbedCall")


@dataclass(frozen=True, slots=True)
class Target:
    """One model that a client may name. `problem` says why it cannot be asked now, empty when it can."""

    provider: str
    model: str
    embeds: bool = False
    problem: str = ""

    @property
    def name(self) -> str:
        """`provider/model`."""
        return f"{self.provider}/{self.model}"


@dataclass(frozen=True, slots=True)
class Models:
    """What clients may name. `auto_embedding` is whom `auto` means for embeddings: one space, always the same."""

    targets: tuple[Target, ...]
    auto_embedding: str

    def placed(self, call: _CallT, *, embeds: bool) -> _CallT:
        """Return `call` narrowed to what its `model` names. Raises NotFound for a name that nothing answers to."""
        name = call.model or AUTO
        known: list[Target] = [target for target in self.targets if target.embeds == embeds]
        if name == AUTO:
            provider = self.auto_embedding if embeds else None
            return dataclasses.replace(call, provider=provider, model=None)
        if any(target.provider == name for target in known):
            return dataclasses.replace(call, provider=name, model=None)
        for target in known:
            if target.name == name:
                return dataclasses.replace(call, provider=target.provider, model=target.model)
        if any(target.model == name for target in known):
            return dataclasses.replace(call, provider=None, model=name)
        names = ", ".join((AUTO, *(target.name for target in known)))
        raise NotFound(f"the model {name[:200]!r} does not exist or is not configured", hint=f"one of: {names}")


class Gateway:
    """Answers calls of foreign clients; `Call.model` is the name that the client gave."""

    def __init__(
        self,
        engine: LanguageModel,
        models: Models,
        clock: Clock,
    ) -> None:
        self._engine = engine
        self.models = models
        self.clock = clock

    def follow(self, engine: LanguageModel, models: Models) -> None:
        """Ask another engine from the next call on."""
        self._engine, self.models = engine, models

    async def infer(self, call: Call) -> Reply:
        """Answer. Raises NotFound for an unknown model, else as the engine."""
        placed = self.models.placed(call, embeds=False)
        return await self._engine.infer(placed)

    async def stream(self, call: Call) -> AsyncGenerator[Delta, None]:
        """Answer piece by piece; closing it cancels the request. Raises as `infer`, before the first piece."""
        placed = self.models.placed(call, embeds=False)
        async with Closing(self._engine.stream(placed)) as deltas:
            async for delta in deltas:
                yield delta

    async def embed(self, call: EmbedCall) -> EmbedReply:
        """Embed. Raises as `infer`."""
        placed = self.models.placed(call, embeds=True)
        return await self._engine.embed(placed)


async def open_gateway(parts: Parts, jobs: Sequence[Job] = ()) -> Gateway:
    """Return the gateway over the engine of `parts`, which also does `jobs` from time to time; closed with them."""
    gateway = Gateway(await parts.engine(), await _models(parts), parts.clock)

    async def follow() -> None:
        gateway.follow(await parts.engine(), await _models(parts))

    parts.runtime().listen(follow)
    await start_upkeep(parts, [warming_job(parts), *jobs])
    return gateway


async def _models(parts: Parts) -> Models:
    tree = parts.settings.tree
    providers = [*(provider_of(tree, name) for name in named_providers(tree)), *embedding_providers(tree)]
    for provider in providers:  # asked for their names only: the engine opens its own
        await provider.aclose()
    return Models(_targets(providers), tree.embeddings.remote.provider)


def _targets(providers: Sequence[Provider]) -> tuple[Target, ...]:
    return tuple(Target(one.name, one.model, one.embeds, one.problem) for one in providers if one.model)
