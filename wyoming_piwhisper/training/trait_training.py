"""Trains the classifier of one trait on random crops, heard through random rooms and microphones.

Accent, age and data set go together in any collection, and a network finds the microphone sooner than the accent. So
classes, the data sets in a class and the speakers in a data set are drawn evenly, and every crop is coloured anew.
"""

import logging
import random
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from tqdm import tqdm

from wyoming_piwhisper.domain.traits import Trait
from wyoming_piwhisper.engine.features import FRAMES_PER_SECOND
from wyoming_piwhisper.training.augment import Augmenter, Power
from wyoming_piwhisper.training.trait_clips import TraitClip, TraitClips
from wyoming_piwhisper.training.trait_labels import labels_of
from wyoming_piwhisper.training.trait_net import TraitNet

_LOGGER = logging.getLogger(__name__)
CROP_SECONDS: Final = (0.8, 3.0)
STRENGTH: Final = 0.8
"""Of the augmentation."""
EVENNESS: Final = 0.5
"""Classes and data sets are drawn in proportion to this power of their speakers: 0 is even, 1 is as they come."""
CALIBRATION_SPEAKERS: Final = 10
"""One training speaker of so many is kept for calibration, together with the development split."""
LABEL_SMOOTHING: Final = 0.05
NEIGHBOUR_SHARE: Final = 0.15
"""What a stratum of age gives to each of its neighbours, since voices age gradually and strata have edges."""
LOG_STEPS: Final = 100
STEPS: Final[dict[Trait, int]] = {"gender": 8000, "accent": 4000, "age": 4000}
"""What suits each trait: gender has the most speakers, and its loss falls for longer."""


@dataclass(frozen=True)
class TraitRecipe:
    """What decides how a classifier comes out, besides the clips."""

    steps: int
    crops_per_step: int = 48
    learning_rate: float = 2e-3
    weight_decay: float = 0.03
    seed: int = 1


def is_for_training(clip: TraitClip) -> bool:
    """Whether a clip is learned from; the rest of the training split's speakers serve calibration."""
    return clip.split == "train" and not _is_for_calibration(clip.speaker)


def is_for_calibration(clip: TraitClip) -> bool:
    """Whether temperatures and thresholds are fitted on a clip."""
    return clip.split == "dev" or (clip.split == "train" and _is_for_calibration(clip.speaker))


def train_trait(
    trait: Trait, clips: TraitClips, chosen: Sequence[TraitClip], noises: Sequence[Power], recipe: TraitRecipe
) -> TraitNet:
    """Train a classifier on the `chosen` clips, which all have the trait."""
    torch.manual_seed(recipe.seed)
    net = TraitNet(len(labels_of(trait))).train()
    net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.AdamW(net.parameters(), recipe.learning_rate, weight_decay=recipe.weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, recipe.learning_rate, total_steps=recipe.steps)
    crops = Crops(trait, clips, chosen, noises, recipe.seed)
    targets = _targets(trait)
    losses: list[float] = []
    for step in tqdm(range(1, recipe.steps + 1), trait, unit="step"):
        log_mel, labels = crops.batch(recipe.crops_per_step)
        loss = functional.cross_entropy(net(log_mel), targets[labels], label_smoothing=LABEL_SMOOTHING)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
        if step % LOG_STEPS == 0:
            _LOGGER.info("%s, step %d: loss %.3f", trait, step, np.mean(losses[-LOG_STEPS:]))
    return net.eval()


def _targets(trait: Trait) -> Tensor:
    """What the network is to answer to each label: (labels, labels), rows sum to 1."""
    own = torch.eye(len(labels_of(trait)))
    if trait != "age":
        return own
    beside = torch.diag(torch.ones(len(own) - 1), 1)
    shares = own + NEIGHBOUR_SHARE * (beside + beside.T)
    return shares / shares.sum(dim=1, keepdim=True)


class Crops:
    """Draws batches of crops of equal length."""

    def __init__(
        self, trait: Trait, clips: TraitClips, chosen: Sequence[TraitClip], noises: Sequence[Power], seed: int
    ) -> None:
        """Sort `chosen` by class, data set and speaker."""
        self._clips = clips
        self._labels = labels_of(trait)
        self._random = random.Random(seed)
        self._augment = Augmenter(noises, seed)
        self._augment.strength = STRENGTH
        self._tree: dict[str, dict[str, dict[str, list[TraitClip]]]] = {}
        for clip in chosen:
            by_dataset = self._tree.setdefault(clip.traits[trait], {})
            by_dataset.setdefault(clip.dataset, {}).setdefault(clip.speaker, []).append(clip)

    def batch(self, count: int) -> tuple[Tensor, Tensor]:
        """Log-Mel (count, mel bins, frames) and the numbers of their labels (count,)."""
        frames = round(self._random.uniform(*CROP_SECONDS) * FRAMES_PER_SECOND)
        drawn = [self._draw() for _ in range(count)]
        crops = np.stack([_crop(self._clips.power(clip), frames, self._random) for _, clip in drawn])
        log_power = torch.from_numpy(crops.astype(np.float32)).transpose(1, 2)
        return self._augment.record(log_power), torch.tensor([self._labels.index(value) for value, _ in drawn])

    def _draw(self) -> tuple[str, TraitClip]:
        value = self._choice({value: sum(map(len, sets.values())) for value, sets in self._tree.items()})
        dataset = self._choice({name: len(speakers) for name, speakers in self._tree[value].items()})
        speakers = self._tree[value][dataset]
        return value, self._random.choice(speakers[self._random.choice(list(speakers))])

    def _choice(self, speakers: dict[str, int]) -> str:
        return self._random.choices(list(speakers), [count**EVENNESS for count in speakers.values()])[0]


def _crop(power: Power, frames: int, source: random.Random) -> Power:
    """A stretch of `frames` frames; a clip that is too short is heard again."""
    if len(power) < frames:
        power = np.tile(power, (-(-frames // len(power)), 1))
    start = source.randint(0, len(power) - frames)
    return power[start : start + frames]


def _is_for_calibration(speaker: str) -> bool:
    return zlib.crc32(speaker.encode()) % CALIBRATION_SPEAKERS == 0
