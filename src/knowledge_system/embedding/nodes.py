"""Nodes and weights of a graph under construction, with linear layers in 32-bit floats."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from knowledge_system.embedding.weights import Tensors

FUSED = "com.microsoft"
"""Domain of ONNX Runtime's own operators."""

HEADS = 12
EPSILON = 1e-12
"""Attention heads and `layer_norm_eps` of the published `config.json`."""


class GraphBuilder:
    """Collects nodes and weights; every method returns the name of a value."""

    def __init__(self, tensors: Tensors) -> None:
        self.tensors = tensors
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []

    def constant(self, name: str, values: NDArray[Any]) -> str:
        """Add a weight."""
        self.weights.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name

    def published(self, name: str) -> str:
        """Add a tensor of the weights file under its own name."""
        return self.constant(name, self.tensors[name])

    def node(self, operator: str, inputs: Sequence[str], output: str, domain: str = "", **attributes: Any) -> str:
        """Add an operator with one output."""
        self.nodes.append(helper.make_node(operator, inputs, [output], name=output, domain=domain, **attributes))
        return output

    def linear(self, source: str, name: str, weight: NDArray[np.float32], norm: str = "") -> str:
        """Multiply by `weight` (in x out); the operator that follows adds the bias.

        `norm` names the layer normalisation that made `source`, empty when it comes from elsewhere.
        """
        del norm  # only a quantised layer needs to know the range of its input
        return self.node("MatMul", [source, self.constant(f"{name}.transposed", weight)], name)

    def attention(self, source: str, prefix: str, norm: str) -> str:
        """Multi-head self-attention with the padding masked, before its output layer."""
        del norm
        weight, bias = self.query_key_value(prefix)
        inputs = [source, self.constant(f"{prefix}weight", weight), self.constant(f"{prefix}bias", bias), "mask"]
        return self.node("Attention", inputs, f"{prefix}out", FUSED, num_heads=HEADS)

    def query_key_value(self, prefix: str) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return the three projections side by side: weight (in x 3 out) and bias."""
        parts = ("query", "key", "value")
        weight = np.concatenate([self.tensors[f"{prefix}{part}.weight"].T for part in parts], axis=1)
        return weight, np.concatenate([self.tensors[f"{prefix}{part}.bias"] for part in parts])

    def add_and_normalise(self, branch: str, trunk: str, dense: str, norm: str) -> str:
        """Add a linear layer's branch, its bias and the trunk, then normalise the layer.

        Three operators: the runtime's fused one computes a row value by value and takes twice as long as they do.
        """
        biased = self.node("Add", [branch, self.published(f"{dense}.bias")], f"{norm}.biased")
        added = self.node("Add", [biased, trunk], f"{norm}.added")
        parameters = [self.published(name) for name in (f"{norm}.weight", f"{norm}.bias")]
        return self.node("LayerNormalization", [added, *parameters], f"{norm}.out", axis=-1, epsilon=EPSILON)
