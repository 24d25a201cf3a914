"""What profiles are trained on: recorded utterances as Mel power, each with its text and its speaker's traits."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tqdm import tqdm

from wyoming_piwhisper.domain.traits import Trait
from wyoming_piwhisper.engine.features import FRAMES_PER_SECOND
from wyoming_piwhisper.training.augment import Power
from wyoming_piwhisper.training.clips import Clip, ClipStore, ClipWriter, stored_power
from wyoming_piwhisper.training.manifest import ManifestClip
from wyoming_piwhisper.training.prepare import DONE, read_recording
from wyoming_piwhisper.training.processes import pool_of

LONGEST_SECONDS: Final = 12.0
TRAITS: Final = "traits.jsonl"


@dataclass(frozen=True)
class SpokenClip:
    """One utterance."""

    clip: Clip
    split: str
    speaker: str | None
    traits: dict[Trait, str]

    @property
    def text(self) -> str:
        """As the manifest has it; empty where nobody speaks."""
        return self.clip.text


class SpokenClips:
    """All utterances of a folder that `prepare_spoken` wrote."""

    def __init__(self, folder: Path) -> None:
        """Map the frames and read the texts."""
        self._store = ClipStore(folder)
        lines = (folder / TRAITS).read_text(encoding="utf-8").splitlines()
        self.clips = [SpokenClip(clip, **json.loads(line)) for clip, line in zip(self._store.clips, lines, strict=True)]

    def power(self, clip: SpokenClip) -> Power:
        """Log10 Mel power: shape (frames, mel bins), float16."""
        return self._store.power(clip.clip)

    def of(self, trait: Trait | None, value: str, split: str) -> list[SpokenClip]:
        """The utterances of a split whose speakers have this value; of everybody where `trait` is None."""
        return [
            clip
            for clip in self.clips
            if clip.split == split and clip.text and (trait is None or clip.traits.get(trait) == value)
        ]


def prepare_spoken(folder: Path, rows: Sequence[ManifestClip], processes: int) -> SpokenClips:
    """Read the recordings that have a transcript and are not too long, unless that was done before.

    Raises:
        AudioFormatError: a recording cannot be used.
    """
    if not (folder / DONE).exists():
        written = [row for row in rows if row.reference is not None and row.split in {"train", "dev"}]
        with ClipWriter(folder) as writer, pool_of(processes) as pool, (folder / TRAITS).open("w") as traits:
            powers: Iterator[Power] = pool.map(_power, (row.path for row in written), chunksize=64)
            for row, power in tqdm(zip(written, powers, strict=True), "utterances", len(written), unit="clip"):
                if len(power) > LONGEST_SECONDS * FRAMES_PER_SECOND:
                    continue
                writer.add(power, row.reference or "", "", "real", row.dataset)
                line = {"split": row.split, "speaker": row.speaker, "traits": dict(row.traits)}
                traits.write(json.dumps(line) + "\n")
        (folder / DONE).touch()
    return SpokenClips(folder)


def _power(path: Path) -> Power:
    return stored_power(read_recording(path))
