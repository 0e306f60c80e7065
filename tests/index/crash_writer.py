"""A process that works on an index until it is killed, and says on standard output what it may be held to.

`python crash_writer.py MODE DIRECTORY START`, MODE one of `apply`, `rebuild`, `hold`, `optimize`, `supervise`.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from tests.index.samples import SPACE, make_points, stream

from knowledge_system.storage.edge import EdgeIndex
from knowledge_system.storage.index_supervised import SupervisedIndex

BATCH = 20


def say(*words: object) -> None:
    print(*words, flush=True)  # noqa: T201 - the answer to the test


async def apply(index: EdgeIndex, start: int) -> None:
    """Say what is missing of the first `start` points, then write more and more."""
    present = dict(await index.owners(limit=10**6))
    say("lost", sum(1 for point in make_points(start) if present.get(point.owner_id) != 2))
    say("unhealthy", int(not (await index.status()).healthy))
    for number in range(start, start + 100_000, BATCH):
        await index.apply(make_points(BATCH, start=number))
        say("applied", number + BATCH)
        if number % (10 * BATCH) == 0:
            await index.flush()
            say("flushed", number + BATCH)


async def rebuild(index: EdgeIndex, start: int) -> None:
    for number in range(start, start + 1000):
        say("building", number)
        await index.rebuild(stream(make_points(100, tag=f"version-{number}")))
        say("built", number)


async def hold(index: EdgeIndex, _start: int) -> None:
    say("open", (await index.status()).points)
    await asyncio.Event().wait()


async def optimize(index: EdgeIndex, _start: int) -> None:
    await index.apply(make_points(4000, dimension=SPACE.dimension))
    while True:
        say("optimizing")
        await index.optimize()


async def supervise(directory: Path) -> None:
    index = await SupervisedIndex.open(directory, SPACE)
    await index.apply(make_points(40))
    say("process", index.process().pid)
    await asyncio.Event().wait()


async def main(mode: str, directory: str, start: int) -> None:
    if mode == "supervise":
        await supervise(Path(directory))
    index = await EdgeIndex.open(Path(directory), SPACE)
    await {"apply": apply, "rebuild": rebuild, "hold": hold, "optimize": optimize}[mode](index, start)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
