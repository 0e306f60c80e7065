"""The model as an ONNX graph: BERT encoder, mean pooling and L2 normalisation, made from the published tensors.

Inputs `ids` and `mask` (int32, batch x sequence; mask 1 = token, 0 = padding), output `vectors` (float32, batch x 384).
The operators of the domain `com.microsoft` are ONNX Runtime's fused forms, used where they are faster than their parts,
so nothing is left for its optimiser to do and a session opens in a tenth of a second.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx
from onnx import TensorProto, helper

from knowledge_system.embedding.nodes import EPSILON, FUSED, GraphBuilder
from knowledge_system.embedding.quantised import QuantisedBuilder
from knowledge_system.embedding.spaces import DIMENSION, MAX_TOKENS, MODEL

if TYPE_CHECKING:
    from knowledge_system.embedding.spaces import Variant
    from knowledge_system.embedding.weights import Tensors

LAYERS = 6
"""`num_hidden_layers` of the published `config.json`."""

OPSETS = (helper.make_opsetid("", 18), helper.make_opsetid(FUSED, 1))
IR_VERSION = 9


def build_graph(tensors: Tensors, variant: Variant) -> onnx.ModelProto:
    """Return the whole model for a variant. Raises KeyError when a tensor is missing."""
    builder = QuantisedBuilder(tensors) if variant == "int8" else GraphBuilder(tensors)
    hidden, norm = _embeddings(builder), "embeddings.LayerNorm"
    for layer in range(LAYERS):
        prefix = f"encoder.layer.{layer}."
        hidden, norm = _encoder_layer(builder, hidden, norm, prefix), f"{prefix}output.LayerNorm"
    _pooling(builder, hidden)
    return _model(builder, variant)


def _embeddings(builder: GraphBuilder) -> str:
    prefix = "embeddings."
    # Every token is of segment 0, so its row joins the positions; rows after the last token read are left out.
    segment = builder.tensors[f"{prefix}token_type_embeddings.weight"][0]
    positions = builder.tensors[f"{prefix}position_embeddings.weight"][:MAX_TOKENS] + segment
    inputs = [
        "ids",
        "",
        builder.published(f"{prefix}word_embeddings.weight"),
        builder.constant("positions", positions),
        "",
        builder.published(f"{prefix}LayerNorm.weight"),
        builder.published(f"{prefix}LayerNorm.bias"),
        "mask",
    ]
    outputs = ["embedded", "lengths"]
    builder.nodes.append(
        helper.make_node("EmbedLayerNormalization", inputs, outputs, name="embed", domain=FUSED, epsilon=EPSILON)
    )
    return "embedded"


def _encoder_layer(builder: GraphBuilder, hidden: str, norm: str, prefix: str) -> str:
    tensors = builder.tensors
    attended = builder.attention(hidden, f"{prefix}attention.self.", norm)
    dense, norm = f"{prefix}attention.output.dense", f"{prefix}attention.output.LayerNorm"
    branch = builder.linear(attended, dense, tensors[f"{dense}.weight"].T)
    hidden = builder.add_and_normalise(branch, hidden, dense, norm)
    dense = f"{prefix}intermediate.dense"
    wide = builder.linear(hidden, dense, tensors[f"{dense}.weight"].T, norm)
    active = builder.node("BiasGelu", [wide, builder.published(f"{dense}.bias")], f"{dense}.gelu", FUSED)
    dense = f"{prefix}output.dense"
    branch = builder.linear(active, dense, tensors[f"{dense}.weight"].T)
    return builder.add_and_normalise(branch, hidden, dense, f"{prefix}output.LayerNorm")


def _pooling(builder: GraphBuilder, hidden: str) -> None:
    # Dividing by the number of tokens would be undone by the normalisation, so the masked sum is enough.
    axis = builder.constant("axis", np.array([1], np.int64))
    mask = builder.node("Cast", ["mask"], "mask.float", to=TensorProto.FLOAT)
    row = builder.node("Unsqueeze", [mask, axis], "mask.row")
    total = builder.node("Squeeze", [builder.node("MatMul", [row, hidden], "sum.row"), axis], "sum")
    builder.node("LpNormalization", [total], "vectors", axis=-1, p=2)


def _model(builder: GraphBuilder, variant: Variant) -> onnx.ModelProto:
    shape = ["batch", "sequence"]
    inputs = [helper.make_tensor_value_info(name, TensorProto.INT32, shape) for name in ("ids", "mask")]
    output = helper.make_tensor_value_info("vectors", TensorProto.FLOAT, ["batch", DIMENSION])
    graph = helper.make_graph(builder.nodes, f"{MODEL}-{variant}", inputs, [output], builder.weights)
    return helper.make_model(graph, opset_imports=OPSETS, ir_version=IR_VERSION, producer_name="knowledge-system")
