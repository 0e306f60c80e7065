"""Many at once: callers in one process, several processes, and callers that give up."""

from __future__ import annotations

import asyncio

from sqlalchemy import text
from tests.storage.samples import HandClock, drain, evidence, exchange, item, save, waiting

from knowledge_system.domain.truth import Learned
from knowledge_system.storage.database import Database


async def test_writers_and_readers_of_one_process(database: Database) -> None:
    truth = database.truth()
    names = [f"{number:03}" for number in range(60)]
    results = await asyncio.gather(
        *(save(truth, exchange(name), exchange("shared")) for name in names),
        *(truth.exchanges.unlearned(10) for _ in names),
        *(truth.ledger.record_event("tick", {"n": 1}) for _ in names),
    )
    new = [key for one in results[: len(names)] for key in one.new]  # type: ignore[union-attr]
    assert sorted(new) == sorted([f"x{name}" for name in names] + ["xshared"])
    assert await truth.ledger.check() == []


async def test_two_processes_agree_on_who_was_first(url: str) -> None:
    opened = [await Database.open(url, HandClock()) for _ in range(2)]
    names = [f"{number:02}" for number in range(30)]
    saves = [save(one.truth(), *(exchange(name) for name in names[n : n + 10])) for n in range(20) for one in opened]
    new = [key for saved in await asyncio.gather(*saves) for key in saved.new]
    assert len(new) == len(set(new)) == len({name for n in range(20) for name in names[n : n + 10]})
    for one in opened:
        await one.close()


async def test_two_processes_reinforce_without_losing_evidence(url: str) -> None:
    opened = [await Database.open(url, HandClock()) for _ in range(2)]
    names = [f"{number:02}" for number in range(20)]
    await save(opened[0].truth(), exchange("a"), *(exchange(name) for name in names))
    await opened[0].truth().items.learn(Learned(judged={}, created=(item("1"),)))
    await asyncio.gather(
        *(
            opened[n % 2].truth().items.learn(Learned(judged={}, reinforced=(("k1", (evidence(name),), 0.9),)))
            for n, name in enumerate(names)
        )
    )
    found = (await opened[0].truth().items.get(["k1"]))["k1"]
    assert (found.support, len(found.evidence)) == (21, 21)
    for one in opened:
        await one.close()


async def test_a_reader_sees_one_moment(database: Database) -> None:
    truth = database.truth()
    await save(truth, exchange("a"))
    async with database.connections.read() as connection:
        if not database.connections.sqlite:
            await connection.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ"))
        before = await connection.scalar(text("SELECT count(*) FROM exchanges"))
        await save(truth, exchange("b"))
        assert await connection.scalar(text("SELECT count(*) FROM exchanges")) == before == 1


async def test_a_caller_that_gives_up_leaves_nothing_half_done(database: Database) -> None:
    truth = database.truth()
    for rounds in range(12):
        names = [f"{rounds}-{number}" for number in range(300)]
        task = asyncio.create_task(save(truth, *(exchange(name) for name in names)))
        for _ in range(rounds * 3):
            await asyncio.sleep(0)  # let it get a little further each time
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        stored = await truth.exchanges.get([f"x{name}" for name in names])
        assert len(stored) in {0, 300}
        assert (await save(truth, exchange(f"after-{rounds}"))).new == (f"xafter-{rounds}",)
    assert await truth.ledger.check() == []


async def test_an_error_inside_a_transaction_undoes_it(database: Database) -> None:
    await save(database.truth(), exchange("a"))
    await drain(database.truth())
    try:
        async with database.connections.write() as connection:
            await connection.execute(text("DELETE FROM exchanges"))
            raise ZeroDivisionError  # noqa: TRY301 -- what a defect would do
    except ZeroDivisionError:
        pass
    assert list(await database.truth().exchanges.get(["xa"])) == ["xa"]
    assert await waiting(database.truth()) == set()
