"""The assembled graph on disk: made once per space, checked at every start, made again when it is damaged."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from knowledge_system.domain.errors import ModelUnavailable
from knowledge_system.embedding.spaces import TOKENIZER_FILE, folder_of, space_of
from knowledge_system.embedding.weights import PACKAGE, check_weights, find_weights, read_tensors, sha256_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from knowledge_system.embedding.spaces import Variant

GRAPH_FILE = "model.onnx"
MANIFEST_FILE = "manifest.json"
FILES = (GRAPH_FILE, TOKENIZER_FILE)
SMALL = 1_000_000
"""Bytes up to which a file is hashed at every start (a millisecond)."""


@dataclass(frozen=True, slots=True)
class Assembled:
    """A folder with graph, tokenizer and manifest of one space."""

    folder: Path

    @property
    def graph(self) -> Path:
        """The ONNX file."""
        return self.folder / GRAPH_FILE

    @property
    def tokenizer(self) -> Path:
        """The tokenizer file, a copy of the published one."""
        return self.folder / TOKENIZER_FILE

    def is_sound(self, *, thoroughly: bool = False) -> bool:
        """Tell whether all files are as they were written.

        A graph with the size and modification time of the manifest is taken as unchanged. Another one, the small
        tokenizer, and every file when `thoroughly`, are hashed (65 ms for the 90 MB of fp32).
        """
        try:
            manifest = json.loads((self.folder / MANIFEST_FILE).read_text("utf-8"))
            return all(self._matches(self.folder / name, manifest[name], thoroughly) for name in FILES)
        except (OSError, ValueError, KeyError, TypeError, ModelUnavailable):
            return False

    def _matches(self, path: Path, entry: dict[str, str | int], thoroughly: bool) -> bool:  # noqa: FBT001 - private
        status = path.stat()
        if status.st_size != entry["size"]:
            return False
        unchanged = status.st_mtime_ns == entry["mtime_ns"] and status.st_size > SMALL
        return (unchanged and not thoroughly) or sha256_of(path) == entry["sha256"]

    def write_manifest(self) -> None:
        """Record size, modification time and SHA-256 of the files."""
        entries = {name: _entry(self.folder / name) for name in FILES}
        (self.folder / MANIFEST_FILE).write_text(json.dumps(entries, indent=1), "utf-8")


def _entry(path: Path) -> dict[str, str | int]:
    status = path.stat()
    return {"size": status.st_size, "mtime_ns": status.st_mtime_ns, "sha256": sha256_of(path)}


def assembled(models: Path, variant: Variant, package: str = PACKAGE) -> Assembled:
    """Return the graph of a variant below `models`, assembling it when it is missing or damaged.

    Of several processes one assembles and the others wait for it. Needs the weights only when it has to assemble.
    Raises ModelUnavailable when weights are missing or wrong, or the directory cannot be written.
    """
    result = Assembled(models / folder_of(space_of(variant)))
    if result.is_sound():
        return result
    try:
        with _locked(models):
            if not result.is_sound():
                _assemble(result, models, variant, package)
    except OSError as error:
        hint = "Make the directory writable and free about 100 MB."
        raise ModelUnavailable(f"The model cannot be written to {models}: {error.strerror}.", hint=hint) from error
    return result


def discard(models: Path, variant: Variant) -> None:
    """Remove the assembled graph of a variant so that the next start assembles it again."""
    shutil.rmtree(models / folder_of(space_of(variant)), ignore_errors=True)


@contextmanager
def _locked(models: Path) -> Iterator[None]:
    models.mkdir(parents=True, exist_ok=True)
    with (models / ".lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _assemble(result: Assembled, models: Path, variant: Variant, package: str) -> None:
    # Loaded here because only the first start needs it: 0.1 s and 40 MB.
    from knowledge_system.embedding.graph import build_graph  # noqa: PLC0415 - see the line above

    files = find_weights(models, package)
    check_weights(files)
    for left in models.glob(".assemble-*"):  # of a process that was killed: whoever lives has the lock, which is ours
        shutil.rmtree(left, ignore_errors=True)
    with tempfile.TemporaryDirectory(dir=models, prefix=".assemble-") as scratch:
        staged = Assembled(Path(scratch) / "new")
        staged.folder.mkdir()
        _write_durably(staged.graph, build_graph(read_tensors(files.model), variant).SerializeToString())
        _write_durably(staged.tokenizer, files.tokenizer.read_bytes())
        staged.write_manifest()
        shutil.rmtree(result.folder, ignore_errors=True)
        staged.folder.replace(result.folder)


def _write_durably(path: Path, content: bytes) -> None:
    with path.open("wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())


def verify(models: Path, variant: Variant, package: str = PACKAGE) -> list[str]:
    """Hash everything that is there and return what is wrong, in one line each; empty when all is well."""
    problems = []
    try:
        check_weights(find_weights(models, package))
    except ModelUnavailable as error:
        problems.append(error.message)
    result = Assembled(models / folder_of(space_of(variant)))
    if result.folder.exists() and not result.is_sound(thoroughly=True):
        problems.append(f"{result.graph} is damaged; it is assembled again at the next start.")
    return problems
