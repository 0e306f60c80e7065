"""Linear layers with 8-bit weights and activations.

Dynamic quantisation has one scale per activation tensor, so a few large channels, or one large row, take the resolution
of all others: done plainly it moves vectors of documents by a cosine of .008 to .06. Three measures bring that to .004:

* channels of an input that a layer normalisation made are balanced against the rows of the weight (SmoothQuant, Xiao et
  al. 2023, https://arxiv.org/abs/2211.10438). The size of a channel is read from the normalisation's own parameters,
  |bias| + 4 |gain|, so no calibration text is needed;
* rows of the feed-forward activation are brought to one size before, and back after the product;
* weights have a scale per column and 7 bits. Sums of two products then fit the 16 bits that processors without VNNI
  accumulate in, so no sum saturates on one processor that does not on another.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from onnx import helper

from knowledge_system.embedding.nodes import EPSILON, FUSED, HEADS, GraphBuilder

if TYPE_CHECKING:
    from numpy.typing import NDArray

LARGEST = 63
BALANCE = 0.65
"""SmoothQuant's alpha; .4, .5 and .65 measured, within a mean cosine of .0006 of each other."""


class QuantisedBuilder(GraphBuilder):
    """Builds the same model with 8-bit linear layers; embeddings, normalisation, softmax and GELU stay in floats."""

    def linear(self, source: str, name: str, weight: NDArray[np.float32], norm: str = "") -> str:
        """Multiply by an 8-bit `weight`, balancing channels after a normalisation and rows after a GELU."""
        if norm:
            balance = self._balance(weight, norm)
            scale = self.constant(f"{name}.balance", 1 / balance)
            balanced = self.node("Mul", [source, scale], f"{name}.balanced")
            return self._product(balanced, name, weight * balance[:, None])
        if len(weight) > weight.shape[1]:  # only the layer that narrows after the GELU
            rows, inverse = self._equal_rows(source, name, len(weight))
            return self.node("Div", [self._product(rows, f"{name}.equal", weight), inverse], name)
        return self._product(source, name, weight)

    def attention(self, source: str, prefix: str, norm: str) -> str:
        """Project in 8 bits, attend in floats."""
        weight, bias = self.query_key_value(prefix)
        projected = self.linear(source, f"{prefix}projection", weight, norm)
        parts = [f"{prefix}{part}" for part in ("q", "k", "v")]
        self.nodes.append(helper.make_node("Split", [projected], parts, name=f"{prefix}split", axis=-1, num_outputs=3))
        inputs = [*parts, self.constant(f"{prefix}bias", bias), "mask"]
        return self.node("MultiHeadAttention", inputs, f"{prefix}out", FUSED, num_heads=HEADS)

    def _balance(self, weight: NDArray[np.float32], norm: str) -> NDArray[np.float32]:
        size = np.abs(self.tensors[f"{norm}.bias"]) + 4 * np.abs(self.tensors[f"{norm}.weight"])
        factors = size**BALANCE / np.abs(weight).max(axis=1) ** (1 - BALANCE)
        result: NDArray[np.float32] = (factors / np.exp(np.log(factors).mean())).astype(np.float32)
        return result

    def _equal_rows(self, source: str, name: str, width: int) -> tuple[str, str]:
        """Divide each row by its root mean square; return the rows and the inverse of what they were divided by."""
        outputs = [f"{name}.rows", f"{name}.inverse"]
        inputs = [source, self.constant(f"{name}.ones", np.ones(width, np.float32))]
        self.nodes.append(
            helper.make_node(
                "SimplifiedLayerNormalization", inputs, outputs, name=f"{name}.norm", axis=-1, epsilon=EPSILON
            )
        )
        return outputs[0], outputs[1]

    def _product(self, source: str, name: str, weight: NDArray[np.float32]) -> str:
        scale = np.abs(weight).max(axis=0) / LARGEST
        values = np.clip(np.round(weight / scale), -LARGEST, LARGEST).astype(np.int8)
        inputs = [
            source,
            self.constant(f"{name}.int8", values),
            self.constant(f"{name}.scale", scale.astype(np.float32)),
            self.constant(f"{name}.zero", np.zeros(len(scale), np.int8)),
        ]
        return self.node("DynamicQuantizeMatMul", inputs, name, FUSED)
