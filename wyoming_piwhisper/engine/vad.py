"""Voice activity detection: webrtcvad on short frames, with hysteresis, over audio as it arrives."""

from collections import deque
from dataclasses import dataclass
from typing import Final

import numpy as np
import webrtcvad

from wyoming_piwhisper.domain.audio import PCM16_SCALE, SAMPLE_RATE, Samples
from wyoming_piwhisper.domain.settings import MAX_START_MS, VadSettings
from wyoming_piwhisper.engine.features import WINDOW_SAMPLES

FRAME_MS: Final = 30  # webrtcvad knows 10, 20 and 30 ms; the longest decides best
FRAME_SAMPLES: Final = SAMPLE_RATE * FRAME_MS // 1000  # 480
LOOK_AHEAD_SAMPLES: Final = WINDOW_SAMPLES // 2  # 200
"""What the last log-Mel frame of a region hears of the time behind it."""
START_WINDOW_FRAMES: Final = MAX_START_MS // FRAME_MS  # 10
"""Speech must gather within 0.3 s to open the gate; a click or two do not."""


@dataclass(frozen=True)
class SpeechRegion:
    """A stretch of an utterance in which somebody speaks, in samples from its beginning."""

    start: int
    end: int

    @property
    def samples(self) -> int:
        """Length in samples."""
        return self.end - self.start


class SpeechGate:
    """Finds the regions with speech while audio is fed to it; used from one thread."""

    def __init__(self, settings: VadSettings) -> None:
        """Begin before the first sample of an utterance."""
        self._vad = webrtcvad.Vad(settings.aggressiveness)
        self._start_frames = max(1, round(settings.start_ms / FRAME_MS))
        self._stop_frames = max(1, round(settings.stop_ms / FRAME_MS))
        self._pad_samples = SAMPLE_RATE * settings.pad_ms // 1000
        self._tail_samples = SAMPLE_RATE * settings.tail_ms // 1000
        self._recent: deque[bool] = deque(maxlen=START_WINDOW_FRAMES)
        self._rest = np.zeros(0, np.float32)
        self._frames = 0
        self._opened_at: int | None = None
        self._last_voiced = -1
        self._closed_at: int | None = None
        self._longest_pause_frames = 0
        self._closed: list[SpeechRegion] = []

    def feed(self, samples: Samples) -> None:
        """Take the next samples: shape (n,), float32 in [-1, 1], 16 kHz."""
        waiting = np.concatenate([self._rest, samples])
        whole = waiting.size // FRAME_SAMPLES * FRAME_SAMPLES
        pcm = np.clip(waiting[:whole] * PCM16_SCALE, -PCM16_SCALE, PCM16_SCALE - 1).astype("<i2")
        for frame in pcm.reshape(-1, FRAME_SAMPLES):
            self._advance(voiced=self._vad.is_speech(frame.tobytes(), SAMPLE_RATE))
        self._rest = waiting[whole:]

    @property
    def pause_is_settled(self) -> bool:
        """Whether it has been silent for so long that more silence would change nothing of what was said."""
        silent = (self._frames - self._last_voiced - 1) * FRAME_SAMPLES
        return silent >= self._tail_samples + LOOK_AHEAD_SAMPLES

    @property
    def silence_seconds(self) -> float:
        """How long it has been silent."""
        return (self._frames - self._last_voiced - 1) * FRAME_MS / 1000

    @property
    def longest_pause_seconds(self) -> float:
        """The longest silence so far with speech before and after it."""
        return self._longest_pause_frames * FRAME_MS / 1000

    def regions(self) -> list[SpeechRegion]:
        """The regions so far, padded, in order, without overlap; the last one may still be open."""
        found = list(self._closed)
        if self._opened_at is not None:
            found.append(self._padded(self._opened_at, self._last_voiced + 1))
        return _merged(found)

    def _advance(self, *, voiced: bool) -> None:
        self._recent.append(voiced)
        if voiced:
            if self._opened_at is not None:
                self._note_pause(self._last_voiced + 1, self._frames)
            self._last_voiced = self._frames
        if self._opened_at is None:
            if sum(self._recent) >= self._start_frames and voiced:
                self._opened_at = self._frames - _age_of_first_voiced(self._recent)
                if self._closed_at is not None:
                    self._note_pause(self._closed_at, self._opened_at)
        elif self._frames - self._last_voiced >= self._stop_frames:
            self._closed.append(self._padded(self._opened_at, self._last_voiced + 1))
            self._opened_at, self._closed_at = None, self._last_voiced + 1
            self._recent.clear()
        self._frames += 1

    def _note_pause(self, first_frame: int, end_frame: int) -> None:
        self._longest_pause_frames = max(self._longest_pause_frames, end_frame - first_frame)

    def _padded(self, first_frame: int, end_frame: int) -> SpeechRegion:
        start = max(0, first_frame * FRAME_SAMPLES - self._pad_samples)
        heard = self._frames * FRAME_SAMPLES + self._rest.size
        return SpeechRegion(start, min(heard, end_frame * FRAME_SAMPLES + self._tail_samples))


def _age_of_first_voiced(recent: deque[bool]) -> int:
    return len(recent) - 1 - list(recent).index(True)


def _merged(regions: list[SpeechRegion]) -> list[SpeechRegion]:
    """Join regions whose padding overlaps."""
    merged: list[SpeechRegion] = []
    for region in regions:
        if merged and region.start <= merged[-1].end:
            merged[-1] = SpeechRegion(merged[-1].start, max(merged[-1].end, region.end))
        else:
            merged.append(region)
    return merged
