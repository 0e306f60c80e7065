"""Documents of a session that overlap: each exchange is stored once, and none that was really said is lost."""

from __future__ import annotations

import asyncio
import json
import sys

import pytest
from tests.storage.arriving_process import AT, deliver, document
from tests.storage.samples import exchange, save

from knowledge_system.domain.sessions import Exchange, exchange_id
from knowledge_system.domain.truth import Page, Truth

Said = tuple[str, ...]
FIX, TEST, MORE = ("fix it", "The pool leaked."), ("test it", "2 passed"), ("continue", "done")
AGAIN, LAST = ("continue", "and the other"), ("commit", "committed abc1234")


async def stored(truth: Truth, session: str = "s1") -> list[Exchange]:
    found, _ = await truth.exchanges.page(Page(limit=200, session_id=session))
    return sorted(found, key=lambda one: one.index)


async def told(truth: Truth, *said: Said, session: str = "s1") -> tuple[int, int, int]:
    """Deliver; return how many were new, known and updated."""
    saved = (await deliver(truth, document(*said, session=session))).saved
    return len(saved.new), len(saved.known), len(saved.updated)


async def texts(truth: Truth, session: str = "s1") -> list[Said]:
    return [(one.user, one.assistant) for one in await stored(truth, session)]


async def test_a_session_that_grows_is_stored_once(truth: Truth) -> None:
    assert await told(truth, FIX, TEST) == (2, 0, 0)
    assert await told(truth, FIX, TEST, MORE, AGAIN) == (2, 2, 0)
    assert await told(truth, FIX, TEST, MORE, AGAIN, MORE, LAST) == (2, 4, 0)
    assert await texts(truth) == [FIX, TEST, MORE, AGAIN, MORE, LAST]
    assert [one.index for one in await stored(truth)] == list(range(6))


async def test_windows_that_overlap_are_put_together(truth: Truth) -> None:
    assert await told(truth, FIX, TEST, MORE) == (3, 0, 0)
    assert await told(truth, TEST, MORE, AGAIN) == (1, 2, 0)
    assert await told(truth, AGAIN, LAST) == (1, 1, 0)
    assert await told(truth, TEST, MORE) == (0, 2, 0), "an earlier window, sent late"
    assert await texts(truth) == [FIX, TEST, MORE, AGAIN, LAST]


async def test_only_what_is_new_may_be_sent_and_the_same_prompt_stays_another_exchange(truth: Truth) -> None:
    for said in (FIX, MORE, TEST, AGAIN, MORE):
        await told(truth, said)
    assert await texts(truth) == [FIX, MORE, TEST, AGAIN], "the very same document again is a repetition"
    assert await told(truth, MORE, LAST) == (2, 0, 0), "in another document it is not"
    assert await texts(truth) == [FIX, MORE, TEST, AGAIN, MORE, LAST]


async def test_a_short_prompt_that_occurs_twice_in_a_session_is_kept_twice(truth: Truth) -> None:
    assert await told(truth, FIX, MORE, MORE) == (3, 0, 0)
    assert await told(truth, FIX, MORE, MORE, MORE, LAST) == (2, 3, 0)
    assert await texts(truth) == [FIX, MORE, MORE, MORE, LAST]


async def test_an_answer_that_was_continued_replaces_its_beginning(truth: Truth) -> None:
    await told(truth, FIX, ("test it", "running"))
    (before,) = [one for one in await stored(truth) if one.user == "test it"]
    assert await told(truth, FIX, ("test it", "running … 2 passed"), LAST) == (1, 1, 1)
    assert await texts(truth) == [FIX, ("test it", "running … 2 passed"), LAST]
    after = (await stored(truth))[1]
    assert (after.id, after.timestamp) == (before.id, before.timestamp)
    assert await told(truth, FIX, ("test it", "run")) == (0, 2, 0), "an older state, sent late"
    assert await told(truth, ("clean up", "")) == (1, 0, 0)
    assert await told(truth, ("clean up", "cleaned")) == (0, 0, 1)


async def test_another_answer_to_the_same_prompt_is_another_exchange(truth: Truth) -> None:
    await told(truth, FIX, TEST, MORE)
    assert await told(truth, FIX, ("test it", "1 failed"), MORE, LAST) == (2, 2, 0)
    assert await told(truth, FIX, ("test it", "1 failed"), MORE, LAST, AGAIN) == (1, 4, 0)
    assert sorted(await texts(truth)) == sorted([FIX, TEST, MORE, ("test it", "1 failed"), LAST, AGAIN])


async def test_what_the_client_left_out_meanwhile_stays(truth: Truth) -> None:
    await told(truth, FIX, TEST, MORE, AGAIN)
    assert await told(truth, FIX, MORE, AGAIN, LAST) == (1, 3, 0)
    assert await texts(truth) == [FIX, TEST, MORE, AGAIN, LAST]


async def test_times_tell_what_texts_cannot(truth: Truth) -> None:
    first, second = (*MORE, "2026-05-01T10:00:00Z"), (*MORE, "2026-05-01T10:05:00Z")
    assert await told(truth, first) == (1, 0, 0)
    assert await told(truth, second) == (1, 0, 0), "said twice"
    assert await told(truth, (*LAST, "2026-05-01T10:09:00Z"), first) == (1, 1, 0), "said once, wherever it stands"
    grown = (LAST[0], LAST[1] + " and pushed", "2026-05-01T10:10:00Z")
    assert await told(truth, second, grown) == (0, 1, 1), "the open end of a session got a later time"
    assert len(await stored(truth)) == 3


async def test_what_has_no_time_gets_that_of_its_delivery_and_keeps_it(truth: Truth) -> None:
    await told(truth, FIX)
    await told(truth, (FIX[0], FIX[1] + " Closed."), (*LAST, "2026-05-01T10:00:00Z"))
    assert [one.timestamp == AT for one in await stored(truth)] == [True, False]


async def test_a_session_without_an_id_is_known_by_how_it_begins(truth: Truth) -> None:
    first = await deliver(truth, document(FIX, TEST, session=""))
    grown = await deliver(truth, document(FIX, TEST, LAST, session=""))
    other = await deliver(truth, document(FIX, MORE, LAST, session=""))
    again = await deliver(truth, document(FIX, MORE, LAST, AGAIN, session=""))
    assert (grown.session_id, len(grown.saved.new)) == (first.session_id, 1)
    assert other.session_id == again.session_id != first.session_id
    assert await texts(truth, first.session_id) == [FIX, TEST, LAST]
    assert await texts(truth, other.session_id) == [FIX, MORE, LAST, AGAIN]


async def test_what_was_forgotten_stays_forgotten(truth: Truth) -> None:
    await told(truth, FIX, TEST, MORE)
    await truth.exchanges.forget([(await stored(truth))[1].id])
    assert await told(truth, FIX, TEST, MORE, TEST, LAST) == (2, 3, 0)
    assert await told(truth, FIX, (TEST[0], TEST[1] + " in 3 s"), MORE) == (0, 3, 0)
    assert await texts(truth) == [FIX, MORE, TEST, LAST], "said again later it is another exchange"


async def test_another_door_may_have_stored_a_part_of_the_session(truth: Truth) -> None:
    known = [
        exchange(user=user, assistant=answer, id=exchange_id("s1", user, 0), index=index)
        for index, (user, answer) in enumerate([FIX, MORE])
    ]
    await save(truth, *known)
    assert await told(truth, FIX, MORE, LAST) == (1, 2, 0)
    assert await told(truth, ("continue", "something else altogether")) == (1, 0, 0), "never in place of another"
    assert len(await stored(truth)) == 4


async def test_secrets_are_compared_as_they_are_stored(truth: Truth) -> None:
    token = "ghp_" + "a1B2c3D4e5" * 4
    said = (f"use {token}", f"{token[:8]}… is set")
    assert await told(truth, said, TEST) == (2, 0, 0)
    assert await told(truth, said, TEST, said, LAST) == (2, 2, 0)
    kept = json.dumps((await truth.ingest.source("http:any/s1")).resume)  # type: ignore[union-attr]
    assert token not in kept
    assert all(token not in one.user for one in await stored(truth))


async def test_deliveries_at_once_are_stored_once(truth: Truth) -> None:
    growing = [[FIX, TEST, MORE, AGAIN, MORE, LAST][:count] for count in (2, 6, 3, 1, 5, 4, 6)]
    await asyncio.gather(*(told(truth, *said) for said in growing))
    assert await texts(truth) == [FIX, TEST, MORE, AGAIN, MORE, LAST]


async def test_processes_that_send_the_same_store_it_once(url: str) -> None:
    """Real processes: both begin at the same line of input, and neither knows of the other."""
    said = [(f"step {number % 3}", f"done {number}") for number in range(8)]
    for session in ("s1", ""):
        documents = json.dumps([document(*said[:count], session=session) for count in range(2, 9)])
        command = ["-m", "tests.storage.arriving_process", url, documents]
        pipes = {"stdin": asyncio.subprocess.PIPE, "stdout": asyncio.subprocess.PIPE}
        children = [await asyncio.create_subprocess_exec(sys.executable, *command, **pipes) for _ in range(2)]
        for child in children:
            assert child.stdout is not None
            assert await child.stdout.readline() == b"ready\n"
        outputs = await asyncio.gather(*(child.communicate(b"go\n") for child in children))
        new = [json.loads(out) for out, _ in outputs]
        assert sum(map(sum, new)) == len(said), new


@pytest.mark.parametrize("count", [1, 3])
async def test_a_delivery_that_crashed_before_it_was_noted_is_known_again(truth: Truth, count: int) -> None:
    for _ in range(2):
        await deliver(truth, document(*[FIX, TEST, MORE][:count]))
    assert len(await stored(truth)) == count
