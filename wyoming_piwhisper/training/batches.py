"""Which clips are heard when: kinds in changing shares, short clips strung together, batches of equal length."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from wyoming_piwhisper.training.clips import Clip, ClipStore

POOL_BATCHES: Final = 12
"""So many batches are drawn together and sorted by length, to pad little."""
STRUNG_SHARE: Final = 0.55
"""Share of single words that are followed by more, from other voices and rooms."""
LONGEST_FRAMES: Final = 800
"""Longer clips are left out: a command takes 1 to 5 s, and a long sentence costs as much as several of them."""
SPARE_FRAMES: Final = 80
"""About what augmentation puts around a clip."""
GAP_FRAMES: Final = (4, 35)

SHARES_FIRST: Final = {"command": 0.34, "word": 0.12, "general": 0.22, "real_word": 0.2, "real": 0.09, "noise": 0.03}
SHARES_LAST: Final = {
    "command": 0.22,
    "spliced": 0.26,
    "word": 0.04,
    "general": 0.1,
    "real_word": 0.13,
    "real": 0.22,
    "noise": 0.03,
}
RAMP: Final = (0.08, 0.35)
"""Maturity at which the shares begin and end to move from the first to the last."""


@dataclass(frozen=True)
class Example:
    """One training utterance."""

    power: npt.NDArray[np.float16]
    """Log10 Mel power: shape (frames, mel bins)."""
    text: str
    phonemes: str


class Batches:
    """Endless batches of about equal numbers of frames."""

    def __init__(self, stores: Sequence[ClipStore], frames: int, seed: int) -> None:
        """Draw from all `stores`; each batch holds about `frames` frames."""
        self._by_kind: dict[str, list[tuple[ClipStore, Clip]]] = {}
        for store in stores:
            for clip in store.clips:
                if clip.frames > LONGEST_FRAMES and clip.kind != "noise":
                    continue
                self._by_kind.setdefault(clip.kind, []).append((store, clip))
        self._frames = frames
        self._random = random.Random(seed)
        self.maturity = 0.0
        """How demanding the clips may be, 0 to 1; set by the trainer."""

    def __iter__(self) -> Iterator[list[Example]]:
        """Batches in random order, sorted by length within a pool."""
        pool: list[Example] = []
        while True:
            while sum(len(example.power) + SPARE_FRAMES for example in pool) < self._frames * POOL_BATCHES:
                pool.append(self._example())
            pool.sort(key=lambda example: len(example.power))
            # What is left over would make a small batch, over which the other processes of a step would wait.
            *batches, pool = self._cut(pool)
            self._random.shuffle(batches)
            yield from batches

    def _cut(self, pool: list[Example]) -> Iterator[list[Example]]:
        batch: list[Example] = []
        for example in pool:
            if batch and (len(batch) + 1) * (len(example.power) + SPARE_FRAMES) > self._frames:
                yield batch
                batch = []
            batch.append(example)
        yield batch

    def _example(self) -> Example:
        kind = self._kind()
        parts = [self._clip(kind)]
        if kind in {"word", "real_word"} and self._random.random() < STRUNG_SHARE:
            follow = [kind for kind in ("word", "real_word", "real_word") if kind in self._by_kind]
            parts += [self._clip(self._random.choice(follow)) for _ in range(self._random.choice((1, 1, 2, 3, 4)))]
        return self._strung(parts)

    def _kind(self) -> str:
        start, end = RAMP
        mix = min(1.0, max(0.0, (self.maturity - start) / (end - start)))
        kinds = [kind for kind in SHARES_LAST if kind in self._by_kind]
        return self._random.choices(
            kinds, [SHARES_FIRST.get(kind, 0) * (1 - mix) + SHARES_LAST[kind] * mix for kind in kinds]
        )[0]

    def _clip(self, kind: str) -> Example:
        store, clip = self._random.choice(self._by_kind[kind])
        power = store.power(clip)
        if kind == "noise" and len(power) > 100:
            start = self._random.randrange(len(power) - 50)
            power = power[start : start + self._random.randint(50, 400)]
        return Example(power, clip.text, clip.phonemes)

    def _strung(self, parts: list[Example]) -> Example:
        powers, texts, phonemes, frames = [parts[0].power], [parts[0].text], [parts[0].phonemes], len(parts[0].power)
        for part in parts[1:]:
            frames += len(part.power)
            if frames > LONGEST_FRAMES:
                break
            gap = np.full((self._random.randint(*GAP_FRAMES), part.power.shape[1]), -9, np.float16)
            level = np.float16(np.log10(self._random.uniform(0.3, 3)))
            powers += [gap, part.power + level]
            texts.append(part.text)
            phonemes.append(part.phonemes)
        return Example(np.concatenate(powers), " ".join(texts), " ".join(phonemes))
