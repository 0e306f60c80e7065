"""Token ids to vectors: one ONNX Runtime session."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state as runtime

from knowledge_system.domain.errors import ModelUnavailable
from knowledge_system.embedding.tokens import TextTokenizer

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

FAILURES = (
    runtime.Fail,
    runtime.InvalidArgument,
    runtime.InvalidGraph,
    runtime.InvalidProtobuf,
    runtime.NoSuchFile,
    runtime.NotImplemented,
    runtime.RuntimeException,
)
"""What ONNX Runtime raises; its classes have no base of their own."""


class Encoder:
    """A loaded graph and its tokenizer. Safe for use from several threads."""

    def __init__(self, graph: Path, tokenizer: Path) -> None:
        """Load both files. Raises ModelUnavailable when the runtime cannot read the graph."""
        self.tokenizer = TextTokenizer(tokenizer)
        options = onnxruntime.SessionOptions()
        # One thread a call and as many calls at once as there are processors: twice the throughput of as many threads
        # in one call when other work runs beside it, and no thread spins between operators.
        options.intra_op_num_threads = 1
        # The graph is written as it shall be computed; the further levels would fuse what is faster apart.
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
        # Plans of memory are kept per shape, and every batch may have a shape of its own.
        options.enable_mem_pattern = False
        try:
            self._session = onnxruntime.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])
        except FAILURES as error:
            raise ModelUnavailable(
                f"{graph} cannot be loaded: {error}.", hint="Run `knowledge models verify`."
            ) from error

    def encode(self, sequences: Sequence[NDArray[np.int32]]) -> NDArray[np.float32]:
        """Return one unit-length row per sequence of ids, padded to the longest of them. Raises ModelUnavailable."""
        shape = (len(sequences), max(map(len, sequences)))
        ids, mask = np.zeros(shape, np.int32), np.zeros(shape, np.int32)
        for row, sequence in enumerate(sequences):
            ids[row, : len(sequence)] = sequence
            mask[row, : len(sequence)] = 1
        try:
            result: NDArray[np.float32] = self._session.run(["vectors"], {"ids": ids, "mask": mask})[0]
        except FAILURES as error:
            raise ModelUnavailable(
                f"The embedding model failed: {error}.", hint="Is memory free? Try again."
            ) from error
        return result
