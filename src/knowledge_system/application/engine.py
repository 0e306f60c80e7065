"""The inference engine over one database: providers from the settings, money and breakers from the truth."""

from __future__ import annotations

import os
from dataclasses import asdict
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from knowledge_system.application.caches import fingerprint
from knowledge_system.application.privacy import listen
from knowledge_system.application.provider_names import check_names
from knowledge_system.domain.clock import to_public
from knowledge_system.domain.errors import IntegrityFailure, NotFound, UsageError
from knowledge_system.domain.inference import NANO
from knowledge_system.domain.money import BreakerPhase, BreakerRule
from knowledge_system.inference.candidates import candidate_of
from knowledge_system.inference.engine import Engine, Shared, Surroundings, build_engine
from knowledge_system.inference.options import EngineOptions
from knowledge_system.inference.prices import price
from knowledge_system.inference.provider import Provider, ProviderOptions, make_provider
from knowledge_system.inference.styles import styles
from knowledge_system.inference.vendors import vendors
from knowledge_system.settings.sections import MOST
from knowledge_system.storage.budget_standing import BudgetRules

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from datetime import datetime

    from knowledge_system.application.compose import Parts
    from knowledge_system.domain.money import BudgetStatus
    from knowledge_system.settings import Configuration
    from knowledge_system.storage.database import EngineState

    AtClose = Callable[[Callable[[], Awaitable[None]]], None]

Document = dict[str, Any]

RULES: Mapping[str, BreakerRule] = {
    "groq": BreakerRule(5, 60_000, 3),
    "openrouter": BreakerRule(3, 120_000, 2),
    "local": BreakerRule(10, 30_000, 5),
}
"""Breaker defaults of the operations guide (R195 to R197); every other provider has those of `BreakerRule`."""


def breaker_rule(tree: Configuration, provider: str) -> BreakerRule:
    """Return the configured rule of a provider, or its default."""
    chosen = tree.circuit_breaker.get(provider)
    return BreakerRule(**chosen.model_dump()) if chosen else RULES.get(provider, BreakerRule())


def budget_rules(tree: Configuration) -> BudgetRules:
    """Return limit and tiers as configured."""
    budget = tree.budget
    return BudgetRules(
        limit_nano=nano(budget.monthly),
        offline=tree.inference.offline_mode,
        tiers=(budget.local_first_at, budget.local_only_at),
    )


def nano(dollars: float) -> int:
    """Return dollars as typed by a person as whole nano-dollars."""
    return int(Decimal(str(dollars)) * NANO)


def provider_of(tree: Configuration, name: str) -> Provider:
    """Return a provider as the settings and the environment describe it."""
    inference = tree.inference
    chosen = inference.providers.get(name)
    local = inference.local_models if name == "local" else None
    options = ProviderOptions(
        base_url=(chosen.base_url if chosen else None) or (local.endpoint if local else None),
        model=(chosen.model if chosen else None) or (local.default_model if local else None),
        key_variable=chosen.api_key_env if chosen else None,
        price=price(chosen.price.input, chosen.price.output) if chosen and chosen.price else None,
        context_tokens=chosen.context_tokens if chosen else None,
        timeout_seconds=chosen.timeout / 1000 if chosen and chosen.timeout else None,
        local_hosts=inference.local_models.hosts,
    )
    return make_provider(name, options, environ=os.environ)


def named_providers(tree: Configuration) -> list[str]:
    """Return the providers that may be asked: those of the priority, of the strategies, and the configured ones."""
    inference = tree.inference
    listed = [name for style in styles(inference.strategies).values() for name in style.priority]
    names = dict.fromkeys([*inference.provider_priority, *inference.providers, *listed])
    known = [name for name in names if name in vendors()]
    return [name for name in known if name != "local" or inference.local_models.enabled]


def embedding_provider_of(tree: Configuration, name: str) -> Provider:
    """Return a provider as an embedding model: that of the larger space for the one named there, else its own."""
    chosen, remote = tree.inference.providers.get(name), tree.embeddings.remote
    local = tree.inference.local_models if name == "local" else None
    own = remote.provider == name
    dollars = chosen.embedding_price if chosen else None
    options = ProviderOptions(
        base_url=(chosen.base_url if chosen else None) or (local.endpoint if local else None),
        embedding_model=remote.model if own else chosen.embedding_model if chosen else None,
        key_variable=chosen.api_key_env if chosen else None,
        embedding_price=None if dollars is None else price(dollars),
        timeout_seconds=chosen.timeout / 1000 if chosen and chosen.timeout else None,
        local_hosts=tree.inference.local_models.hosts,
    )
    return make_provider(name, options, environ=os.environ, embeds=True)


def embedding_providers(tree: Configuration) -> list[Provider]:
    """Return the providers that have an embedding model, that of the larger space first."""
    names = dict.fromkeys([tree.embeddings.remote.provider, *named_providers(tree)])
    made = [embedding_provider_of(tree, name) for name in names if name in vendors()]
    return [provider for provider in made if provider.model]


def engine_options(tree: Configuration) -> EngineOptions:
    """Return what the engine is told of the settings."""
    named = tree.inference.active_strategy if "active_strategy" in tree.inference.model_fields_set else None
    return EngineOptions(
        priority=tree.inference.provider_priority,
        active=named,
        strategies=styles(tree.inference.strategies),
        operations=tree.inference.operations,
        internal=tree.inference.internal,
        offline=tree.inference.offline_mode,
        l1_entries=tree.cache.l1.max,
        l1_ttl=tree.cache.l1.ttl / 1000,
        l2_ttl=tree.cache.l2.ttl / 1000,
        l2_private=tree.cache.l2.private,
        fingerprint=fingerprint(tree),
    )


async def open_engine(parts: Parts, at_close: AtClose | None = None) -> Engine:
    """Return an engine of all chat and embedding models; `Parts.engine` has the one of the running system.

    Money, breakers and audit are shared with every other process over the same database. `at_close` is told what is
    to be done when the engine is not used any more; without one that is when `parts` are closed.
    """
    await parts.database()  # what was changed at run time is known from here on
    closing = at_close or parts.at_close
    tree = parts.settings.tree
    check_names(tree)
    state, options = await engine_state(parts), engine_options(tree)
    providers = [*(provider_of(tree, name) for name in named_providers(tree)), *embedding_providers(tree)]
    for provider in providers:
        closing(provider.aclose)
    candidates = [candidate_of(provider, breaker_rule(tree, provider.name)) for provider in providers]
    caches = await parts.caches()
    shared = Shared(state.ledger, state.breakers, caches.l2, caches.state.generation)
    layers = parts.layers()
    engine = build_engine(candidates, shared, options, Surroundings(parts.clock, caches.emit), layers)
    listen(layers, engine)
    caches.watch(engine)
    closing(engine.close)

    async def leave() -> None:
        caches.leave_out(engine)

    closing(leave)
    return engine


async def engine_state(parts: Parts) -> EngineState:
    """Return ledger, breakers and audit log."""
    database = await parts.database()
    return database.engine_state(budget_rules(parts.settings.tree))


def budget_document(status: BudgetStatus) -> Document:
    """Return what `budget status --json` prints; money in dollars."""
    spent = status.settled_nano + status.reserved_nano
    return {
        "month": status.month,
        "limit": status.limit_nano / NANO,
        "spend": status.settled_nano / NANO,
        "reserved": status.reserved_nano / NANO,
        "remaining": max(0, status.limit_nano - spent) / NANO,
        "percentage": round(100 * spent / status.limit_nano, 4) if status.limit_nano else 100.0,
        "unmeasured": status.unmeasured_nano / NANO,
        "tier": status.tier.value,
        "frozen": status.frozen,
        "offline": status.offline,
        "limits": {scope: amount / NANO for scope, amount in status.limits.items()},
    }


async def budget_status(parts: Parts) -> Document:
    """Return the ledger of this month, after charging what crashed processes left reserved."""
    state = await engine_state(parts)
    await state.ledger.sweep()
    return budget_document(await state.ledger.status())


async def budget_change(
    parts: Parts, action: str, key: str = "", dollars: float | None = None, actor: str = "command line"
) -> Document:
    """Change the budget and read the effective state back. Raises IntegrityFailure when it did not take effect."""
    if dollars is not None and dollars < 0:
        raise UsageError("a limit cannot be negative", hint="0 forbids every paid call")
    if dollars is not None and not dollars <= MOST:  # nor is what is no number
        raise UsageError(f"a limit cannot be above {MOST} dollars", hint="set what may be spent in a month")
    state = await engine_state(parts)
    amount = None if dollars is None else nano(dollars)
    await state.ledger.change(action, key, amount, actor=actor)
    status = await state.ledger.status()
    wanted = {"freeze": status.frozen, "unfreeze": not status.frozen}.get(action, True)
    if not wanted or (action == "set-limit" and not key and status.limit_nano != amount):
        raise IntegrityFailure(f"{action} did not take effect", hint="run `knowledge budget status` and try again")
    return budget_document(status)


async def provider_status(parts: Parts) -> Document:
    """Return every provider with its model, place, price, breaker, and what keeps it from being used."""
    state = await engine_state(parts)
    tree = parts.settings.tree
    check_names(tree)
    breakers = {one.provider: one for one in await state.breakers.status()}
    rows = []
    for name in named_providers(tree):
        provider = provider_of(tree, name)
        breaker = breakers.get(name)
        rows.append(
            {
                "provider": name,
                "model": provider.model,
                "local": provider.local,
                "problem": provider.problem,
                "breaker": (breaker.phase if breaker else BreakerPhase.CLOSED).value,
                "failures": breaker.failures if breaker else 0,
                "next_attempt": _moment(breaker.next_attempt) if breaker else None,
                "rule": asdict(breaker_rule(tree, name)),
            }
        )
        await provider.aclose()
    return {"providers": rows, "strategy": tree.inference.active_strategy}


def known_provider(provider: str) -> str:
    """Return `provider`. Raises NotFound for one that does not exist."""
    if provider not in vendors():
        raise NotFound(f"no provider is called {provider}", hint=f"one of: {', '.join(vendors())}")
    return provider


async def provider_reset(parts: Parts, provider: str, actor: str = "command line") -> Document:
    """Close a breaker by hand. Raises NotFound for a provider that does not exist."""
    known_provider(provider)
    await (await engine_state(parts)).breakers.reset(provider, actor)
    return await provider_status(parts)


async def audit_page(parts: Parts, limit: int, after: str | None) -> Document:
    """Return what left the machine and what was changed by hand, newest first; never content."""
    entries, cursor = await (await engine_state(parts)).audit.entries(limit, after)
    rows = [
        {
            **{key: value for key, value in asdict(entry).items() if key not in {"at", "cost_nano"}},
            "at": to_public(entry.at),
            "cost": entry.cost_nano / NANO,
        }
        for entry in entries
    ]
    return {"results": rows, "next": cursor}


def _moment(moment: datetime | None) -> str | None:
    return to_public(moment) if moment else None
