"""Log-Mel spectrogram as Whisper defines it, over audio of any length.

Source: Radford et al. 2022, section 2.2 (80 bins, 25 ms window, 10 ms hop); filters after Slaney's Auditory Toolbox.
"""

from functools import cache
from typing import Final

import numpy as np
import numpy.typing as npt

from wyoming_piwhisper.domain.audio import SAMPLE_RATE, Samples

WINDOW_SAMPLES: Final = 400  # 25 ms
HOP_SAMPLES: Final = 160  # 10 ms
FRAMES_PER_SECOND: Final = SAMPLE_RATE // HOP_SAMPLES  # 100
DYNAMIC_RANGE: Final = 8.0  # decades under the loudest bin that are kept
POWER_FLOOR: Final = 1e-10

Spectrogram = npt.NDArray[np.float32]
"""Shape (mel bins, frames), float32."""


def log_mel(samples: Samples, mel_bins: int = 80, pad_samples: int = 0) -> Spectrogram:
    """What Whisper's encoder hears.

    Args:
        samples: shape (n,), float32 in [-1, 1], 16 kHz.
        mel_bins: 80, or 128 for the large-v3 family.
        pad_samples: silence appended to `samples`.

    Returns:
        Shape (mel_bins, (n + pad_samples) // 160), float32, about -1 to 2.
    """
    return compress(mel_power(np.pad(samples, (0, pad_samples)), mel_bins))


def mel_power(samples: Samples, mel_bins: int = 80) -> Spectrogram:
    """Power in each Mel band: shape (mel_bins, n // 160), float32, at least 0."""
    frames = samples.size // HOP_SAMPLES
    if frames == 0:
        return np.zeros((mel_bins, 0), np.float32)
    half = WINDOW_SAMPLES // 2
    padded = np.pad(samples, half, mode="reflect" if samples.size > half else "constant")
    return _power(padded, frames, mel_bins)


class MelStream:
    """Mel power of audio as it arrives, each frame computed once: what `mel_power` makes of all of it."""

    def __init__(self, mel_bins: int = 80) -> None:
        """Begin before the first sample."""
        self._mel_bins = mel_bins
        self._waiting = np.zeros(0, np.float32)
        self._has_begun = False
        self._frames = np.zeros((mel_bins, FRAMES_PER_SECOND), np.float32)
        self._count = 0

    def feed(self, samples: Samples) -> None:
        """Take the next samples: shape (n,), float32 in [-1, 1], 16 kHz."""
        self._waiting = np.concatenate([self._waiting, samples])
        if not self._has_begun:
            if self._waiting.size <= WINDOW_SAMPLES // 2:
                return
            # As the whole is padded: with its mirror image.
            self._waiting = np.concatenate([self._waiting[WINDOW_SAMPLES // 2 : 0 : -1], self._waiting])
            self._has_begun = True
        count = max(0, (self._waiting.size - WINDOW_SAMPLES) // HOP_SAMPLES + 1)
        self._append(_power(self._waiting, count, self._mel_bins))
        self._waiting = self._waiting[count * HOP_SAMPLES :]

    def power(self, start: int, end: int) -> Spectrogram:
        """Frames `start` to `end`: shape (mel bins, end - start); silence where audio is still to come."""
        missing = max(0, end - self._count)
        if not missing:
            return self._frames[:, start:end]
        padded = np.pad(self._waiting, (0, WINDOW_SAMPLES + missing * HOP_SAMPLES))
        tail = _power(padded, missing, self._mel_bins)[:, max(0, start - self._count) :]
        return np.concatenate([self._frames[:, min(start, self._count) : self._count], tail], axis=1)

    def _append(self, power: Spectrogram) -> None:
        needed = self._count + power.shape[1]
        if needed > self._frames.shape[1]:
            self._frames = np.pad(self._frames, ((0, 0), (0, max(needed, self._frames.shape[1]))))
        self._frames[:, self._count : needed] = power
        self._count = needed


def _power(samples: Samples, frames: int, mel_bins: int) -> Spectrogram:
    """Power in Mel bands of the first `frames` windows."""
    if frames == 0:
        return np.zeros((mel_bins, 0), np.float32)
    windows = np.lib.stride_tricks.sliding_window_view(samples, WINDOW_SAMPLES)[::HOP_SAMPLES][:frames]
    spectrum = np.fft.rfft(windows * _hann())
    power = (spectrum.real**2 + spectrum.imag**2).astype(np.float32)
    return mel_filters(mel_bins) @ power.T


def compress(power: Spectrogram) -> Spectrogram:
    """Power in Mel bands to Whisper's input: log10, 8 decades under the maximum, scaled to about -1 to 2."""
    logarithm = np.log10(np.maximum(power, POWER_FLOOR))
    if logarithm.size:
        logarithm = np.maximum(logarithm, logarithm.max() - DYNAMIC_RANGE)
    return (logarithm + np.float32(4)) / np.float32(4)


@cache
def mel_filters(mel_bins: int) -> npt.NDArray[np.float32]:
    """Triangular filters of unit area on the Slaney Mel scale: shape (mel_bins, 201), float32."""
    bins = np.linspace(0, SAMPLE_RATE / 2, WINDOW_SAMPLES // 2 + 1)
    edges = _mel_to_hz(np.linspace(0, _hz_to_mel(SAMPLE_RATE / 2), mel_bins + 2))
    widths = np.diff(edges)
    slopes = edges[:, None] - bins[None, :]
    rising, falling = -slopes[:-2] / widths[:-1, None], slopes[2:] / widths[1:, None]
    filters = np.maximum(0, np.minimum(rising, falling)) * (2 / (edges[2:] - edges[:-2]))[:, None]
    return filters.astype(np.float32)


@cache
def _hann() -> npt.NDArray[np.float32]:
    return np.hanning(WINDOW_SAMPLES + 1)[:-1].astype(np.float32)


_LINEAR_HZ_PER_MEL: Final = 200 / 3
_LOG_FROM_HZ: Final = 1000.0
_LOG_FROM_MEL: Final = _LOG_FROM_HZ / _LINEAR_HZ_PER_MEL  # 15
_LOG_STEP: Final = np.log(6.4) / 27


def _hz_to_mel(hz: float) -> float:
    if hz < _LOG_FROM_HZ:
        return hz / _LINEAR_HZ_PER_MEL
    return float(_LOG_FROM_MEL + np.log(hz / _LOG_FROM_HZ) / _LOG_STEP)


def _mel_to_hz(mel: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    linear = mel * _LINEAR_HZ_PER_MEL
    return np.where(mel < _LOG_FROM_MEL, linear, _LOG_FROM_HZ * np.exp(_LOG_STEP * (mel - _LOG_FROM_MEL)))
