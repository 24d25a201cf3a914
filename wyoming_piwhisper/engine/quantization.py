"""Weights in eight bits, in the two forms that ONNX Runtime multiplies fast.

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
LARGEST: Final = 127

_Floats = npt.NDArray[np.float32]
_Bytes = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class ColumnBytes:
    """A matrix (inputs, outputs) with one scale an output."""

    values: _Bytes
    """(inputs, outputs). Unsigned, for signed bytes overflow in the kernels of processors without VNNI."""
    scales: _Floats
    """(outputs,)."""
    zero_points: _Bytes
    """(outputs,), all `MIDDLE`."""


@dataclass(frozen=True)
class BlockBytes:
    """A matrix (inputs, outputs) with one scale for each `BLOCK` inputs of an output."""

    values: _Bytes
    """(outputs, blocks, BLOCK)."""
    scales: _Floats
    """(outputs, blocks)."""


def by_column(weight: _Floats) -> ColumnBytes:
    """Quantise `weight` as checkpoints hold it: shape (outputs, inputs), float32."""
    scales = _scales(np.abs(weight).max(axis=1))
    values = _bytes(weight / scales[:, None])
    return ColumnBytes(np.ascontiguousarray(values.T), scales, np.full(len(weight), MIDDLE, np.uint8))


def by_block(weight: _Floats) -> BlockBytes:
    """Quantise `weight` as checkpoints hold it: shape (outputs, inputs), float32."""
    outputs, inputs = weight.shape
    padded = np.pad(weight, ((0, 0), (0, -inputs % BLOCK))).reshape(outputs, -1, BLOCK)
    scales = _scales(np.abs(padded).max(axis=2))
    return BlockBytes(_bytes(padded / scales[:, :, None]), scales)


def _scales(largest: _Floats) -> _Floats:
    scales: _Floats = np.where(largest > 0, largest / LARGEST, 1).astype(np.float32)
    return scales


def _bytes(scaled: _Floats) -> _Bytes:
    values: _Bytes = (np.rint(scaled) + MIDDLE).astype(np.uint8)
    return values
