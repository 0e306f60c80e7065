"""Our own checksums of a generation's files, because the engine has none, and the marker that says they hold.

A generation is *clean* while its files are exactly what the manifest says: after a flush, until the next write. A
generation that is not clean was left by a crash; only files untouched since the last flush can be judged then.
"""

from __future__ import annotations

import hashlib
import json
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Final

from knowledge_system.storage.index_files import digest, files_below, replace_file, sync_directory, times_follow_maps

if TYPE_CHECKING:
    import os
    from pathlib import Path

SHARD: Final = "shard"
_MANIFEST: Final = "manifest.json"
_CLEAN: Final = "clean"
_TICK_NS: Final = 20_000_000
"""File systems stamp times with the granularity of a kernel tick, at most 10 ms: a file hashed within two ticks of its
last change may have changed again under the same time, so its digest is not reused."""


@dataclass(frozen=True, slots=True)
class Entry:
    """What is known of one file. `settled` allows reusing the digest while size and time stay the same."""

    size: int
    mtime_ns: int
    sha256: str
    settled: bool


def refresh(generation: Path) -> None:
    """Write the manifest of the flushed shard and mark the generation clean. Only changed files are read."""
    times_tell = _times_tell(generation)
    known = (read(generation) or {}) if times_tell else {}
    entries: dict[str, Entry] = {}
    for name, path in _present(generation).items():
        facts = path.stat()
        entry = known.get(name)
        if entry is None or not _untouched(facts, entry):
            settled = times_tell and time.time_ns() - facts.st_mtime_ns > _TICK_NS
            entry = Entry(facts.st_size, facts.st_mtime_ns, digest(path), settled)
        entries[name] = entry
    content = json.dumps({name: asdict(entry) for name, entry in entries.items()}).encode()
    replace_file(generation / _MANIFEST, content)
    replace_file(generation / _CLEAN, hashlib.sha256(content).hexdigest().encode())


def _present(generation: Path) -> dict[str, Path]:
    shard = generation / SHARD
    return {str(path.relative_to(shard)): path for path in files_below(shard)}


def _untouched(facts: os.stat_result, entry: Entry) -> bool:
    return entry.settled and (facts.st_size, facts.st_mtime_ns) == (entry.size, entry.mtime_ns)


_told: dict[int, bool] = {}
"""Whether times can be trusted, by device: probed once in a process."""


def _times_tell(generation: Path) -> bool:
    device = generation.stat().st_dev
    if device not in _told:
        _told[device] = times_follow_maps(generation)
    return _told[device]


def read(generation: Path) -> dict[str, Entry] | None:
    """Return the entries by path relative to the shard, None when there is no readable manifest."""
    try:
        stored = json.loads((generation / _MANIFEST).read_bytes())
        return {name: Entry(**facts) for name, facts in stored.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return None


def is_clean(generation: Path) -> bool:
    """Return whether the generation was flushed and not written since, by its marker."""
    try:
        content = (generation / _MANIFEST).read_bytes()
        return (generation / _CLEAN).read_text(encoding="ascii") == hashlib.sha256(content).hexdigest()
    except (OSError, ValueError):
        return False


def mark_dirty(generation: Path) -> None:
    """Remove the marker, durably: from here on the shard may differ from its manifest."""
    (generation / _CLEAN).unlink(missing_ok=True)
    sync_directory(generation)


def differences(generation: Path, *, untouched_only: bool = False) -> list[str]:
    """Compare the files with the manifest and return what differs, empty when nothing does.

    With `untouched_only` files that are new, gone, or changed by size or time are no difference: the state after a
    crash, where a changed file may have been written rightly.
    """
    known = read(generation)
    if known is None:
        return [] if untouched_only else ["the manifest is missing or unreadable"]
    present = _present(generation)
    if untouched_only:
        judged = [name for name in known if name in present and _untouched(present[name].stat(), known[name])]
    else:
        judged = [name for name in known if name in present]
    changed = [f"{name}: content changed" for name in judged if digest(present[name]) != known[name].sha256]
    if untouched_only:
        return changed
    gone = [f"{name}: missing" for name in known if name not in present]
    new = [f"{name}: unexpected file" for name in present if name not in known]
    return [*gone, *new, *changed]
