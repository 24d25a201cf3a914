"""Clips with speakers' traits: the speech in them as Mel power, ready to be cropped."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from wyoming_piwhisper.domain.audio import Samples
from wyoming_piwhisper.domain.settings import VadSettings
from wyoming_piwhisper.domain.traits import Trait
from wyoming_piwhisper.engine.features import FRAMES_PER_SECOND
from wyoming_piwhisper.engine.vad import SpeechGate
from wyoming_piwhisper.training.clips import Clip, ClipStore, ClipWriter, stored_power
from wyoming_piwhisper.training.manifest import ManifestClip
from wyoming_piwhisper.training.prepare import DONE, read_recording
from wyoming_piwhisper.training.processes import pool_of

LONGEST_SECONDS: Final = 6
"""Of the speech of a clip; more says nothing new of the speaker."""
LEAST_FRAMES: Final = 40
LABELS: Final = "labels.jsonl"


@dataclass(frozen=True)
class TraitClip:
    """One clip and what is known of its speaker."""

    clip: Clip
    split: str
    dataset: str
    speaker: str
    """Clips of unknown speakers count as one speaker each."""
    traits: dict[Trait, str]
    age_years: int | None


class TraitClips:
    """All clips of a folder that `prepare` wrote."""

    def __init__(self, folder: Path) -> None:
        """Map the frames and read the labels."""
        self._store = ClipStore(folder)
        lines = (folder / LABELS).read_text(encoding="utf-8").splitlines()
        self.clips = [TraitClip(clip, **json.loads(line)) for clip, line in zip(self._store.clips, lines, strict=True)]

    def power(self, clip: TraitClip) -> npt.NDArray[np.float16]:
        """Log10 Mel power of the clip's speech: shape (frames, mel bins), float16."""
        return self._store.power(clip.clip)


def prepare(folder: Path, rows: Sequence[ManifestClip], processes: int) -> TraitClips:
    """Read the recordings whose speakers have a trait, unless that was done before.

    Raises:
        AudioFormatError: a recording cannot be used.
    """
    if not (folder / DONE).exists():
        known = [row for row in rows if row.traits]
        with ClipWriter(folder) as writer, pool_of(processes) as pool, (folder / LABELS).open("w") as labels:
            powers = pool.map(_speech_power, (row.path for row in known), chunksize=64)
            for row, power in tqdm(zip(known, powers, strict=True), "speakers", len(known), unit="clip"):
                if len(power) < LEAST_FRAMES:
                    continue
                writer.add(power, "", "", "real", row.dataset)
                labels.write(json.dumps(_label(row)) + "\n")
        (folder / DONE).touch()
    return TraitClips(folder)


def speech_of(samples: Samples) -> Samples:
    """The speech in `samples` (n,), float32, 16 kHz, without the pauses; all of it where no speech is found."""
    gate = SpeechGate(VadSettings())
    gate.feed(samples)
    regions = gate.regions()
    return np.concatenate([samples[region.start : region.end] for region in regions]) if regions else samples


def _label(row: ManifestClip) -> dict[str, object]:
    speaker = f"{row.dataset}/{row.speaker}" if row.speaker else row.name
    return {
        "split": row.split,
        "dataset": row.dataset,
        "speaker": speaker,
        "traits": dict(row.traits),
        "age_years": row.age_years,
    }


def _speech_power(path: Path) -> npt.NDArray[np.float16]:
    return stored_power(speech_of(read_recording(path)))[: LONGEST_SECONDS * FRAMES_PER_SECOND]
