"""Windows, which a model can hear at once, from speech regions."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from wyoming_piwhisper.domain.audio import SAMPLE_RATE, Samples
from wyoming_piwhisper.engine.features import FRAMES_PER_SECOND, Spectrogram
from wyoming_piwhisper.engine.vad import SpeechRegion

LONGEST_PAUSE_SECONDS: Final = 1.5
"""A longer pause between regions begins a new window: a model need not hear silence."""
QUIET_SPAN_SECONDS: Final = 0.2
"""Length of the quiet place at which speech without a pause is cut."""


@dataclass(frozen=True)
class Window:
    """What is to be heard at once."""

    power: Spectrogram
    """Mel power (mel bins, frames), at most 30 s."""
    language: str
    draft: Sequence[int] = ()
    """The likely tokens."""

    @property
    def seconds(self) -> float:
        """Its length."""
        frames: int = self.power.shape[1]
        return frames / FRAMES_PER_SECOND


def windows(regions: list[SpeechRegion], samples: Samples, longest_seconds: float) -> list[SpeechRegion]:
    """Join and cut `regions` so that each window is at most `longest_seconds` and begins and ends in a pause if it can.

    Args:
        regions: in order, without overlap.
        samples: the utterance: shape (n,), float32, 16 kHz; looked at to find quiet places.
        longest_seconds: of a window, in seconds.
    """
    longest = int(longest_seconds * SAMPLE_RATE)
    joined: list[SpeechRegion] = []
    for region in regions:
        for part in _cut(region, samples, longest):
            if joined and _may_join(joined[-1], part, longest):
                joined[-1] = SpeechRegion(joined[-1].start, part.end)
            else:
                joined.append(part)
    return joined


def _may_join(before: SpeechRegion, after: SpeechRegion, longest: int) -> bool:
    close = after.start - before.end <= LONGEST_PAUSE_SECONDS * SAMPLE_RATE
    return close and after.end - before.start <= longest


def _cut(region: SpeechRegion, samples: Samples, longest: int) -> list[SpeechRegion]:
    """Cut a region that is too long at the quietest place of each window's second half."""
    parts, start = [], region.start
    while region.end - start > longest:
        cut = _quietest(samples, start + longest // 2, start + longest)
        parts.append(SpeechRegion(start, cut))
        start = cut
    return [*parts, SpeechRegion(start, region.end)]


def _quietest(samples: Samples, low: int, high: int) -> int:
    """Middle of the quietest span between two samples."""
    span = min(int(QUIET_SPAN_SECONDS * SAMPLE_RATE), high - low)
    energy = np.cumsum(np.square(samples[low:high], dtype=np.float64))
    sums = energy[span - 1 :] - np.concatenate([[0.0], energy[: energy.size - span]])
    return low + int(sums.argmin()) + span // 2
