"""The one audio format that models hear, and the scale of 16-bit samples."""

from typing import Final

import numpy as np
import numpy.typing as npt

SAMPLE_RATE: Final = 16_000
"""Samples a second of everything behind the edge, in Hz."""

PCM16_SCALE: Final = 32_768.0
"""Full scale of a signed 16-bit sample: float = int16 / PCM16_SCALE, in [-1, 1)."""

Samples = npt.NDArray[np.float32]
"""Mono audio at `SAMPLE_RATE`: shape (n,), float32, in [-1, 1]."""


def seconds_of(samples: int) -> float:
    """Duration in seconds of `samples` samples at `SAMPLE_RATE`."""
    return samples / SAMPLE_RATE
