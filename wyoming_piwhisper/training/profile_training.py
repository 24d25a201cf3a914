"""Trains one LoRA profile with PEFT, over a base model that stays as it is.

Source of the method: Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", 2021; what a profile is for:
Nassereldine et al., "PI-Whisper", 2024, section 3.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import torch
from accelerate import Accelerator
from peft import LoraConfig, get_peft_model
from peft.peft_model import PeftModel
from torch import Tensor
from torch.nn import functional
from torch.utils.data import DataLoader
from tqdm import tqdm

from wyoming_piwhisper.engine.checkpoint import Checkpoint
from wyoming_piwhisper.engine.whisper_model import Whisper
from wyoming_piwhisper.training.profile_batches import IGNORED, Example, Material, ProfileRecipe, Utterances

_LOGGER = logging.getLogger(__name__)
TARGETS: Final = ("q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2")
LABEL_SMOOTHING: Final = 0.05
WATCH_STEPS: Final = 25


@dataclass(frozen=True)
class TrainedProfile:
    """An adapter and what it does to the loss on the group's development utterances, in nats per token."""

    adapted: PeftModel
    loss_before: float | None
    """None where the group has no such utterances."""
    loss_after: float | None

    @property
    def helps(self) -> bool:
        """Whether the loss fell; False where there is nothing to tell by."""
        return self.loss_before is not None and self.loss_after is not None and self.loss_after < self.loss_before


def train_profile(
    name: str, whisper: Whisper, checkpoint: Checkpoint, material: Material, recipe: ProfileRecipe
) -> TrainedProfile:
    """Train an adapter for `whisper`; on as many devices as accelerate was launched with.

    Of the states that are looked at on the way, the one with the lowest loss on the development utterances is kept.
    """
    accelerator = Accelerator()
    torch.manual_seed(recipe.seed)
    config = LoraConfig(
        r=recipe.rank, lora_alpha=recipe.alpha, lora_dropout=recipe.dropout, target_modules=list(TARGETS)
    )
    adapted = get_peft_model(whisper, config)
    trained = [parameter for parameter in adapted.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, recipe.learning_rate)
    # The schedule divides by the length of a warm-up less one step.
    warmup = recipe.warmup_share + 1e-6
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, recipe.learning_rate, total_steps=recipe.steps, pct_start=warmup
    )
    source = Utterances(material, checkpoint, recipe, accelerator.process_index)
    watch = _Watch(adapted, list(source.plain(material.watched)) if accelerator.is_main_process else [], name)
    model, optimizer = accelerator.prepare(_Loss(adapted), optimizer)
    watch.look(0)
    examples = iter(DataLoader(source, batch_size=None))
    for step in tqdm(range(1, recipe.steps + 1), name, unit="step", disable=not accelerator.is_local_main_process):
        model.train()
        log_mel, inputs, labels = (tensor.to(accelerator.device) for tensor in next(examples))
        accelerator.backward(model(log_mel, inputs, labels))
        accelerator.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        if step % WATCH_STEPS == 0 or step == recipe.steps:
            watch.look(step)
    return watch.best()


class _Watch:
    """Looks at development utterances and keeps the best state since training began."""

    def __init__(self, adapted: PeftModel, examples: Sequence[Example], name: str) -> None:
        self._adapted = adapted
        self._examples = examples
        self._name = name
        self._before: float | None = None
        self._lowest: float | None = None
        self._state: dict[str, Tensor] = {}

    def look(self, step: int) -> None:
        if not self._examples:
            return
        loss = self._loss()
        _LOGGER.info("%s, step %d: development loss %.3f", self._name, step, loss)
        if step == 0:
            self._before = loss
        elif self._lowest is None or loss < self._lowest:
            self._lowest = loss
            adapter = (named for named in self._adapted.named_parameters() if named[1].requires_grad)
            self._state = {key: parameter.detach().clone() for key, parameter in adapter}

    def best(self) -> TrainedProfile:
        self._adapted.load_state_dict(self._state, strict=False)
        return TrainedProfile(self._adapted.eval(), self._before, self._lowest)

    @torch.inference_mode()
    def _loss(self) -> float:
        """Mean cross-entropy per token, in nats."""
        self._adapted.eval()
        device = next(self._adapted.parameters()).device
        total, tokens = 0.0, 0
        for example in self._examples:
            log_mel, inputs, labels = (tensor.to(device) for tensor in example)
            counted = int((labels != IGNORED).sum())
            total += counted * float(_loss(self._adapted, log_mel, inputs, labels, 0.0))
            tokens += counted
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
