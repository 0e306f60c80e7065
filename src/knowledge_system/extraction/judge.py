"""The trained judge: a logistic model over named features, its calibration, and the shipped parameters.

The parameters are data (`parameters/judge.json`, `parameters/vectors.npz`), made by `bench/train_judge.py`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from io import BytesIO
from math import exp
from typing import TYPE_CHECKING, Any

import numpy as np

from knowledge_system.domain.errors import IntegrityFailure

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from knowledge_system.domain.embedding import Vector

PARAMETER_FILES = ("judge.json", "vectors.npz")


def logistic(value: float) -> float:
    """Return 1 / (1 + e^-value), without overflow."""
    return 1 / (1 + exp(-value)) if value >= 0 else exp(value) / (1 + exp(value))


@dataclass(frozen=True, slots=True)
class LinearModel:
    """Standardised features times weights: `names`, and per output a row of weights and a bias."""

    names: tuple[str, ...]
    mean: NDArray[np.float64]
    scale: NDArray[np.float64]
    weights: NDArray[np.float64]
    bias: NDArray[np.float64]

    def standard(self, values: Mapping[str, float]) -> NDArray[np.float64]:
        """Return the standardised features; one that is missing counts as average."""
        raw = np.array([values.get(name, average) for name, average in zip(self.names, self.mean, strict=True)])
        return (raw - self.mean) / self.scale

    def contributions(self, values: Mapping[str, float]) -> dict[str, float]:
        """Return what each feature adds to the first output."""
        return dict(zip(self.names, (self.standard(values) * self.weights[0]).tolist(), strict=True))

    def outputs(self, values: Mapping[str, float]) -> NDArray[np.float64]:
        """Return the raw outputs (log-odds for one output)."""
        outputs: NDArray[np.float64] = self.weights @ self.standard(values) + self.bias
        return outputs

    @classmethod
    def of(cls, stored: Mapping[str, Any]) -> LinearModel:
        """Return the model stored as JSON. Raises KeyError or ValueError when it is not one."""
        arrays = {key: np.asarray(stored[key], dtype=np.float64) for key in ("mean", "scale", "weights", "bias")}
        names = tuple(stored["names"])
        if arrays["weights"].shape != (len(arrays["bias"]), len(names)) or len(arrays["mean"]) != len(names):
            raise ValueError("weights do not fit the names")
        return cls(names, **arrays)


@dataclass(frozen=True, slots=True)
class Parameters:
    """All that training found. `directions` are rows of 384 numbers: what an embedding says in words' stead."""

    version: str
    worth: LinearModel
    kinds: LinearModel
    classes: tuple[str, ...]
    threshold: float
    calibration: tuple[float, float]
    anchors: tuple[str, ...]
    directions: NDArray[np.float32]

    def similarity(self, vectors: Sequence[Vector]) -> dict[str, float]:
        """Return, by anchor name, the product of the first vector (the whole exchange) with each direction.

        Empty without a vector, or when it belongs to another space.
        """
        if not vectors:
            return {}
        whole = np.frombuffer(vectors[0], dtype=np.float32)
        if whole.shape != (self.directions.shape[1],):
            return {}
        return dict(zip(self.anchors, (self.directions @ whole).tolist(), strict=True))

    def worth_keeping(self, log_odds: float) -> float:
        """Return the calibrated probability that an exchange with these raw log-odds is worth keeping."""
        slope, offset = self.calibration
        return logistic(slope * log_odds + offset)


def parse_parameters(model: bytes, vectors: bytes) -> Parameters:
    """Return the parameters of the two files. Raises IntegrityFailure when they are damaged or do not fit."""
    try:
        stored = json.loads(model)
        with np.load(BytesIO(vectors), allow_pickle=False) as arrays:
            directions = dict(zip(arrays["names"].tolist(), arrays["directions"].astype(np.float32), strict=True))
        return Parameters(
            version=str(stored["version"]),
            worth=LinearModel.of(stored["worth"]),
            kinds=LinearModel.of(stored["kinds"]),
            classes=tuple(stored["classes"]),
            threshold=float(stored["threshold"]),
            calibration=(float(stored["calibration"][0]), float(stored["calibration"][1])),
            anchors=tuple(directions),
            directions=np.array(list(directions.values())),
        )
    except (KeyError, ValueError, TypeError, OSError) as error:
        raise IntegrityFailure(
            f"the parameters of the learning judge cannot be read: {error}", hint="install the package again"
        ) from error


@lru_cache(maxsize=1)
def shipped_parameters() -> Parameters:
    """Return the parameters that come with the package. Raises IntegrityFailure when they are damaged."""
    folder = resources.files("knowledge_system.extraction").joinpath("parameters")
    try:
        model, vectors = (folder.joinpath(name).read_bytes() for name in PARAMETER_FILES)
    except OSError as error:
        raise IntegrityFailure(
            f"the learning judge has no parameters: {error}", hint="install the package again"
        ) from error
    return parse_parameters(model, vectors)
