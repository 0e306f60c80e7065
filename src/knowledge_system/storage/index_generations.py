"""Where a collection of one embedding space lives, and which of its generations is the valid one.

::

    <directory>/<collection>-<space digest>/
        lock        flock of the process that has the collection open
        current     pointer, replaced atomically: {"generation": "g000002", "rebuild": "why it must be, or empty"}
        space       the embedding space in clear text
        g000002/    shard/ (the engine's files), manifest.json, clean
        g000003/    not pointed at: being built, or left by a crash and removed at the next open
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Final

from knowledge_system.domain.errors import Busy
from knowledge_system.storage.index_files import replace_file, usable

if TYPE_CHECKING:
    from pathlib import Path

    from knowledge_system.domain.embedding import EmbeddingSpace

_POINTER: Final = "current"


@dataclass(frozen=True, slots=True)
class Pointer:
    """The valid generation, and why it has to be rebuilt from the truth (empty when it has not)."""

    generation: str
    rebuild: str = ""


def place_of(directory: Path, space: EmbeddingSpace) -> Path:
    """Return where below `directory` the collection of a space lives."""
    digest = hashlib.sha256(space.key.encode()).hexdigest()[:12]
    return directory / f"{space.collection}-{digest}"


def remove_other_spaces(directory: Path, space: EmbeddingSpace) -> int:
    """Remove the files of other spaces of the same collection: nobody follows them, so they would keep what is erased.

    They can be rebuilt from the truth when their model is chosen again. Returns how many there were.
    """
    others = [path for path in directory.glob(f"{space.collection}-*") if path != place_of(directory, space)]
    for path in others:
        shutil.rmtree(path, ignore_errors=True)
    return len(others)


def remove_all(directory: Path) -> int:
    """Remove every collection below `directory`: a server has the index now, and nobody follows these any more."""
    found = [path for path in directory.glob("knowledge_*-*") if path.is_dir()]
    for path in found:
        shutil.rmtree(path, ignore_errors=True)
    return len(found)


class Generations:
    """The directory of one collection and space, held by this process until `release`."""

    def __init__(self, directory: Path, space: EmbeddingSpace) -> None:
        self.root = place_of(directory, space)
        self._space = space
        self._lock: int | None = None

    def acquire(self) -> None:
        """Create the directory if needed and lock it. Raises Busy or DependencyUnavailable."""
        with usable(self.root):
            self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(self.root / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            raise Busy(
                f"the index in {self.root} is open in another process",
                hint="Use the running service, or stop it first (`knowledge status` shows it).",
            ) from None
        self._lock = descriptor

    def release(self) -> None:
        """Give the lock back; harmless without one."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def pointer(self) -> Pointer | None:
        """Return what the pointer says, None when there is none or it cannot be read."""
        try:
            stored = json.loads((self.root / _POINTER).read_bytes())
            pointer = Pointer(str(stored["generation"]), str(stored["rebuild"]))
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return pointer if self.path(pointer.generation).is_dir() else None

    def point_at(self, pointer: Pointer) -> None:
        """Replace the pointer: from here on, also after a crash, that generation is the valid one."""
        with usable(self.root):
            replace_file(self.root / _POINTER, json.dumps(asdict(pointer)).encode())
            (self.root / "space").write_text(self._space.key, encoding="utf-8")

    def path(self, generation: str) -> Path:
        """Return the directory of a generation."""
        return self.root / generation

    def fresh(self) -> str:
        """Return a name that no generation has yet; its directory does not exist."""
        numbers = [int(path.name[1:]) for path in self.root.glob("g*") if path.name[1:].isdigit()]
        return f"g{max(numbers, default=0) + 1:06d}"

    def remove(self, generation: str) -> None:
        """Remove a generation that nothing points at."""
        shutil.rmtree(self.path(generation), ignore_errors=True)

    def remove_others(self, keep: str) -> None:
        """Remove every generation and scratch file except `keep`: what crashes left."""
        for path in self.root.iterdir():
            if path.is_dir() and path.name != keep:
                shutil.rmtree(path, ignore_errors=True)
            elif path.suffix == ".new":
                with contextlib.suppress(OSError):
                    path.unlink()
