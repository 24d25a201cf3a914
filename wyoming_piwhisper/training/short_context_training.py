"""Tunes a Whisper that was trained on 30 s to say the same when it hears the speech and a short silence.

Source of the method: FUTO's audio context fine-tuning, futo-org/whisper-acft on GitHub, `finetune.ipynb`. There the
decoder's hidden states of the tuned model at short context are drawn towards those of the frozen original at full
context by their mean squared error, along transcripts, with Adam at a constant learning rate of 1e-6 and one clip a
step. Different here: the last hidden states alone, which are what the head reads; the original's own answers instead
of transcripts; several clips a step; and never less silence than the server gives.
"""

import logging
import random
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor
from tqdm import tqdm

from wyoming_piwhisper.domain.errors import SettingsError
from wyoming_piwhisper.engine.features import FRAMES_PER_SECOND
from wyoming_piwhisper.engine.whisper_model import Whisper
from wyoming_piwhisper.training.profile_clips import SpokenClip, SpokenClips
from wyoming_piwhisper.training.short_context_goals import Goals
from wyoming_piwhisper.training.spoken_batches import SpokenBatches, plain_log_mel

_LOGGER = logging.getLogger(__name__)
CHECKPOINT: Final = "checkpoint.pt"
WATCH_STEPS: Final = 250
"""So often the development clips are looked at and a checkpoint is written."""
JITTER_SECONDS: Final = 0.64
"""Up to so much more silence in training, so that no exact length is learned."""
WARMUP_STEPS: Final = 50


@dataclass(frozen=True)
class ShortContextRecipe:
    """What decides how a tuned model comes out, besides the clips and the number of steps."""

    pad_seconds: float = 1.28
    """Silence behind the speech: 64 encoder states, the least with which FUTO's models were reported to hold."""
    learning_rate: float = 5e-6
    frames_per_batch: int = 4_000
    seed: int = 1


class ShortContextTrainer:
    """The state of a run; takes up the last checkpoint in its folder."""

    def __init__(
        self, original: Whisper, goals: Goals, clips: SpokenClips, recipe: ShortContextRecipe, folder: Path
    ) -> None:
        """Begin with a copy of `original`, or where the checkpoint in `folder` stands.

        Raises:
            SettingsError: that checkpoint was made with another recipe.
        """
        self.tuned = deepcopy(original).train()
        self.step = 0
        decoder = self.tuned.model.decoder
        # The head reads with the embeddings what the original's decoder wrote, so they stay as they are.
        for embedding in (decoder.embed_tokens, decoder.embed_positions):
            embedding.weight.requires_grad_(False)
        self._trained = [parameter for parameter in self.tuned.parameters() if parameter.requires_grad]
        self._optimizer = torch.optim.AdamW(self._trained, recipe.learning_rate, weight_decay=0.0)
        self._goals = goals
        self._clips = clips
        self._recipe = recipe
        self._folder = folder
        self._batches = SpokenBatches(recipe.frames_per_batch, lambda clip: clip.clip.frames + self._frames(0.0))
        self._resume()

    def train(self, chosen: Sequence[SpokenClip], watched: Sequence[SpokenClip], steps: int) -> None:
        """Train on `chosen` until `steps` steps are made in all, looking at `watched` on the way."""
        source = random.Random(self._recipe.seed + 1_000 * self.step)
        batches = self._batches.drawn(chosen, source)
        self._look(watched)
        for step in tqdm(range(self.step + 1, steps + 1), "short context", unit="step"):
            self._advance(next(batches), self._frames(source.uniform(0.0, JITTER_SECONDS)))
            if step % WATCH_STEPS == 0 or step == steps:
                self._save()
                self._look(watched)

    def _advance(self, batch: Sequence[SpokenClip], silence: int) -> None:
        self.step += 1
        for group in self._optimizer.param_groups:
            group["lr"] = self._recipe.learning_rate * min(1.0, self.step / WARMUP_STEPS)
        error = self._squared_errors(batch, silence).mean()
        error.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self._trained, 1.0)
        self._optimizer.step()
        self._optimizer.zero_grad()

    def _squared_errors(self, batch: Sequence[SpokenClip], silence: int) -> Tensor:
        """Mean squared error of the hidden states at each token of the batch: shape (tokens,)."""
        goals = [self._goals.of(clip) for clip in batch]
        device = self._trained[0].device
        frames = max(clip.clip.frames for clip in batch) + silence
        log_mel = plain_log_mel([self._clips.power(clip) for clip in batch], frames).to(device)
        tokens = torch.nn.utils.rnn.pad_sequence([goal.tokens for goal in goals], batch_first=True)
        wanted = torch.nn.utils.rnn.pad_sequence([goal.states for goal in goals], batch_first=True)
        lengths = torch.tensor([len(goal.tokens) for goal in goals])
        is_said = (torch.arange(tokens.shape[1]) < lengths[:, None]).to(device)
        cross = self.tuned.cross_keys_values(self.tuned.encode(log_mel))
        states: Tensor = self.tuned.model.decoder(tokens.to(device), cross)
        return (states - wanted.to(device).float()).square().mean(-1)[is_said]

    @torch.no_grad()
    def _look(self, watched: Sequence[SpokenClip]) -> None:
        errors = [self._squared_errors(batch, self._frames(0.0)) for batch in self._batches.each_once(watched)]
        _LOGGER.info("step %d: squared error on development clips %.4f", self.step, torch.cat(errors).mean())

    def _frames(self, more_seconds: float) -> int:
        """Frames of silence behind the speech."""
        return round((self._recipe.pad_seconds + more_seconds) * FRAMES_PER_SECOND)

    def _save(self) -> None:
        """Write a checkpoint, whole or not at all."""
        state = {
            "tuned": self.tuned.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "step": self.step,
            "recipe": asdict(self._recipe),
        }
        temporary = self._folder / f"{CHECKPOINT}.part"
        torch.save(state, temporary)
        temporary.replace(self._folder / CHECKPOINT)

    def _resume(self) -> None:
        path = self._folder / CHECKPOINT
        if not path.exists():
            return
        device = self._trained[0].device
        state: dict[str, Any] = torch.load(path, map_location=device, weights_only=True)
        if state["recipe"] != asdict(self._recipe):
            raise SettingsError(f"--work: {path} was made with {state['recipe']}; use these, or another folder")
        self.tuned.load_state_dict(state["tuned"])
        self._optimizer.load_state_dict(state["optimizer"])
        self.step = state["step"]
        _LOGGER.info("resumed at step %d", self.step)
