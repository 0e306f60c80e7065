"""The larger embedding space as every verb meets it: whether it is in use, how far it has come, how a search uses it.

Light to import: the engine is loaded by what spends or embeds (`embeddings`), not by every search.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from knowledge_system.application.observed import ObservedModel
from knowledge_system.domain.errors import KnowledgeError, ModelUnavailable
from knowledge_system.domain.events import SpaceBehind, SpaceCovered
from knowledge_system.embedding.remote import QUERY, Purpose, remote_space
from knowledge_system.retrieval.high_accuracy import HighAccuracy
from knowledge_system.retrieval.second_space import FOLLOW, PAID

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from knowledge_system.application.compose import Parts
    from knowledge_system.domain.embedding import EmbeddingSpace, Vector
    from knowledge_system.domain.index import VectorIndex
    from knowledge_system.domain.sensitivity import Sensitivity
    from knowledge_system.settings import Configuration

Document = dict[str, Any]
GRACE = 0.25
"""Seconds beyond `queryTimeout` after which a question no longer waits, whatever holds the engine up."""


def larger_space(tree: Configuration) -> EmbeddingSpace:
    """Return the identity of the configured space."""
    return remote_space(tree.embeddings.remote.provider, tree.embeddings.remote.model)


async def in_use(parts: Parts) -> bool:
    """Tell whether the larger space has to be kept up: something is in it, or what is new goes there by itself."""
    tree = parts.settings.tree
    return tree.embeddings.remote.auto or await (await parts.truth()).vectors.holds(larger_space(tree))


async def follower(parts: Parts) -> SpaceFollower | None:
    """Return what lets the larger space follow, None when it is not in use; the owner of the directory asks.

    What a space that is no longer configured has left is removed from the disk: it would keep what is forgotten.
    """
    from knowledge_system.storage.index_generations import remove_other_spaces

    remove_other_spaces(parts.home().index, larger_space(parts.settings.tree))
    return SpaceFollower(parts) if await in_use(parts) else None


@dataclass(frozen=True, slots=True)
class SpaceFollower:
    """Lets the larger space follow the first one; what keeps it from that is announced, and nobody has to wait."""

    parts: Parts
    stage: str = FOLLOW

    async def follow(self) -> None:
        """Bring its index up to the truth. What fails is done again with the next change."""
        try:
            await (await self.parts.second()).follow()
        except KnowledgeError as error:
            self.parts.emit(SpaceBehind(larger_space(self.parts.settings.tree).key, error.message))


def high_accuracy(parts: Parts) -> HighAccuracy:
    """Return the larger space as a search uses it; nothing is opened before the first question that asks for it."""
    tree = parts.settings.tree

    async def index() -> VectorIndex:
        return (await parts.second()).index

    return HighAccuracy(parts.truth, larger_space(tree), index, _asking(parts), tree.embeddings.remote.min_coverage)


def _asking(parts: Parts) -> Callable[[str, Sensitivity], Awaitable[Vector]]:
    seconds = parts.settings.tree.embeddings.remote.query_timeout / 1000

    async def embed(question: str, sensitivity: Sensitivity) -> Vector:
        from knowledge_system.application.embeddings import model

        remote = await model(parts)
        purpose = Purpose(QUERY, sensitivity, deadline=parts.clock.now() + timedelta(seconds=seconds))
        try:
            async with asyncio.timeout(seconds + GRACE):
                (vector,) = await ObservedModel(remote.serving(purpose), parts.announce).embed([question])
        except TimeoutError as error:
            raise ModelUnavailable(
                f"no vector for the question within {seconds:g} s", hint="raise embeddings.remote.queryTimeout"
            ) from error
        return vector

    return embed


async def coverage(parts: Parts) -> Document:
    """Return how much of what may be embedded has its vector in the larger space; announced as `SpaceCovered`."""
    tree, truth = parts.settings.tree, await parts.truth()
    space = larger_space(tree)
    found = await truth.vectors.coverage(space) if await truth.vectors.holds(space) else None
    if found is not None:
        parts.emit(SpaceCovered(space.key, space.dimension, found.embeddable, found.covered))
    depth = await truth.outbox.depth()
    return {
        "space": space.key,
        "collection": space.collection,
        "share": 0.0 if found is None else round(found.share, 4),
        "covered": 0 if found is None else found.covered,
        "embeddable": None if found is None else found.embeddable,
        "waiting": depth.get(FOLLOW, 0) + depth.get(PAID, 0),
        "auto": tree.embeddings.remote.auto,
    }


async def embed_waiting(parts: Parts) -> list[str]:
    """Embed what is new, where the configuration says so; return in words what kept some of it waiting."""
    if not parts.settings.tree.embeddings.remote.auto:
        return []
    from knowledge_system.application.embeddings import embed_new

    try:
        await embed_new(parts)
    except KnowledgeError as error:
        parts.emit(SpaceBehind(larger_space(parts.settings.tree).key, error.message))
        return [f"larger embeddings wait: {error.message} — {error.hint}"]
    return []
