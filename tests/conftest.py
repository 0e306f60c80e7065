"""Fixtures shared by all tests."""

from __future__ import annotations

import tarfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SHARED_DATA = ROOT.parent / "shared" / "data"


@pytest.fixture(scope="session")
def dev_corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Unpack the dev corpus into a temporary directory and return it; skip where it is not at hand."""
    archive = SHARED_DATA / "dev.tar.xz"
    if not archive.is_file():
        pytest.skip("needs ../shared/data/dev.tar.xz beside the project")
    target = tmp_path_factory.mktemp("dev")
    with tarfile.open(archive) as tar:
        tar.extractall(target, filter="data")
    return target


@pytest.fixture(scope="session")
def reference_embeddings() -> Path:
    """Return the file of reference vectors; skip where it is not at hand."""
    path = SHARED_DATA / "reference_embeddings.npz"
    if not path.is_file():
        pytest.skip("needs ../shared/data/reference_embeddings.npz beside the project")
    return path
