"""Clips on disk, ready to train on: Mel power, text and phonemes of each, memory-mapped.

A store is a folder with `frames.f16` (log10 Mel power, float16, clips one after the other), `clips.jsonl` (one line a
clip) and nothing else; several processes may read it at once.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt

from wyoming_piwhisper.domain.audio import Samples
from wyoming_piwhisper.engine.features import POWER_FLOOR, mel_power

MEL_BINS = 80


@dataclass(frozen=True)
class Clip:
    """What is known of one recording besides its sound."""

    text: str
    """Lower case, numbers spelled, no punctuation; empty for noise."""
    phonemes: str
    """Separated by spaces; empty for noise."""
    kind: str
    """`command`, `word`, `general`, `real`, `real_word` or `noise`."""
    source: str
    """The voice, or the data set."""
    first_frame: int
    frames: int


class ClipWriter:
    """Appends clips to a new store."""

    def __init__(self, folder: Path) -> None:
        """Begin an empty store in `folder`."""
        folder.mkdir(parents=True, exist_ok=True)
        self._frames = (folder / "frames.f16").open("wb")
        self._lines = (folder / "clips.jsonl").open("w", encoding="utf-8")
        self._written = 0

    def __enter__(self) -> Self:
        """The writer itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close both files."""
        self._frames.close()
        self._lines.close()

    def add(self, power: npt.NDArray[np.float16], text: str, phonemes: str, kind: str, source: str) -> None:
        """Append one clip; `power` as `stored_power` returns it."""
        clip = Clip(text, phonemes, kind, source, self._written, power.shape[0])
        self._frames.write(power.tobytes())
        self._lines.write(json.dumps(asdict(clip)) + "\n")
        self._written += power.shape[0]


class ClipStore:
    """Reads a store."""

    def __init__(self, folder: Path) -> None:
        """Map the frames and read the index."""
        lines = (folder / "clips.jsonl").read_text(encoding="utf-8").splitlines()
        self.clips = [Clip(**json.loads(line)) for line in lines]
        frames = folder / "frames.f16"
        mapped = np.memmap(frames, np.float16, "r") if frames.stat().st_size else np.empty(0, np.float16)
        self._frames = mapped.reshape(-1, MEL_BINS)

    def power(self, clip: Clip) -> npt.NDArray[np.float16]:
        """Log10 Mel power of a clip: shape (frames, mel bins), float16."""
        return self._frames[clip.first_frame : clip.first_frame + clip.frames]


def stored_power(samples: Samples) -> npt.NDArray[np.float16]:
    """Log10 Mel power of 16 kHz samples: shape (frames, mel bins), float16."""
    return np.log10(np.maximum(mel_power(samples, MEL_BINS).T, POWER_FLOOR)).astype(np.float16)
