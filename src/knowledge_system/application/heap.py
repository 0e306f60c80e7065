"""How memory is cleared away: freed pages go back to the system, a service collects seldom.

Texts of megabytes come and go; the C library keeps the pages they leave behind, because small blocks that live on lie
between them. Measured with a file of 400 MB in exchanges of 1 MB: 742 MB held, 289 MB in use.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import gc
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

TRIM_EVERY: Final = 2.0
"""Seconds between two returns; one takes some milliseconds, during which threads that need memory may wait."""
SELDOM: Final = (20_000, 20, 20)
"""Thresholds of the collector in a service. A search makes thousands of short-lived objects and hardly a cycle: with
32 clients on two cores the usual (700, 10, 10) cost a tenth to a fifth of all requests a second."""


ARENAS: Final = 4
"""Pools of memory of a service's threads: with one for each of thirty threads, what is free in one serves no other."""
_ARENA_MAX: Final = -8
"""glibc's `M_ARENA_MAX`."""


def few_arenas() -> None:
    """Let the threads of this process share pools of memory, where the C library has pools; before threads start."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).mallopt(_ARENA_MAX, ARENAS)


async def give_back() -> None:
    """Return freed memory to the system now, where the system can."""
    trim = _trimmer()
    if trim is not None:
        await asyncio.to_thread(trim)


def collect_seldom() -> None:
    """Let the collector leave what a started service consists of alone, and look at the rest less often."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*SELDOM)


@asynccontextmanager
async def trimmed_heap(every: float = TRIM_EVERY) -> AsyncIterator[None]:
    """Return freed memory `every` so many seconds until the block ends, and once more then, where the system can."""
    trim = _trimmer()
    if trim is None:
        yield
        return
    work = asyncio.create_task(_regularly(trim, every))
    try:
        yield
    finally:
        work.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await work
        await asyncio.to_thread(trim)


async def _regularly(trim: Callable[[], object], every: float) -> None:
    while True:
        await asyncio.sleep(every)
        await asyncio.to_thread(trim)


def _trimmer() -> Callable[[], object] | None:
    """Return a call that gives freed pages back; None where the C library has none (it is one of glibc)."""
    try:
        trim = ctypes.CDLL(None).malloc_trim
    except (OSError, AttributeError):
        return None
    trim.argtypes = [ctypes.c_size_t]
    return lambda: trim(0)
