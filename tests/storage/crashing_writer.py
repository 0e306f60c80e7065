"""A process that saves, learns, forgets and drains until it is killed; each finished round is a line of output."""

from __future__ import annotations

import asyncio
import sys

from tests.storage.samples import SPACE, evidence, exchange, item, save, vector

from knowledge_system.domain.clock import SystemClock
from knowledge_system.domain.truth import Learned
from knowledge_system.storage.database import Database


async def work(url: str, run: int) -> None:
    """Write without end."""
    truth = (await Database.open(url, SystemClock())).truth()
    number = 0
    while True:
        names = [f"{run}-{number}-{part}" for part in range(20)]
        await save(truth, *(exchange(name, user="word " * 300) for name in names))
        items = tuple(item(name, name) for name in names[:5])
        agreement = (f"k{names[0]}", (evidence(names[1]),), 0.9)
        await truth.items.learn(
            Learned(
                judged={f"x{name}": "item" for name in names},
                created=items,
                reinforced=(agreement,),
                superseded=((f"k{names[1]}", f"k{names[2]}"),),
            )
        )
        await truth.vectors.put(SPACE, {name: vector() for name in names})
        await truth.vectors.refer({f"x{name}": [name] for name in names})
        await truth.outbox.advance(await truth.outbox.pending("words", 10), "vectors")
        await truth.outbox.advance(await truth.outbox.pending("vectors", 5), None)
        await truth.exchanges.forget([f"x{names[3]}"])
        print(number, flush=True)  # noqa: T201 -- what the parent waits for
        number += 1


if __name__ == "__main__":
    asyncio.run(work(sys.argv[1], int(sys.argv[2])))
