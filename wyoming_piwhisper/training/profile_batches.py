"""Utterances as training input: batches of about equal numbers of frames, coloured anew each time."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.data import IterableDataset

from wyoming_piwhisper.domain.text import normalise_text
from wyoming_piwhisper.engine.checkpoint import Checkpoint
from wyoming_piwhisper.training.augment import Augmenter, Power
from wyoming_piwhisper.training.profile_clips import SpokenClip, SpokenClips
from wyoming_piwhisper.training.spoken_batches import WINDOW_FRAMES, SpokenBatches, plain_log_mel

IGNORED: Final = -100

Example = tuple[Tensor, Tensor, Tensor]
"""Log-Mel (clips, mel bins, frames), decoder input and labels, both (clips, tokens)."""


@dataclass(frozen=True)
class ProfileRecipe:
    """What decides how a profile comes out, besides the clips."""

    rank: int = 8
    alpha: int = 16
    dropout: float = 0.05
    steps: int = 150
    frames_per_batch: int = 4_000
    learning_rate: float = 5e-4
    warmup_share: float = 0.1
    strength: float = 0.5
    """Of the augmentation."""
    seed: int = 1


@dataclass(frozen=True)
class Material:
    """What an adapter is trained on."""

    clips: SpokenClips
    chosen: Sequence[SpokenClip]
    """Those of `clips` that are used."""
    noises: Sequence[Power]
    watched: Sequence[SpokenClip] = ()
    """Those on which the loss is looked at while it trains; never learned from."""


class Utterances(IterableDataset[Example]):
    """Endless batches of about equal numbers of frames, coloured anew each time."""

    def __init__(self, material: Material, checkpoint: Checkpoint, recipe: ProfileRecipe, process: int) -> None:
        """Draw from the material; every process of a run draws its own."""
        self._material = material
        self._checkpoint = checkpoint
        self._batches = SpokenBatches(recipe.frames_per_batch, self._length)
        self._random = random.Random(recipe.seed * 1000 + process)
        self._augment = Augmenter(material.noises, recipe.seed * 1000 + process)
        self._augment.strength = recipe.strength

    def __iter__(self) -> Iterator[Example]:
        """Batches in random order."""
        yield from map(self._coloured, self._batches.drawn(self._material.chosen, self._random))

    def plain(self, clips: Sequence[SpokenClip]) -> Iterator[Example]:
        """Batches of all `clips`, as they were recorded."""
        for batch in self._batches.each_once(clips):
            yield self._example(plain_log_mel([self._material.clips.power(clip) for clip in batch]), batch)

    def _length(self, clip: SpokenClip) -> int:
        """Frames that the encoder gets for a clip."""
        return WINDOW_FRAMES if self._checkpoint.context.pad_seconds is None else clip.clip.frames

    def _coloured(self, batch: list[SpokenClip]) -> Example:
        return self._example(self._augment([self._material.clips.power(clip) for clip in batch]), batch)

    def _example(self, log_mel: Tensor, batch: list[SpokenClip]) -> Example:
        if self._checkpoint.context.pad_seconds is None:
            log_mel = functional.pad(log_mel, (0, WINDOW_FRAMES - log_mel.shape[2]), value=float(log_mel.min()))
        answers = [torch.tensor(spoken_tokens(self._checkpoint, clip.text)) for clip in batch]
        whole = torch.nn.utils.rnn.pad_sequence(answers, batch_first=True, padding_value=IGNORED)
        labels = whole[:, 1:].clone()
        labels[:, : len(self._checkpoint.rules.prompt("en")) - 1] = IGNORED
        return log_mel, whole[:, :-1].clamp(min=0), labels


def spoken_tokens(checkpoint: Checkpoint, text: str, language: str = "en") -> list[int]:
    """The tokens of a whole answer, from the start token to the end; plain words where the model knows no others."""
    # Models trained here have rules of their own; one from the hub keeps its way of writing whatever its context is.
    plain = "decoding" in checkpoint.config.get("wyoming_piwhisper", {})
    words = checkpoint.tokenizer.encode(f" {normalise_text(text) if plain else text}", add_special_tokens=False).ids
    return [*checkpoint.rules.prompt(language), *words, checkpoint.rules.end]
