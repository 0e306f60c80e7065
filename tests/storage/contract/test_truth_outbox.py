"""What every implementation of `Outbox` promises."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.storage.samples import drain, exchange, item, save, waiting

from knowledge_system.domain.truth import Learned

if TYPE_CHECKING:
    from knowledge_system.domain.truth import Truth


async def test_entries_come_oldest_first(truth: Truth) -> None:
    await save(truth, exchange("b"))
    await save(truth, exchange("a"), exchange("c"))
    entries = await truth.outbox.pending("words", 2)
    assert [(one.owner_id, one.stage) for one in entries] == [("xb", "words"), ("xa", "words")]
    assert [one.sequence for one in entries] == sorted(one.sequence for one in entries)


async def test_entries_move_from_words_to_vectors_and_out(truth: Truth) -> None:
    await save(truth, exchange("a"), exchange("b"))
    await truth.outbox.advance(await truth.outbox.pending("words", 1), "vectors")
    assert await truth.outbox.depth() == {"words": 1, "vectors": 1}
    await truth.outbox.advance(await truth.outbox.pending("vectors", 9), None)
    assert await truth.outbox.depth() == {"words": 1}


async def test_an_owner_that_changed_meanwhile_starts_over(truth: Truth) -> None:
    await save(truth, exchange("a"))
    entries = await truth.outbox.pending("words", 9)
    await save(truth, exchange("a", assistant="answer a has grown"))
    await truth.outbox.advance(entries, "vectors")
    await truth.outbox.advance(entries, None)
    (entry,) = await truth.outbox.pending("words", 9)
    assert entry.sequence > entries[0].sequence
    assert await truth.outbox.depth() == {"words": 1}


async def test_a_change_takes_an_owner_back_to_words(truth: Truth) -> None:
    await save(truth, exchange("a"))
    await truth.outbox.advance(await truth.outbox.pending("words", 9), "vectors")
    await save(truth, exchange("a", assistant="answer a has grown"))
    assert await truth.outbox.depth() == {"words": 1}


async def test_a_number_is_never_used_again(truth: Truth) -> None:
    await save(truth, exchange("a"))
    (first,) = await truth.outbox.pending("words", 9)
    await drain(truth)
    await save(truth, exchange("a", assistant="answer a has grown"))
    await truth.outbox.advance([first], None)
    assert await waiting(truth) == {"xa"}


async def test_nothing_to_advance_is_fine(truth: Truth) -> None:
    await truth.outbox.advance([], "vectors")
    assert await truth.outbox.depth() == {}


async def test_every_living_owner_can_be_entered(truth: Truth) -> None:
    await save(truth, exchange("a"), exchange("b"))
    await truth.items.learn(Learned(judged={}, created=(item("1"), item("2"))))
    await truth.items.forget(["k2"])
    await drain(truth)
    assert await truth.outbox.fill("words") == 3
    assert await waiting(truth) == {"xa", "xb", "k1"}


async def test_filling_vectors_does_not_skip_the_words(truth: Truth) -> None:
    await save(truth, exchange("a"))
    await drain(truth)
    await save(truth, exchange("b"))
    assert await truth.outbox.fill("vectors") == 2
    assert (await waiting(truth, "words"), await waiting(truth, "vectors")) == ({"xb"}, {"xa"})


async def test_filling_words_takes_everything_back(truth: Truth) -> None:
    await save(truth, exchange("a"))
    entries = await truth.outbox.pending("words", 9)
    await truth.outbox.advance(entries, "vectors")
    await truth.outbox.fill("words")
    await truth.outbox.advance(entries, None)
    assert await waiting(truth) == {"xa"}
