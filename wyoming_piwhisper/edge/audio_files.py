"""Audio files as what models hear."""

import os
from pathlib import Path
from typing import Final

import numpy as np
import soundfile
import soxr

from wyoming_piwhisper.domain.audio import SAMPLE_RATE, Samples
from wyoming_piwhisper.domain.errors import AudioFormatError

LOWEST_RATE_HZ: Final = 1_000
"""Under it a damaged header would make hours out of a small file."""


def read_audio(path: Path) -> Samples:
    """Read a wav, flac or ogg file of any rate and channel count, whole.

    Returns:
        The mean of its channels at 16 kHz: shape (n,), float32, in [-1, 1], n >= 0.

    Raises:
        AudioFormatError: the file is missing, unreadable or no audio; the message names it.
    """
    try:
        # As bytes, for a name need not be UTF-8.
        channels, rate = soundfile.read(os.fsencode(path), dtype="float32", always_2d=True)
    except soundfile.LibsndfileError as error:
        reason = "no such file" if not path.exists() else error.error_string
        raise AudioFormatError(f"{path}: {reason}") from error
    except TypeError as error:  # for names that end in .raw
        raise AudioFormatError(f"{path}: samples without a header; their rate is unknown") from error
    if rate < LOWEST_RATE_HZ:
        raise AudioFormatError(f"{path}: {rate} samples a second are no speech; the least is {LOWEST_RATE_HZ}")
    mono: Samples = channels.mean(axis=1, dtype=np.float32)
    if not np.isfinite(mono).all():
        raise AudioFormatError(f"{path}: holds samples that are not finite numbers")
    if rate != SAMPLE_RATE and len(mono) > 0:
        mono = soxr.resample(mono, rate, SAMPLE_RATE)
    # Resampling and floating-point files may pass full scale.
    return np.clip(mono, -1.0, 1.0).astype(np.float32, copy=False)
