"""The real model, assembled once a test session from the installed weights."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.embedding.remote_parts import remote

from knowledge_system.domain.errors import ModelUnavailable
from knowledge_system.embedding.local import LocalEmbeddingModel, open_local_model
from knowledge_system.embedding.model_wire import Opening
from knowledge_system.embedding.supervised import SupervisedModel
from knowledge_system.embedding.weights import WeightFiles, find_weights
from knowledge_system.testing.embedding import HashingEmbeddingModel

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from knowledge_system.domain.embedding import EmbeddingModel


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> WeightFiles:
    try:
        return find_weights(tmp_path_factory.mktemp("none"))
    except ModelUnavailable as error:
        pytest.skip(f"{error} {error.hint}")


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory, weights: WeightFiles) -> Path:
    """Return a models directory that the tests of a session share; each variant is assembled there on first use."""
    assert weights.model.is_file()
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="session")
def fp32(models: Path) -> Iterator[LocalEmbeddingModel]:
    model = open_local_model(models, "fp32", threads=2)
    yield model
    model.close()


@pytest.fixture(scope="session")
def int8(models: Path) -> Iterator[LocalEmbeddingModel]:
    model = open_local_model(models, "int8", threads=2)
    yield model
    model.close()


@pytest.fixture(
    params=[
        "hashing",
        pytest.param("fp32", marks=pytest.mark.weights),
        pytest.param("int8", marks=pytest.mark.weights),
        pytest.param("apart", marks=pytest.mark.weights),
        "remote",
    ]
)
async def model(request: pytest.FixtureRequest) -> AsyncIterator[EmbeddingModel]:
    """Return each implementation of the port in turn; the remote one over HTTP, with the whole engine around it."""
    if request.param == "hashing":
        yield HashingEmbeddingModel()
    elif request.param == "remote":
        async with remote() as parts:
            yield parts.model
    elif request.param == "apart":
        apart = SupervisedModel(Opening(request.getfixturevalue("models"), "int8", threads=2))
        yield apart
        await apart.close()
    else:
        yield request.getfixturevalue(request.param)
