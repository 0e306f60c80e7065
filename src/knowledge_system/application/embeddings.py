"""What spends on the larger embedding space: its model behind the engine, the estimate, the backfill."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from knowledge_system.application.engine import budget_status, embedding_provider_of, engine_options
from knowledge_system.application.larger import SpaceFollower, coverage, larger_space
from knowledge_system.application.observed import ObservedModel
from knowledge_system.domain.errors import KnowledgeError
from knowledge_system.domain.events import IndexRebuilt
from knowledge_system.domain.inference import NANO, PriceUnknown, Usage
from knowledge_system.embedding.remote import Purpose, RemoteEmbeddingModel, RemoteOptions
from knowledge_system.inference.candidates import candidate_of
from knowledge_system.inference.prices import cost_nano
from knowledge_system.inference.privacy import allowed
from knowledge_system.inference.tokens import MESSAGE_OVERHEAD
from knowledge_system.retrieval.backfill import BYTES_PER_TOKEN, Backfill, BackfillTally, estimate
from knowledge_system.retrieval.second_space import Admission, SecondSpace

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from knowledge_system.application.compose import Parts
    from knowledge_system.domain.embedding import EmbeddingModel
    from knowledge_system.domain.sensitivity import Sensitivity
    from knowledge_system.embedding.remote import Meter
    from knowledge_system.inference.prices import Price
    from knowledge_system.retrieval.backfill import Estimate

Document = dict[str, Any]


async def open_second(parts: Parts) -> SecondSpace:
    """Return the larger space with its index; an index that is not sound is rebuilt from the truth, without a model."""
    admission = await _admission(parts)
    index = await parts.open_index(admission.space)
    second = SecondSpace(admission, index, index, auto=parts.settings.tree.embeddings.remote.auto)
    status = await index.status()
    lost = status.points == 0 and await admission.truth.vectors.holds(admission.space)
    if lost or not status.healthy:
        report = await second.rebuild()
        parts.emit(IndexRebuilt(status.detail or f"{admission.space.collection} was empty", report.points))
    return second


async def model(parts: Parts) -> RemoteEmbeddingModel:
    """Return the model of the larger space; what it spends is on its meter."""
    tree = parts.settings.tree
    remote = tree.embeddings.remote
    options = RemoteOptions(remote.provider, remote.model, tree.embeddings.batch_size, shorten=remote.shorten)
    return RemoteEmbeddingModel(await parts.engine(), options)


async def backfill_estimate(parts: Parts, limit: int | None = None) -> Document:
    """Return what a backfill would send and cost; nothing is sent, and the data directory is not needed.

    Raises PriceUnknown for a remote model whose price nobody knows.
    """
    tree = parts.settings.tree
    provider = embedding_provider_of(tree, tree.embeddings.remote.provider)
    await provider.aclose()
    if provider.price is None:
        raise PriceUnknown(
            f"nobody knows the price of {provider.model} at {provider.name}",
            hint=f"set inference.providers.{provider.name}.embeddingPrice, in dollars per million tokens",
        )
    counts = await estimate(await _admission(parts), limit)
    return {
        "space": larger_space(tree).key,
        "provider": provider.name,
        **_counts(counts),
        **_costs(counts, provider.price),
        "budget_remaining": (await budget_status(parts))["remaining"],
        "problem": provider.problem,
    }


async def backfill(parts: Parts, limit: int | None, progress: Callable[[str, int, int], None]) -> Document:
    """Embed what the larger space lacks, until it is done, `limit` entries are, the budget ends, or nobody answers."""
    began = time.perf_counter()
    second, remote, tally = await parts.second(), await model(parts), BackfillTally()
    (await parts.indexer()).followed_by(SpaceFollower(parts))
    totals = await second.admission.truth.ledger.totals()
    total, done = totals.exchanges + sum(totals.items.values()), 0

    def step(owners: int) -> None:
        nonlocal done
        done += owners
        progress("backfill", done, total)

    work = _backfill(parts, second, remote)
    stopped = await _ended(work.run(tally, limit, step))
    return {
        "entries": tally.owners,
        "texts": tally.texts,
        "refused": tally.refused,
        **_spent(remote.meter),
        "stopped": None if stopped is None else _problem(stopped),
        "exit_code": 0 if stopped is None else stopped.exit_code,
        "coverage": await coverage(parts),
        "seconds": round(time.perf_counter() - began, 3),
    }


async def embed_new(parts: Parts) -> None:
    """Embed what waits for it. Raises what ends it early; what is left waits on."""
    second, remote = await parts.second(), await model(parts)
    await second.follow()
    await _backfill(parts, second, remote).waiting(BackfillTally())


async def _admission(parts: Parts) -> Admission:
    """Return what may be embedded there, by the rule of the engine's own gate. Raises UsageError."""
    tree = parts.settings.tree
    provider = embedding_provider_of(tree, tree.embeddings.remote.provider)
    await provider.aclose()
    candidate, internal = candidate_of(provider), engine_options(tree).internal
    return Admission(await parts.truth(), larger_space(tree), lambda level: bool(allowed([candidate], level, internal)))


def _backfill(parts: Parts, second: SecondSpace, remote: RemoteEmbeddingModel) -> Backfill:
    def embedder(project: str, sensitivity: Sensitivity) -> EmbeddingModel:
        return ObservedModel(remote.serving(Purpose(project=project, sensitivity=sensitivity)), parts.announce)

    return Backfill(second, embedder, parts.settings.tree.embeddings.batch_size)


async def _ended(work: Awaitable[None]) -> KnowledgeError | None:
    """Await `work`; return the refusal or outage that ended it early: what it did until then stays."""
    try:
        await work
    except KnowledgeError as error:
        return error
    return None


def _counts(counts: Estimate) -> Document:
    return {
        "entries": counts.owners,
        "texts": counts.texts,
        "tokens": counts.tokens,
        "counted": f"approximation: {BYTES_PER_TOKEN} bytes of UTF-8 a token",
        "levels": dict(counts.levels),
        "covered": counts.covered,
        "withheld": dict(counts.withheld),
    }


def _costs(counts: Estimate, price: Price) -> Document:
    most = counts.bytes + MESSAGE_OVERHEAD * counts.texts
    return {
        "price_per_million": float(price.input),
        "cost": cost_nano(Usage(input=counts.tokens), price) / NANO,
        "at_most": cost_nano(Usage(input=most), price) / NANO,
    }


def _spent(meter: Meter) -> Document:
    return {"requests": meter.requests, "tokens": meter.tokens, "cost": meter.cost_nano / NANO}


def _problem(error: KnowledgeError) -> Document:
    return {"code": error.code, "message": error.message, "hint": error.hint}
