"""Sparse copies, content digests, the manifest and the pointer."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.index.samples import SPACE

from knowledge_system.domain.errors import Busy, DependencyUnavailable
from knowledge_system.storage import index_manifest
from knowledge_system.storage.index_files import (
    BLOCK,
    allocated_bytes,
    copy_sparse,
    digest,
    files_below,
    replace_file,
    require_space,
    times_follow_maps,
    usable,
)
from knowledge_system.storage.index_generations import Generations, Pointer

if TYPE_CHECKING:
    from pathlib import Path


def write_sparse(path: Path, size: int, pieces: dict[int, bytes]) -> None:
    with path.open("wb") as file:
        file.truncate(size)
        for offset, piece in pieces.items():
            file.seek(offset)
            file.write(piece)


@given(
    size=st.integers(0, 4 * BLOCK),
    pieces=st.dictionaries(st.integers(0, 4 * BLOCK), st.binary(min_size=1, max_size=50), max_size=4),
)
def test_a_copy_has_the_same_content_and_digest(
    tmp_path_factory: pytest.TempPathFactory, size: int, pieces: dict[int, bytes]
) -> None:
    root = tmp_path_factory.mktemp("sparse")
    (root / "from").mkdir()
    source, copy = root / "from" / "file", root / "to" / "file"
    write_sparse(source, size, pieces)
    copy_sparse(root / "from", root / "to")
    assert copy.read_bytes() == source.read_bytes()
    assert digest(copy) == digest(source)
    assert copy.stat().st_mtime_ns == source.stat().st_mtime_ns


def test_a_copy_of_a_sparse_file_stays_sparse(tmp_path: Path) -> None:
    (tmp_path / "from" / "deep").mkdir(parents=True)
    write_sparse(tmp_path / "from" / "deep" / "file", 2**30, {2**29: b"in the middle"})
    copy_sparse(tmp_path / "from", tmp_path / "to")
    assert (tmp_path / "to" / "deep" / "file").stat().st_size == 2**30
    assert allocated_bytes(tmp_path / "to") < 2**20


def test_zeros_and_holes_are_the_same_content(tmp_path: Path) -> None:
    write_sparse(tmp_path / "hole", 3 * BLOCK, {BLOCK: b"x"})
    (tmp_path / "zeros").write_bytes(bytes(BLOCK) + b"x" + bytes(2 * BLOCK - 1))
    assert digest(tmp_path / "hole") == digest(tmp_path / "zeros")


def test_moved_or_cut_content_has_another_digest(tmp_path: Path) -> None:
    contents = {"a": {0: b"x"}, "b": {1: b"x"}, "c": {BLOCK: b"x"}, "d": {0: b"y"}}
    for name, pieces in contents.items():
        write_sparse(tmp_path / name, 2 * BLOCK, pieces)
    write_sparse(tmp_path / "shorter", 2 * BLOCK - 1, {0: b"x"})
    digests = {digest(path) for path in files_below(tmp_path)}
    assert len(digests) == 5


def test_replacing_leaves_no_scratch_file(tmp_path: Path) -> None:
    replace_file(tmp_path / "pointer", b"one")
    replace_file(tmp_path / "pointer", b"two")
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"two"]


@pytest.mark.parametrize("number", [28, 30, 13, 5])
def test_operating_system_errors_become_ours_with_a_hint(tmp_path: Path, number: int) -> None:
    with pytest.raises(DependencyUnavailable) as caught, usable(tmp_path):
        raise OSError(number, os.strerror(number))
    assert str(tmp_path) in caught.value.message
    assert caught.value.hint


def test_space_is_required_before_it_is_used(tmp_path: Path) -> None:
    require_space(tmp_path, 1)
    with pytest.raises(DependencyUnavailable, match="free"):
        require_space(tmp_path, 2**62)


@pytest.fixture
def generation(tmp_path: Path) -> Path:
    """A clean generation of two files."""
    (tmp_path / "shard" / "segments").mkdir(parents=True)
    (tmp_path / "shard" / "config").write_bytes(b"settings")
    write_sparse(tmp_path / "shard" / "segments" / "vectors", 10 * BLOCK, {5 * BLOCK: b"numbers"})
    index_manifest.refresh(tmp_path)
    return tmp_path


@pytest.fixture
def times_tell(tmp_path: Path) -> None:
    """Skip where a file's time says nothing about writes through memory maps: there every file is read every time."""
    if not times_follow_maps(tmp_path):
        pytest.skip("the temporary directory is on a file system like tmpfs")


def age(path: Path) -> None:
    """Make a file old enough for its digest to be trusted."""
    os.utime(path, ns=(0, 10**18))


def test_a_fresh_manifest_has_no_differences(generation: Path) -> None:
    assert index_manifest.is_clean(generation)
    assert index_manifest.differences(generation) == []
    assert index_manifest.differences(generation, untouched_only=True) == []


def test_changed_missing_and_unexpected_files_are_told_apart(generation: Path) -> None:
    (generation / "shard" / "config").unlink()
    (generation / "shard" / "other").touch()
    write_sparse(generation / "shard" / "segments" / "vectors", 10 * BLOCK, {5 * BLOCK: b"Numbers"})
    assert index_manifest.differences(generation) == [
        "config: missing",
        "other: unexpected file",
        "segments/vectors: content changed",
    ]


@pytest.mark.usefixtures("times_tell")
def test_after_a_crash_only_untouched_files_are_judged(generation: Path) -> None:
    vectors, config = generation / "shard" / "segments" / "vectors", generation / "shard" / "config"
    age(vectors)
    age(config)
    index_manifest.refresh(generation)
    config.write_bytes(b"written after the last flush")
    write_sparse(vectors, 10 * BLOCK, {5 * BLOCK: b"rotten!"})
    age(vectors)
    assert index_manifest.differences(generation, untouched_only=True) == ["segments/vectors: content changed"]


@pytest.mark.usefixtures("times_tell")
def test_only_changed_files_are_read_again(generation: Path) -> None:
    config, vectors = generation / "shard" / "config", generation / "shard" / "segments" / "vectors"
    age(config)
    age(vectors)
    index_manifest.refresh(generation)
    before = index_manifest.read(generation)
    config.write_bytes(b"SETTINGS")
    age(config)  # same size, same time: what the manifest knows is believed
    vectors.write_bytes(b"other")
    index_manifest.refresh(generation)
    after = index_manifest.read(generation)
    assert before is not None
    assert after is not None
    assert after["config"] == before["config"]
    assert after["segments/vectors"].sha256 == digest(vectors)


def test_a_file_changed_within_a_tick_of_hashing_is_not_trusted(generation: Path) -> None:
    config = generation / "shard" / "config"
    config.write_bytes(b"first...")
    index_manifest.refresh(generation)
    stamp = config.stat().st_mtime_ns
    config.write_bytes(b"second..")
    os.utime(config, ns=(stamp, stamp))
    index_manifest.refresh(generation)
    assert index_manifest.differences(generation) == []


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b'{"config": {"size": 1}}', b'{"config": 3}'])
def test_an_unreadable_manifest_is_none_and_not_clean(generation: Path, damage: bytes) -> None:
    (generation / "manifest.json").write_bytes(damage)
    assert not index_manifest.is_clean(generation)
    assert index_manifest.read(generation) in (None, {})
    assert index_manifest.differences(generation)


def test_a_dirty_generation_is_not_clean_until_refreshed(generation: Path) -> None:
    index_manifest.mark_dirty(generation)
    index_manifest.mark_dirty(generation)
    assert not index_manifest.is_clean(generation)
    index_manifest.refresh(generation)
    assert index_manifest.is_clean(generation)


def test_one_holder_at_a_time(tmp_path: Path) -> None:
    first, second = Generations(tmp_path, SPACE), Generations(tmp_path, SPACE)
    first.acquire()
    with pytest.raises(Busy) as caught:
        second.acquire()
    assert caught.value.hint
    first.release()
    first.release()
    second.acquire()
    second.release()


@pytest.mark.parametrize("damage", [b"", b"null", b'{"generation": "g000001"}', b'{"generation": "g9", "rebuild": ""}'])
def test_a_pointer_that_points_nowhere_is_none(tmp_path: Path, damage: bytes) -> None:
    generations = Generations(tmp_path, SPACE)
    generations.acquire()
    generations.path("g000001").mkdir()
    generations.point_at(Pointer("g000001", "because"))
    assert generations.pointer() == Pointer("g000001", "because")
    (generations.root / "current").write_bytes(damage)
    assert generations.pointer() is None
    generations.release()


def test_leftovers_are_removed_and_numbers_go_on(tmp_path: Path) -> None:
    generations = Generations(tmp_path, SPACE)
    generations.acquire()
    assert generations.fresh() == "g000001"
    for name in ("g000001", "g000007", "scratch"):
        generations.path(name).mkdir()
    (generations.root / "current.new").touch()
    assert generations.fresh() == "g000008"
    generations.point_at(Pointer("g000001"))
    generations.remove_others("g000001")
    assert sorted(path.name for path in generations.root.iterdir()) == ["current", "g000001", "lock", "space"]
    generations.release()


def test_a_directory_that_cannot_be_made_is_unavailable(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DependencyUnavailable):
        Generations(tmp_path / "file", SPACE).acquire()
