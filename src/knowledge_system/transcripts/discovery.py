"""Which files below some paths may be transcripts."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from knowledge_system.domain.sessions import SkippedFile

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

SUFFIXES = {"", ".jsonl", ".json", ".md", ".markdown", ".txt", ".history"}
"""Endings of files that are tried inside a directory; a file named by the caller is always tried."""

LEFT_OUT = {
    ".git", ".hg", ".svn", "node_modules", ".venv", "venv", "__pycache__", ".mypy_cache", ".ruff_cache",
    ".pytest_cache", ".tox", ".cache", "site-packages",
}  # fmt: skip


def discover(paths: Iterable[Path]) -> Iterator[Path | SkippedFile]:
    """Yield the files to try, each once, sorted by name within every directory; links are followed, loops are not."""
    seen: set[tuple[int, int]] = set()
    for path in paths:
        yield from _visit(Path(path), seen, named=True)


def _visit(path: Path, seen: set[tuple[int, int]], *, named: bool) -> Iterator[Path | SkippedFile]:
    try:
        status = path.stat()
    except FileNotFoundError:
        yield SkippedFile(
            str(path), "does not exist: check the path" if named else "is a link to nothing: remove or repair it"
        )
        return
    except (OSError, ValueError) as error:
        yield SkippedFile(str(path), _denied(error))
        return
    if problem := unusable_name(path):
        yield SkippedFile(ascii(str(path)), problem)
        return
    key = (status.st_dev, status.st_ino)
    if stat.S_ISDIR(status.st_mode):
        if key in seen:
            if path.is_symlink():
                yield SkippedFile(str(path), "is a link to a folder already visited: nothing to do")
            return
        seen.add(key)
        yield from _inside(path, seen)
    elif not stat.S_ISREG(status.st_mode):
        if named:
            yield SkippedFile(str(path), "is no regular file: name a file or a folder")
    elif key not in seen:
        seen.add(key)
        yield path


def _inside(folder: Path, seen: set[tuple[int, int]]) -> Iterator[Path | SkippedFile]:
    try:
        with os.scandir(folder) as entries:
            names = sorted(entry.name for entry in entries)
    except OSError as error:
        yield SkippedFile(str(folder), _denied(error))
        return
    for name in names:
        path = folder / name
        if name not in LEFT_OUT and (path.is_dir() or _suffix(name) in SUFFIXES):
            yield from _visit(path, seen, named=False)


def _suffix(name: str) -> str:
    """Return the ending in lower case; none for names such as `.aider` that consist of one."""
    return Path(name).suffix.lower()


def unusable_name(path: Path) -> str:
    """Return why a path cannot be recorded, empty when it can."""
    try:
        str(path).encode("utf-8")
    except UnicodeEncodeError:
        return "has a name that is not UTF-8: rename it"
    return ""


def _denied(error: OSError | ValueError) -> str:
    reason = getattr(error, "strerror", None) or str(error)
    return f"cannot be read ({reason}): check its permissions"
