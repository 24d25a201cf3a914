"""Trains one LoRA profile with PEFT, over a base model that stays as it is.

Source of the method: Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", 2021; what a profile is for:
Nassereldine et al., "PI-Whisper", 2024, section 3.
"""

import logging
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Final

import torch
from accelerate import Accelerator
from peft import LoraConfig, get_peft_model
from peft.peft_model import PeftModel
from torch import Tensor
from torch.nn import functional
from torch.utils.data import DataLoader, IterableDataset
from tqdm import tqdm

from wyoming_piwhisper.domain.text import normalise_text
from wyoming_piwhisper.engine.checkpoint import WINDOW_SECONDS, Checkpoint
from wyoming_piwhisper.engine.features import FRAMES_PER_SECOND
from wyoming_piwhisper.engine.whisper_model import Whisper
from wyoming_piwhisper.training.augment import FLOOR, Augmenter, Power, compress
from wyoming_piwhisper.training.profile_clips import SpokenClip, SpokenClips

_LOGGER = logging.getLogger(__name__)
TARGETS: Final = ("q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2")
IGNORED: Final = -100
WINDOW_FRAMES: Final = int(WINDOW_SECONDS * FRAMES_PER_SECOND)  # 3000
LABEL_SMOOTHING: Final = 0.05
WATCH_STEPS: Final = 100
POOL_BATCHES: Final = 8
"""So many batches are drawn together and sorted by length, to pad little."""

Example = tuple[Tensor, Tensor, Tensor]
"""Log-Mel (clips, mel bins, frames), decoder input and labels, both (clips, tokens)."""


@dataclass(frozen=True)
class ProfileRecipe:
    """What decides how a profile comes out, besides the clips."""

    rank: int = 8
    alpha: int = 16
    dropout: float = 0.05
    steps: int = 400
    frames_per_batch: int = 6_000
    learning_rate: float = 1e-3
    warmup_share: float = 0.1
    strength: float = 0.3
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
        self._frames = recipe.frames_per_batch
        self._random = random.Random(recipe.seed * 1000 + process)
        self._augment = Augmenter(material.noises, recipe.seed * 1000 + process)
        self._augment.strength = recipe.strength

    def __iter__(self) -> Iterator[Example]:
        """Batches in random order; long utterances come oftener, or single words would drown the sentences."""
        chosen = self._material.chosen
        frames = list(accumulate(clip.clip.frames for clip in chosen))
        while True:
            pool: list[SpokenClip] = []
            while sum(map(self._length, pool)) < self._frames * POOL_BATCHES:
                pool.append(self._random.choices(chosen, cum_weights=frames)[0])
            pool.sort(key=lambda clip: clip.clip.frames)
            batches = list(self._cut(pool))
            self._random.shuffle(batches)
            yield from map(self._coloured, batches)

    def plain(self, clips: Sequence[SpokenClip]) -> Iterator[Example]:
        """Batches of all `clips`, as they were recorded."""
        for batch in self._cut(sorted(clips, key=lambda clip: clip.clip.frames)) if clips else ():
            powers = [torch.from_numpy(self._material.clips.power(clip).astype("float32")) for clip in batch]
            whole = torch.nn.utils.rnn.pad_sequence(powers, batch_first=True, padding_value=FLOOR)
            yield self._example(compress(torch.pow(10.0, whole.transpose(1, 2))), batch)

    def _cut(self, pool: list[SpokenClip]) -> Iterator[list[SpokenClip]]:
        batch: list[SpokenClip] = []
        for clip in pool:
            if batch and (len(batch) + 1) * self._length(clip) > self._frames:
                yield batch
                batch = []
            batch.append(clip)
        yield batch

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


def spoken_tokens(checkpoint: Checkpoint, text: str) -> list[int]:
    """The tokens of a whole answer, from the start token to the end; plain words where the model knows no others."""
    plain = "wyoming_piwhisper" in checkpoint.config
    words = checkpoint.tokenizer.encode(f" {normalise_text(text) if plain else text}", add_special_tokens=False).ids
    return [*checkpoint.rules.prompt("en"), *words, checkpoint.rules.end]


def train_profile(
    name: str, whisper: Whisper, checkpoint: Checkpoint, material: Material, recipe: ProfileRecipe
) -> PeftModel:
    """Train an adapter for `whisper`; on as many devices as accelerate was launched with."""
    accelerator = Accelerator()
    torch.manual_seed(recipe.seed)
    config = LoraConfig(
        r=recipe.rank, lora_alpha=recipe.alpha, lora_dropout=recipe.dropout, target_modules=list(TARGETS)
    )
    adapted = get_peft_model(whisper, config)
    trained = [parameter for parameter in adapted.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, recipe.learning_rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, recipe.learning_rate, total_steps=recipe.steps, pct_start=recipe.warmup_share
    )
    source = Utterances(material, checkpoint, recipe, accelerator.process_index)
    watch = list(source.plain(material.watched)) if accelerator.is_main_process else []
    model, optimizer = accelerator.prepare(_Loss(adapted), optimizer)
    model.train()
    examples = iter(DataLoader(source, batch_size=None))
    for step in tqdm(range(recipe.steps), name, unit="step", disable=not accelerator.is_local_main_process):
        if watch and step % WATCH_STEPS == 0:
            _LOGGER.info("%s, step %d: development loss %.3f", name, step, _watched_loss(adapted, watch))
        log_mel, inputs, labels = (tensor.to(accelerator.device) for tensor in next(examples))
        accelerator.backward(model(log_mel, inputs, labels))
        accelerator.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
    if watch:
        _LOGGER.info("%s, at the end: development loss %.3f", name, _watched_loss(adapted, watch))
    return adapted.eval()


@torch.inference_mode()
def _watched_loss(adapted: PeftModel, examples: Sequence[Example]) -> float:
    """Mean cross-entropy per token, in nats."""
    adapted.eval()
    device = next(adapted.parameters()).device
    total, tokens = 0.0, 0
    for example in examples:
        log_mel, inputs, labels = (tensor.to(device) for tensor in example)
        counted = int((labels != IGNORED).sum())
        total += counted * float(_loss(adapted, log_mel, inputs, labels, 0.0))
        tokens += counted
    adapted.train()
    return total / tokens


class _Loss(torch.nn.Module):
    """Forward and loss in one, as distributed training wants it."""

    def __init__(self, adapted: PeftModel) -> None:
        super().__init__()
        self.adapted = adapted

    def forward(self, log_mel: Tensor, inputs: Tensor, labels: Tensor) -> Tensor:
        return _loss(self.adapted, log_mel, inputs, labels, LABEL_SMOOTHING)


def _loss(adapted: PeftModel, log_mel: Tensor, inputs: Tensor, labels: Tensor, smoothing: float) -> Tensor:
    whisper: Whisper = adapted.base_model.model
    states = whisper.encode(log_mel)
    logits = whisper.decode(inputs, whisper.cross_keys_values(states)).float()
    return functional.cross_entropy(
        logits.flatten(0, 1), labels.flatten(), ignore_index=IGNORED, label_smoothing=smoothing
    )
