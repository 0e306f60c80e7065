from __future__ import annotations

import io
import json
from array import array
from importlib import resources
from typing import Any

import numpy as np
import pytest

from knowledge_system.domain.errors import IntegrityFailure
from knowledge_system.domain.knowledge import KnowledgeType
from knowledge_system.extraction.judge import LinearModel, logistic, parse_parameters, shipped_parameters

FOLDER = resources.files("knowledge_system.extraction").joinpath("parameters")
MODEL, VECTORS = (FOLDER.joinpath(name).read_bytes() for name in ("judge.json", "vectors.npz"))


def changed(**values: Any) -> bytes:
    return json.dumps({**json.loads(MODEL), **values}).encode()


def test_the_shipped_parameters_are_small_and_complete() -> None:
    parameters = shipped_parameters()
    assert len(MODEL) + len(VECTORS) < 300_000
    assert set(parameters.classes) <= {kind.value for kind in KnowledgeType}
    assert len(parameters.classes) == 10
    assert 0 < parameters.threshold < 1
    assert parameters.calibration[0] > 0
    assert np.isfinite(parameters.directions).all()
    assert np.isfinite(parameters.worth.weights).all()


def test_every_direction_a_model_uses_is_shipped() -> None:
    parameters = shipped_parameters()
    reads = {name for name in (*parameters.worth.names, *parameters.kinds.names) if name.startswith("reads:")}
    assert reads
    assert reads <= set(parameters.anchors)
    assert {kind.value for kind in KnowledgeType} <= set(parameters.anchors)


@pytest.mark.parametrize(
    ("model", "vectors"),
    [
        (b"not json", VECTORS),
        (b"{}", VECTORS),
        (MODEL, b"not an archive"),
        (changed(threshold="high"), VECTORS),
        (changed(worth={**json.loads(MODEL)["worth"], "bias": [0.0, 1.0]}), VECTORS),
    ],
)
def test_damaged_parameters_say_what_to_do(model: bytes, vectors: bytes) -> None:
    with pytest.raises(IntegrityFailure) as caught:
        parse_parameters(model, vectors)
    assert "install" in caught.value.hint


def test_anchors_without_directions_are_damage() -> None:
    stream = io.BytesIO()
    np.savez(stream, names=np.array(["a", "b"]), directions=np.zeros((1, 384), np.float16))
    with pytest.raises(IntegrityFailure):
        parse_parameters(MODEL, stream.getvalue())


def test_a_missing_feature_counts_as_average() -> None:
    model = LinearModel(("a", "b"), np.array([2.0, 1.0]), np.ones(2), np.array([[1.0, 5.0]]), np.array([0.5]))
    assert model.outputs({"a": 3.0})[0] == pytest.approx(1.5)
    assert model.contributions({"a": 3.0}) == {"a": 1.0, "b": 0.0}


def test_vectors_of_another_space_are_not_compared() -> None:
    assert shipped_parameters().similarity([array("f", [0.1] * 1536)]) == {}
    assert shipped_parameters().similarity([]) == {}


def test_similarity_is_the_product_with_each_direction() -> None:
    parameters = shipped_parameters()
    vector = array("f", [0.0] * 384)
    vector[3] = 1.0
    found = parameters.similarity([vector])
    assert list(found.values()) == pytest.approx(parameters.directions[:, 3].tolist())


def test_confidence_rises_with_the_log_odds_and_stays_a_probability() -> None:
    parameters = shipped_parameters()
    values = [parameters.worth_keeping(x) for x in (-1e6, -2.0, 0.0, 2.0, 1e6)]
    assert values == sorted(values)
    assert all(0 <= value <= 1 for value in values)
    assert logistic(0.0) == 0.5
