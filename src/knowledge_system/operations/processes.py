"""Several processes, one scrape: each writes its counters to files in `PROMETHEUS_MULTIPROC_DIR`, any of them adds up.

What a process counted stays when it ends; its files are folded into one, so that there are never many more files than
processes. Without any living process everything begins at zero, as after a restart of a single one.
"""

from __future__ import annotations

import fcntl
import os
from collections import defaultdict
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from prometheus_client.mmap_dict import MmapedDict

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

VARIABLE: Final = "PROMETHEUS_MULTIPROC_DIR"
GONE: Final = "gone"
"""Stands for the process in the name of a file that holds what ended processes counted."""


def shared_directory() -> Path | None:
    """Return the directory that processes share, created when it is missing; None where each is scraped by itself."""
    named = os.environ.get(VARIABLE)
    if not named:
        return None
    path = Path(named)
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    return path


@contextmanager
def reading(directory: Path) -> Iterator[None]:
    """Keep the files as they are until the end of the block."""
    with _locked(directory, fcntl.LOCK_SH):
        yield


def fold(directory: Path) -> None:
    """Fold the files of ended processes. Waits while another process reads them, or does the same."""
    with _locked(directory, fcntl.LOCK_EX):
        ended = defaultdict(list)
        alive = False
        for path in directory.glob("*.db"):
            kind, _, process = path.stem.rpartition("_")
            if process == GONE or not _is_alive(process):
                ended[kind].append(path)
            else:
                alive = True
        for kind, paths in ended.items():
            _fold(directory / f"{kind}_{GONE}.db", paths, keep=alive and not kind.startswith("gauge_live"))


@contextmanager
def _locked(directory: Path, how: int) -> Iterator[None]:
    with (directory / "lock").open("a") as lock:
        fcntl.flock(lock, how)
        yield


def _fold(target: Path, paths: Iterable[Path], *, keep: bool) -> None:
    """Replace `paths` by one file with their sums, highest values for gauges, or by nothing."""
    if keep:
        values: dict[str, float] = {}
        for path in paths:
            for key, value, _, _ in MmapedDict.read_all_values_from_file(path):  # type: ignore[no-untyped-call]
                known = values.get(key)
                highest = target.name.startswith("gauge_")
                values[key] = value if known is None else max(known, value) if highest else known + value
        fresh = target.with_suffix(".new")
        fresh.unlink(missing_ok=True)
        written = MmapedDict(str(fresh))  # type: ignore[no-untyped-call]
        for key, value in values.items():
            written.write_value(key, value, 0.0)  # type: ignore[no-untyped-call]
        written.close()  # type: ignore[no-untyped-call]
        fresh.replace(target)
    for path in paths:
        if not keep or path != target:
            path.unlink(missing_ok=True)


def _is_alive(process: str) -> bool:
    try:
        os.kill(int(process), 0)
    except PermissionError:  # somebody else's, but alive
        return True
    except (ValueError, OSError):
        return False
    return True
