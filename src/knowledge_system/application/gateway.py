"""The engine as foreign clients reach it: a name becomes a model, texts are judged, then the engine decides.

A name is `auto`, a provider (`groq`), a provider and its model (`groq/openai/gpt-oss-20b`), or a configured model. The
level of a call is the stricter of what its caller declares and what the gatekeeper finds in its texts.
"""

from __future__ import annotations

import asyncio
import dataclasses
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from knowledge_system.application.engine import breaker_rule, engine_state, named_providers, open_engine, provider_of
from knowledge_system.domain.errors import KnowledgeError, NotFound
from knowledge_system.domain.sensitivity import Sensitivity, highest
from knowledge_system.inference.candidates import candidate_of
from knowledge_system.inference.canonical import texts
from knowledge_system.inference.engine import Shared, Surroundings, build_engine
from knowledge_system.inference.options import EngineOptions
from knowledge_system.inference.provider import Provider, ProviderOptions, make_provider
from knowledge_system.inference.streams import Closing
from knowledge_system.inference.vendors import vendors

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Sequence

    from knowledge_system.application.compose import Parts
    from knowledge_system.domain.clock import Clock
    from knowledge_system.domain.inference import Call, Delta, EmbedCall, EmbedReply, LanguageModel, Reply
    from knowledge_system.inference.engine import Engine
    from knowledge_system.settings import Configuration

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
        engines: tuple[LanguageModel, LanguageModel],
        models: Models,
        scrub: Callable[[str], tuple[str, Sensitivity]],
        clock: Clock,
    ) -> None:
        self._chat, self._embedding = engines
        self._scrub = scrub
        self.models = models
        self.clock = clock

    async def infer(self, call: Call) -> Reply:
        """Answer. Raises NotFound for an unknown model, else as the engine."""
        placed = self.models.placed(call, embeds=False)
        return await self._chat.infer(await self._judged(placed))

    async def stream(self, call: Call) -> AsyncGenerator[Delta, None]:
        """Answer piece by piece; closing it cancels the request. Raises as `infer`, before the first piece."""
        placed = self.models.placed(call, embeds=False)
        async with Closing(self._chat.stream(await self._judged(placed))) as deltas:
            async for delta in deltas:
                yield delta

    async def embed(self, call: EmbedCall) -> EmbedReply:
        """Embed. Raises as `infer`."""
        placed = self.models.placed(call, embeds=True)
        return await self._embedding.embed(await self._judged(placed))

    async def _judged(self, call: _CallT) -> _CallT:
        """Return `call` at its level. All texts together, for it is their number of secrets that counts."""
        try:
            _, found = await asyncio.to_thread(self._scrub, "\n".join(texts(call)))
        except (KnowledgeError, ValueError, OSError):
            found = Sensitivity.CONFIDENTIAL
        return dataclasses.replace(call, sensitivity=highest([call.sensitivity, found]))


async def open_gateway(parts: Parts) -> Gateway:
    """Return the gateway over the engine of `parts`; it is closed with them."""
    tree = parts.settings.tree
    chat = [provider_of(tree, name) for name in named_providers(tree)]
    embedding = embedding_providers(tree)
    targets = (*_targets(chat), *_targets(embedding))
    for provider in chat:  # asked for their names only: the engine opens its own
        await provider.aclose()
    engines = (await open_engine(parts), await _embedding_engine(parts, embedding))
    models = Models(targets, tree.embeddings.remote.provider)
    return Gateway(engines, models, parts.gatekeeper().scrub, parts.clock)


def embedding_providers(tree: Configuration) -> list[Provider]:
    """Return the configured providers as embedding models: those that have one."""
    remote = tree.embeddings.remote
    names = dict.fromkeys([remote.provider, *named_providers(tree)])
    made = [_embedding_provider(tree, name) for name in names if name in vendors()]
    return [provider for provider in made if provider.model]


def _embedding_provider(tree: Configuration, name: str) -> Provider:
    chosen = tree.inference.providers.get(name)
    remote = tree.embeddings.remote
    local = tree.inference.local_models if name == "local" else None
    options = ProviderOptions(
        base_url=(chosen.base_url if chosen else None) or (local.endpoint if local else None),
        embedding_model=remote.model if remote.provider == name else None,
        key_variable=chosen.api_key_env if chosen else None,
    )
    return make_provider(name, options, environ=os.environ, embeds=True)


async def _embedding_engine(parts: Parts, providers: Sequence[Provider]) -> Engine:
    """Return an engine of embedding models; money, breakers and audit are those of every other engine."""
    tree, state = parts.settings.tree, await engine_state(parts)
    for provider in providers:
        parts.at_close(provider.aclose)
    options = EngineOptions(
        priority=tuple(provider.name for provider in providers),
        offline=tree.inference.offline_mode,
        l1_entries=tree.cache.l1.max,
        l1_ttl=tree.cache.l1.ttl / 1000,
    )
    candidates = [candidate_of(provider, breaker_rule(tree, provider.name)) for provider in providers]
    shared = Shared(state.ledger, state.breakers, state.audit)
    engine = build_engine(candidates, shared, options, Surroundings(parts.clock, parts.emit))
    parts.at_close(engine.close)
    return engine


def _targets(providers: Sequence[Provider]) -> list[Target]:
    return [Target(one.name, one.model, one.embeds, one.problem) for one in providers if one.model]
