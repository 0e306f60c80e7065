"""A progress bar on a terminal, silence elsewhere."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_UNITS = {"reading": "bytes", "words": "entries", "learning": "exchanges", "backfill": "entries"}


@contextmanager
def progress_bar(*, wanted: bool) -> Iterator[Callable[[str, int, int], None]]:
    """Yield a function `(stage, done, total)`; shows stage, share, rate and time left on a terminal."""
    if not wanted or not sys.stderr.isatty():
        yield lambda _stage, _done, _total: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description:<9}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[unit]}, {task.fields[rate]}/s, left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        tasks = {}

        def show(stage: str, done: int, total: int) -> None:
            if stage not in tasks:
                tasks[stage] = bar.add_task(stage, total=total or None, unit=_UNITS.get(stage, ""), rate="–")
            speed = bar.tasks[bar.task_ids.index(tasks[stage])].speed
            rate = f"{speed:,.0f}" if speed else "–"
            bar.update(tasks[stage], completed=done, total=max(total, done) or None, rate=rate)

        yield show
