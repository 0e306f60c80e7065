"""Fixtures of the index tests."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.index.samples import SPACE
from tests.leftovers import own_folder

from knowledge_system.storage.edge import EdgeIndex
from knowledge_system.storage.index_supervised import SupervisedIndex
from knowledge_system.storage.qdrant_server import QdrantIndex, QdrantOptions
from knowledge_system.testing.index import MemoryIndex
from knowledge_system.testing.scripted_qdrant import ScriptedQdrant

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

_MEMORY = Path("/dev/shm")  # noqa: S108 - only the parent of a private directory


@pytest.fixture
def directory() -> Iterator[Path]:
    """A directory in memory where the machine has one: creating an index is thirty times fsync."""
    parent = _MEMORY if os.access(_MEMORY, os.W_OK) else None
    with own_folder("index-test-", parent) as folder:
        yield folder


@pytest.fixture(scope="session")
def qdrant_server() -> Iterator[ScriptedQdrant]:
    """One server for all tests of this process; `qdrant` empties it."""
    parent = _MEMORY if os.access(_MEMORY, os.W_OK) else None
    with own_folder("index-server-", parent) as folder, ScriptedQdrant(folder) as server:
        yield server


@pytest.fixture
def qdrant(qdrant_server: ScriptedQdrant) -> Iterator[ScriptedQdrant]:
    """A Qdrant server without collections."""
    qdrant_server.reset()
    yield qdrant_server
    qdrant_server.fault = None


@pytest.fixture(params=["memory", "edge", "supervised", "server"])
async def index(
    request: pytest.FixtureRequest, directory: Path
) -> AsyncIterator[MemoryIndex | EdgeIndex | SupervisedIndex | QdrantIndex]:
    """An empty index of every implementation."""
    opened: MemoryIndex | EdgeIndex | SupervisedIndex | QdrantIndex = MemoryIndex(SPACE)
    if request.param == "edge":
        opened = await EdgeIndex.open(directory, SPACE)
    elif request.param == "supervised":
        opened = await SupervisedIndex.open(directory, SPACE)
    elif request.param == "server":
        opened = await QdrantIndex.open(SPACE, QdrantOptions(request.getfixturevalue("qdrant").url, within=30))
    yield opened
    await opened.close()
