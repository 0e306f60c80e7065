"""Fixtures shared by all tests."""

from __future__ import annotations

import asyncio
import os
import signal
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from knowledge_system.application.privacy import KeptPrototypes
from knowledge_system.domain.errors import ModelUnavailable
from knowledge_system.embedding.local import open_local_model
from knowledge_system.embedding.weights import find_weights
from knowledge_system.sensitivity.meaning import MeaningLayer
from knowledge_system.sensitivity.meanings import meanings_of
from knowledge_system.sensitivity.topics import BUILT_IN
from knowledge_system.testing import network

signal.signal(signal.SIGTERM, signal.default_int_handler)
"""Whoever ends the tests lets them clear up: servers, their directories and sockets."""
ROOT = Path(__file__).resolve().parent.parent
SHARED_DATA = ROOT.parent / "shared" / "data"


@pytest.fixture(scope="session", autouse=True)
def _loopback_only(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Make any call to another machine an error, here and in every process that a test starts."""
    for variable in [name for name in os.environ if name.endswith(("_API_KEY", "_API_KEY_FILE"))]:
        del os.environ[variable]  # a key is permission to learn with a model: tests have none but their own
    log = tmp_path_factory.mktemp("network") / "attempts"
    os.environ.update(network.child_environment(log))
    network.forbid()
    yield
    assert network.told(log) == [], "a process reached for another machine"


@pytest.fixture(autouse=True)
def _nothing_left_the_machine() -> Iterator[None]:
    """Fail a test whose code reached for another machine, even if the code swallowed the error."""
    yield
    attempted = network.attempts()
    network.forget()
    assert attempted == [], "this test reached for another machine"


@pytest.fixture(scope="session")
def judging(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Assemble the embedding model and the vectors of the shipped topics once; a home links to it as `models`."""
    models = tmp_path_factory.mktemp("judging")
    try:
        find_weights(models)
    except ModelUnavailable as error:
        pytest.skip(f"{error} {error.hint}")
    model = open_local_model(models)
    layer = MeaningLayer(model, meanings_of(BUILT_IN), KeptPrototypes(models))
    asyncio.run(layer.nearness(["assemble now, and not in every test"]))
    model.close()
    return models


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
