"""The parameters of the learning judge as the two files that the package ships."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np

from knowledge_system.extraction.judge import shipped_parameters

if TYPE_CHECKING:
    from pathlib import Path

    from knowledge_system.extraction.judge import LinearModel, Parameters


def stored(model: LinearModel) -> dict[str, Any]:
    """Return a linear model as JSON."""
    arrays = {key: getattr(model, key).tolist() for key in ("mean", "scale", "weights", "bias")}
    return {"names": list(model.names), **arrays}


def as_stored(parameters: Parameters) -> dict[str, Any]:
    """Return the models, threshold and calibration as JSON."""
    return {
        "version": parameters.version,
        "threshold": parameters.threshold,
        "calibration": list(parameters.calibration),
        "classes": list(parameters.classes),
        "worth": stored(parameters.worth),
        "kinds": stored(parameters.kinds),
    }


def same_as_shipped(parameters: Parameters) -> bool:
    """Tell whether the package ships these parameters."""
    shipped = shipped_parameters()
    close = np.allclose(parameters.directions, shipped.directions, atol=2e-3)
    return as_stored(parameters) == as_stored(shipped) and close


def write(parameters: Parameters, folder: Path) -> None:
    """Write the two parameter files."""
    folder.mkdir(exist_ok=True)
    (folder / "judge.json").write_text(json.dumps(as_stored(parameters), indent=1) + "\n", encoding="utf-8")
    np.savez(
        folder / "vectors.npz", names=np.array(parameters.anchors), directions=parameters.directions.astype(np.float16)
    )
