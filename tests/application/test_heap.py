"""Freed memory goes back to the system while the block runs, and nothing is left running after it."""

from __future__ import annotations

import asyncio
import ctypes
from pathlib import Path

import pytest

from knowledge_system.application.heap import give_back, trimmed_heap

PAGES = Path("/proc/self/statm")
TEXTS, LENGTH = 60_000, 1_000
pytestmark = pytest.mark.skipif(
    not PAGES.exists() or not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="needs Linux and glibc"
)


def resident_pages() -> int:
    return int(PAGES.read_text("ascii").split()[1])


def holes() -> list[str]:
    """Return a few texts that lie between many that were freed."""
    texts = [str(number).rjust(LENGTH) for number in range(TEXTS)]
    return texts[::500]


async def test_pages_between_living_texts_are_returned() -> None:
    living = holes()
    held = resident_pages()
    half = TEXTS * LENGTH // 4096 // 2
    async with trimmed_heap(every=0.01), asyncio.timeout(30):
        while await asyncio.to_thread(resident_pages) > held - half:
            pass
    assert len(living) == TEXTS // 500


async def test_the_end_of_the_block_returns_them_too() -> None:
    living = holes()
    held = resident_pages()
    async with trimmed_heap(every=3600):
        pass
    assert resident_pages() < held - TEXTS * LENGTH // 4096 // 2
    assert living


async def test_a_service_returns_them_from_time_to_time() -> None:
    living = holes()
    held = resident_pages()
    await give_back()
    assert resident_pages() < held - TEXTS * LENGTH // 4096 // 2
    assert living


async def test_nothing_runs_on_and_errors_pass() -> None:
    before = asyncio.all_tasks()
    with pytest.raises(ValueError, match="inside"):
        async with trimmed_heap():
            raise ValueError("inside")
    assert asyncio.all_tasks() == before
