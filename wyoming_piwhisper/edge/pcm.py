"""PCM bytes as clients send them, turned into the samples that models hear, chunk by chunk."""

from dataclasses import dataclass
from typing import Final

import numpy as np
import soxr

from wyoming_piwhisper.domain.audio import PCM16_SCALE, SAMPLE_RATE, Samples
from wyoming_piwhisper.domain.errors import AudioFormatError

MIN_RATE_HZ: Final = 8_000
MAX_RATE_HZ: Final = 48_000
MAX_CHANNELS: Final = 2
WIDTHS: Final = (2, 3, 4)
"""Bytes of one signed little-endian sample."""

_PCM32_SCALE: Final = 2_147_483_648.0


@dataclass(frozen=True)
class PcmFormat:
    """How PCM bytes are laid out: interleaved channels of signed little-endian integers."""

    rate: int
    """Frames a second, 8000 to 48000."""
    width: int
    """Bytes a sample: 2, 3 or 4."""
    channels: int
    """1 or 2."""

    def __post_init__(self) -> None:
        """Refuse what cannot be converted.

        Raises:
            AudioFormatError: a value is out of range or no whole number.
        """
        if type(self.rate) is not int or not MIN_RATE_HZ <= self.rate <= MAX_RATE_HZ:
            raise AudioFormatError(f"audio: rate {self.rate!r:.40} is not from {MIN_RATE_HZ} to {MAX_RATE_HZ} Hz")
        if type(self.width) is not int or self.width not in WIDTHS:
            raise AudioFormatError(f"audio: width {self.width!r:.40} is not 2, 3 or 4 bytes")
        if type(self.channels) is not int or not 1 <= self.channels <= MAX_CHANNELS:
            raise AudioFormatError(f"audio: {self.channels!r:.40} channels, not 1 or 2")

    @property
    def frame_bytes(self) -> int:
        """Bytes of one sample of all channels."""
        return self.width * self.channels

    @property
    def bytes_per_second(self) -> int:
        """Bytes of one second of audio."""
        return self.rate * self.frame_bytes


class PcmConverter:
    """Converts one stream of PCM; frames may be cut anywhere between chunks."""

    def __init__(self, pcm_format: PcmFormat) -> None:
        """Begin a stream in `pcm_format`."""
        self._format = pcm_format
        self._cut_frame = b""
        self._resampler: soxr.ResampleStream | None = None
        if pcm_format.rate != SAMPLE_RATE:
            self._resampler = soxr.ResampleStream(pcm_format.rate, SAMPLE_RATE, 1, dtype="float32")

    def convert(self, pcm: bytes) -> Samples:
        """Return the next samples, shape (n,), float32 in [-1, 1]; a resampler holds back the last few ms."""
        pcm = self._cut_frame + pcm
        whole = len(pcm) - len(pcm) % self._format.frame_bytes
        self._cut_frame = pcm[whole:]
        mono = _mono(pcm[:whole], self._format)
        return mono if self._resampler is None else self._resampled(mono, last=False)

    def flush(self) -> Samples:
        """End the stream and return the samples held back, shape (n,); an incomplete last frame is dropped."""
        nothing = np.zeros(0, np.float32)
        return nothing if self._resampler is None else self._resampled(nothing, last=True)

    def _resampled(self, mono: Samples, *, last: bool) -> Samples:
        if self._resampler is None:
            return mono
        # A filter overshoots at steps of full scale.
        resampled: Samples = np.clip(self._resampler.resample_chunk(mono, last=last), np.float32(-1), np.float32(1))
        return resampled


def _mono(pcm: bytes, pcm_format: PcmFormat) -> Samples:
    match pcm_format.width:
        case 2:
            samples = np.frombuffer(pcm, "<i2").astype(np.float32) / np.float32(PCM16_SCALE)
        case 3:
            wide = np.zeros((len(pcm) // 3, 4), np.uint8)
            wide[:, 1:] = np.frombuffer(pcm, np.uint8).reshape(-1, 3)
            samples = wide.view("<i4")[:, 0].astype(np.float32) / np.float32(_PCM32_SCALE)
        case _:
            samples = np.frombuffer(pcm, "<i4").astype(np.float32) / np.float32(_PCM32_SCALE)
    if pcm_format.channels == 1:
        return samples
    mean: Samples = samples.reshape(-1, pcm_format.channels).mean(axis=1, dtype=np.float32)
    return mean
