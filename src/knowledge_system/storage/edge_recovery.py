"""Opening: which generation is valid, may it be loaded into this process, and if not, what then.

The index is derived, so nothing is repaired: a generation that fails its checks is removed, an empty one takes its
place, and the pointer keeps the reason until a rebuild from the truth has succeeded.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from knowledge_system.domain.errors import IntegrityFailure
from knowledge_system.storage import index_manifest
from knowledge_system.storage.edge_engine import Shard
from knowledge_system.storage.edge_process import run_child
from knowledge_system.storage.index_files import sync_directory, usable
from knowledge_system.storage.index_generations import Generations, Pointer

if TYPE_CHECKING:
    from knowledge_system.storage.edge_live import EdgeOptions

_LOST = "the pointer to the valid generation was lost"


async def open_current(generations: Generations, dimension: int, options: EdgeOptions) -> tuple[Pointer, Shard]:
    """Return the valid generation, opened; an empty one when there is none or its files are not to be trusted."""
    if options.distrust:
        return await asyncio.to_thread(create_empty, generations, dimension, options.distrust)
    pointer = generations.pointer()
    if pointer is None:
        left = any(generations.root.glob("g*"))
        return await asyncio.to_thread(create_empty, generations, dimension, _LOST if left else "")
    with usable(generations.root):
        await asyncio.to_thread(generations.remove_others, pointer.generation)
        problems = await _problems(generations, pointer, dimension, options.open_deadline)
    if not problems:
        try:
            return pointer, await asyncio.to_thread(load_generation, generations, pointer.generation, dimension)
        except IntegrityFailure as error:
            problems = [error.message]
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    return await asyncio.to_thread(create_empty, generations, dimension, f"{problems[0]}{more}")


async def _problems(generations: Generations, pointer: Pointer, dimension: int, deadline: float) -> list[str]:
    generation = generations.path(pointer.generation)
    if await asyncio.to_thread(index_manifest.is_clean, generation):
        return await asyncio.to_thread(index_manifest.differences, generation)
    return list((await run_child("check", generation, dimension, deadline)).problems)


def load_generation(generations: Generations, generation: str, dimension: int) -> Shard:
    """Load a generation that passed its checks. It is not clean from here on: loading changes files."""
    path = generations.path(generation)
    with usable(path):
        index_manifest.mark_dirty(path)
    return Shard.load(path / index_manifest.SHARD, dimension)


def create_empty(generations: Generations, dimension: int, reason: str) -> tuple[Pointer, Shard]:
    """Create an empty generation and point at it; `reason` says why it must be rebuilt, empty for a new index."""
    pointer = Pointer(generations.fresh(), reason)
    with usable(generations.root):
        shard = create_shard(generations, pointer.generation, dimension)
        generations.point_at(pointer)
        generations.remove_others(pointer.generation)
    return pointer, shard


def create_shard(generations: Generations, generation: str, dimension: int) -> Shard:
    """Create an empty shard in a new generation that nothing points at yet."""
    path = generations.path(generation) / index_manifest.SHARD
    with usable(generations.root):
        path.mkdir(parents=True)
        sync_directory(generations.root)
        return Shard.create(path, dimension)
