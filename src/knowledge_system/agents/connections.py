"""Connecting and disconnecting: every touched file is backed up, and given back as it was."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from dataclasses import asdict, dataclass, replace
from difflib import unified_diff
from pathlib import Path
from typing import TYPE_CHECKING, Any

from knowledge_system.domain.errors import DependencyUnavailable

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from knowledge_system.agents.edits import Edit

SUFFIX = ".knowledge-backup"
VERSION = 1


@dataclass(frozen=True, slots=True)
class Touched:
    """One file: `existed` before, digest of what was written, the copy of what was there, folders made for it."""

    path: str
    existed: bool
    written: str
    backup: str
    made: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Connection:
    """One agent connected at one place (`project` empty: for the user)."""

    agent: str
    project: str
    executable: str
    at: str
    files: tuple[Touched, ...]
    transcripts: tuple[str, ...] = ()


class Registry:
    """What has been connected, as noted in the data directory."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def all(self) -> list[Connection]:
        """Return every connection; a broken note counts as none."""
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            raw = json.loads(self._path.read_text(encoding="utf-8"))
            return [_connection(one) for one in raw["connections"]]
        return []

    def find(self, agent: str, project: str) -> Connection | None:
        """Return the connection of an agent at a place."""
        return next((one for one in self.all() if (one.agent, one.project) == (agent, project)), None)

    def put(self, connection: Connection) -> None:
        """Note a connection in place of an earlier one of the same agent and place."""
        self._write([*self._others(connection), connection])

    def drop(self, connection: Connection) -> None:
        """Forget a connection."""
        self._write(self._others(connection))

    def _others(self, connection: Connection) -> list[Connection]:
        same = (connection.agent, connection.project)
        return [one for one in self.all() if (one.agent, one.project) != same]

    def _write(self, connections: Sequence[Connection]) -> None:
        content = {"version": VERSION, "connections": [asdict(one) for one in connections]}
        write(self._path, json.dumps(content, indent=2) + "\n", mode=0o600)


def differences(edits: Iterable[Edit]) -> list[str]:
    """Return what applying the edits would change, as unified diffs."""
    lines: list[str] = []
    for edit in edits:
        before = read(edit.path)
        after = edit.applied(before)
        if after != before:
            old, new = (before or "").splitlines(keepends=True), after.splitlines(keepends=True)
            lines.append("".join(unified_diff(old, new, str(edit.path), str(edit.path))))
    return lines


def apply(edits: Sequence[Edit], known: Connection | None) -> tuple[tuple[Touched, ...], list[str]]:
    """Write all edits; return the notes for taking them back, and the paths that really changed.

    Nothing is written when any of the files cannot be understood.
    """
    planned = [(edit, read(edit.path)) for edit in edits]
    contents = [(edit, before, edit.applied(before)) for edit, before in planned]
    earlier = {one.path: one for one in known.files} if known else {}
    notes, changed = [], []
    for edit, before, after in contents:
        path = str(edit.path)
        note = earlier.get(path) or Touched(path, before is not None, "", "", _missing(edit.path.parent))
        if after != before:
            changed.append(path)
            if path not in earlier and before is not None:
                note = replace(note, backup=_backup(edit.path, before))
            write(edit.path, after)
        notes.append(replace(note, written=_digest(after)))
    return tuple(notes), changed


def take_back(edits: Sequence[Edit], connection: Connection) -> list[str]:
    """Give every file back: as it was where nobody changed it since, else without our part; return what changed."""
    by_path = {str(edit.path): edit for edit in edits}
    changed = []
    for note in connection.files:
        path, text = Path(note.path), read(Path(note.path))
        if text is None:
            _forget(note.backup)
            continue
        untouched = _digest(text) == note.written
        edit = by_path.get(note.path)
        before = read(Path(note.backup)) if note.backup else None
        if untouched and (before is not None or not note.existed):
            rest = before
        else:
            rest = edit.removed(text) if edit else text
        if rest is None and note.existed:
            rest = "{}\n" if path.suffix == ".json" else ""
        if rest != text:
            changed.append(note.path)
            _give(path, rest, note.made)
        _forget(note.backup)
    return changed


def state(edits: Sequence[Edit]) -> dict[str, str]:
    """Return for each file whether our part is there: `connected`, `changed` (differs from ours), `missing`."""
    found = {}
    for edit in edits:
        text = read(edit.path)
        if text is None:
            found[str(edit.path)] = "missing"
            continue
        same = json.dumps(edit.applied(text)) == json.dumps(text)
        found[str(edit.path)] = "connected" if same else "changed"
    return found


def read(path: Path) -> str | None:
    """Return a file's text, None when there is none. Raises DependencyUnavailable when it cannot be read."""
    try:
        return path.read_bytes().decode("utf-8")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise DependencyUnavailable(
            f"cannot read {path}: {error}", hint="check its owner, mode and encoding"
        ) from error


def write(path: Path, text: str, mode: int | None = None) -> None:
    """Replace a file atomically, following a link to where it points, keeping its mode."""
    target = path.resolve()
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        kept = mode if mode is not None else (target.stat().st_mode & 0o777 if target.exists() else 0o644)
        part = target.with_name(f".{target.name}.knowledge-part")
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, kept)
        with os.fdopen(descriptor, "wb") as file:
            file.write(text.encode("utf-8"))
            file.flush()
            os.fsync(file.fileno())
        part.chmod(kept)
        part.replace(target)
    except OSError as error:
        raise DependencyUnavailable(
            f"cannot write {path}: {error.strerror}", hint="check its owner and mode"
        ) from error


def _backup(path: Path, text: str) -> str:
    place = path.with_name(path.name + SUFFIX)
    number = 1
    while place.exists():
        place = path.with_name(f"{path.name}{SUFFIX}.{number}")
        number += 1
    write(place, text, mode=0o600)
    return str(place)


def _give(path: Path, text: str | None, made: Sequence[str]) -> None:
    if text is not None:
        write(path, text)
        return
    path.unlink(missing_ok=True)
    for folder in made:
        with contextlib.suppress(OSError):  # not empty: others use it now
            Path(folder).rmdir()


def _missing(folder: Path) -> tuple[str, ...]:
    """Return `folder` and those above it that do not exist, deepest first."""
    return tuple(str(one) for one in (folder, *folder.parents) if not one.exists())


def _forget(backup: str) -> None:
    if backup:
        Path(backup).unlink(missing_ok=True)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def _connection(raw: dict[str, Any]) -> Connection:
    files = tuple(Touched(**{**one, "made": tuple(one["made"])}) for one in raw["files"])
    return Connection(**{**raw, "files": files, "transcripts": tuple(raw["transcripts"])})
