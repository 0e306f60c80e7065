"""Batches of texts of similar length: little padding, bounded memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


def length_buckets(lengths: Sequence[int], batch_size: int, token_budget: int) -> Iterator[list[int]]:
    """Yield the indices of all texts, shortest first, in batches.

    A batch has at most `batch_size` texts and, padded to its longest, at most `token_budget` tokens; a single text that
    exceeds the budget is a batch of its own.
    """
    batch: list[int] = []
    for index in sorted(range(len(lengths)), key=lengths.__getitem__):
        if batch and (len(batch) == batch_size or (len(batch) + 1) * lengths[index] > token_budget):
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch
