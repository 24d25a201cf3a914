"""Recorded utterances in batches of about equal numbers of frames."""

import random
from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate
from typing import Final

import torch
from torch import Tensor
from torch.nn import functional

from wyoming_piwhisper.engine.checkpoint import WINDOW_SECONDS
from wyoming_piwhisper.engine.features import FRAMES_PER_SECOND
from wyoming_piwhisper.training.augment import FLOOR, Power, compress
from wyoming_piwhisper.training.profile_clips import SpokenClip

WINDOW_FRAMES: Final = int(WINDOW_SECONDS * FRAMES_PER_SECOND)  # 3000
POOL_BATCHES: Final = 8
"""So many batches are drawn together and sorted by length, to pad little."""


class SpokenBatches:
    """Batches that hold about `frames` frames each; `length` says how many the encoder gets for a clip."""

    def __init__(self, frames: int, length: Callable[[SpokenClip], int]) -> None:
        """Choose the size of the batches."""
        self._frames = frames
        self._length = length

    def drawn(self, chosen: Sequence[SpokenClip], source: random.Random) -> Iterator[list[SpokenClip]]:
        """Endless batches in random order; long utterances come oftener, or single words would drown the sentences."""
        frames = list(accumulate(clip.clip.frames for clip in chosen))
        while True:
            pool: list[SpokenClip] = []
            while sum(map(self._length, pool)) < self._frames * POOL_BATCHES:
                pool.append(source.choices(chosen, cum_weights=frames)[0])
            batches = list(self.each_once(pool))
            source.shuffle(batches)
            yield from batches

    def each_once(self, clips: Sequence[SpokenClip]) -> Iterator[list[SpokenClip]]:
        """Batches of all `clips`, from the shortest to the longest."""
        batch: list[SpokenClip] = []
        for clip in sorted(clips, key=lambda clip: clip.clip.frames):
            if batch and (len(batch) + 1) * self._length(clip) > self._frames:
                yield batch
                batch = []
            batch.append(clip)
        if batch:
            yield batch


def plain_log_mel(powers: Sequence[Power], frames: int = 0) -> Tensor:
    """Clips as they were recorded, with silence up to the longest, or to `frames`: (clips, mel bins, frames)."""
    sounds = [torch.from_numpy(power.astype("float32")) for power in powers]
    whole = torch.nn.utils.rnn.pad_sequence(sounds, batch_first=True, padding_value=FLOOR)
    whole = functional.pad(whole, (0, 0, 0, max(0, frames - whole.shape[1])), value=FLOOR)
    return compress(torch.pow(10.0, whole.transpose(1, 2)))
