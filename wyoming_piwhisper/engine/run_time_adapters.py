"""LoRA adapters as inputs of a graph, so that sessions which are open already hear with any of them at once.

For a product `x @ W.T` the graph adds `(x @ A.T) @ B.T` in float32. The LoRA ranks are free, also to be 0.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from onnxruntime import InferenceSession, OrtValue

from wyoming_piwhisper.engine.merging import Halves
from wyoming_piwhisper.engine.onnx_graph import MICROSOFT, Graph

_A, _B = ".A", ".B"
"""Ends of the inputs' names; before stands the matrix. The second brings the transpose: both are (ranks, …)."""
_NOTHING: Final = (np.zeros((0, 0), np.float32),) * 2


@dataclass(frozen=True)
class AdaptableMatrix:
    """A matrix of the base that adapters may change."""

    name: str
    outputs: int
    inputs: int


def add_adapters(graph: Graph, product: str, states: str, matrices: Sequence[AdaptableMatrix]) -> str:
    """`product` (1, n, all outputs), made of `states` (1, n, inputs), with what the matrices' adapters add to it."""
    parts = [_by_adapter(graph, states, matrix) for matrix in matrices]
    return graph.add(product, parts[0] if len(parts) == 1 else graph.node("Concat", parts, axis=-1))


def adapter_inputs(session: InferenceSession, halves: Halves) -> dict[str, OrtValue]:
    """The adapters' inputs of a session whose graph has them; rank 0 for a matrix without `halves`.

    The values stand on the memory of `halves`.
    """
    given: dict[str, OrtValue] = {}
    for found in session.get_inputs():
        matrix, end = found.name[: -len(_A)], found.name[-len(_A) :]
        if end in {_A, _B}:
            a, b = halves.get(matrix, _NOTHING)
            half = a if end == _A else b.T
            value = half if len(half) else np.zeros((0, found.shape[1]), np.float32)
            given[found.name] = OrtValue.ortvalue_from_numpy(value)
    return given


def _by_adapter(graph: Graph, states: str, matrix: AdaptableMatrix) -> str:
    rank = f"rank of {matrix.name}"
    a = graph.input(matrix.name + _A, (rank, matrix.inputs))
    b = graph.input(matrix.name + _B, (rank, matrix.outputs))
    return graph.node("MatMul", [graph.node("FusedMatMul", [states, a], MICROSOFT, transB=1), b])
