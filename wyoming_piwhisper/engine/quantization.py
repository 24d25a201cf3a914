"""Weights in seven and eight bits, in the two forms that ONNX Runtime multiplies fast.

Sources: Jacob et al., "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference",
2018, section 2; the operators `DynamicQuantizeMatMul` and `MatMulNBits` of ONNX Runtime's `com.microsoft` domain.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

BLOCK: Final = 128
MIDDLE: Final = 128
"""The unsigned value that stands for zero."""
LARGEST_OF_SEVEN_BITS: Final = 63
LARGEST_OF_EIGHT_BITS: Final = 127
CACHED_ELEMENTS: Final = 1 << 16
"""Of float32, a quarter of a megabyte."""

_Floats = npt.NDArray[np.float32]
_Bytes = npt.NDArray[np.uint8]
_SignedBytes = npt.NDArray[np.int8]


@dataclass(frozen=True)
class ColumnBytes:
    """A matrix (inputs, outputs) with one scale an output."""

    values: _SignedBytes
    """(inputs, outputs), seven bits: processors without VNNI add up pairs of products in sixteen."""
    scales: _Floats
    """(outputs,)."""
    zero_points: _SignedBytes
    """(outputs,), all 0."""


@dataclass(frozen=True)
class BlockBytes:
    """A matrix (inputs, outputs) with one scale for each `BLOCK` inputs of an output."""

    values: _Bytes
    """(outputs, blocks, BLOCK)."""
    scales: _Floats
    """(outputs, blocks)."""


def by_column(weight: _Floats) -> ColumnBytes:
    """Quantise `weight` as checkpoints hold it: shape (outputs, inputs), float32."""
    values, scales = _quantised(weight[:, None], LARGEST_OF_SEVEN_BITS)
    signed = (values[:, 0].T - np.uint8(MIDDLE)).view(np.int8)
    return ColumnBytes(np.ascontiguousarray(signed), scales[:, 0], np.zeros(len(weight), np.int8))


def by_block(weight: _Floats) -> BlockBytes:
    """Quantise `weight` as checkpoints hold it: shape (outputs, inputs), float32."""
    outputs, inputs = weight.shape
    padded = np.pad(weight, ((0, 0), (0, -inputs % BLOCK))) if inputs % BLOCK else weight
    return BlockBytes(*_quantised(padded.reshape(outputs, -1, BLOCK), LARGEST_OF_EIGHT_BITS))


def _quantised(weight: _Floats, most: int) -> tuple[_Bytes, _Floats]:
    """(outputs, groups, inputs of a group) with one scale a group; some rows at a time, which stay in the cache."""
    values = np.empty(weight.shape, np.uint8)
    scales = np.empty(weight.shape[:2], np.float32)
    rows = max(1, CACHED_ELEMENTS // (weight[0].size or 1))
    scratch = np.empty((rows, *weight.shape[1:]), np.float32)
    for start in range(0, len(weight), rows):
        part = weight[start : start + rows]
        largest = np.maximum(part.max(axis=2), -part.min(axis=2))
        scales[start : start + rows] = np.where(largest > 0, largest / most, 1)
        scaled = np.divide(part, scales[start : start + rows, :, None], out=scratch[: len(part)])
        np.rint(scaled, out=scaled)
        np.add(scaled, MIDDLE, out=values[start : start + rows], casting="unsafe")
    return values, scales
