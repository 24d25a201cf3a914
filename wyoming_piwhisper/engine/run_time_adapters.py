"""LoRA adapters as inputs of a graph, so that sessions which are open already hear with any of them at once.

For a product `x @ W.T` the graph adds `(x @ A.T) @ B.T` in float32. The LoRA ranks are free, also to be 0.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from onnxruntime import InferenceSession, OrtValue

from wyoming_piwhisper.engine.merging import Halves
from wyoming_piwhisper.engine.onnx_graph import MICROSOFT, Graph

_A, _B = ".A", ".B"
"""Ends of the inputs' names; what comes before is the matrix."""


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
    shapes = {found.name: found.shape for found in session.get_inputs()}
    given: dict[str, OrtValue] = {}
    for matrix in sorted(name.removesuffix(_A) for name in shapes if name.endswith(_A)):
        nothing = np.zeros((0, shapes[matrix + _A][1])), np.zeros((shapes[matrix + _B][0], 0))
        for end, half in zip((_A, _B), halves.get(matrix, nothing), strict=True):
            given[matrix + end] = OrtValue.ortvalue_from_numpy(np.ascontiguousarray(half, np.float32))
    return given


def _by_adapter(graph: Graph, states: str, matrix: AdaptableMatrix) -> str:
    rank = f"rank of {matrix.name}"
    a = graph.input(matrix.name + _A, (rank, matrix.inputs))
    b = graph.input(matrix.name + _B, (matrix.outputs, rank))
    inner = graph.node("FusedMatMul", [states, a], MICROSOFT, transB=1)
    return graph.node("FusedMatMul", [inner, b], MICROSOFT, transB=1)
