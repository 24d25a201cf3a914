"""Trains the bundled English model; resumes where its last checkpoint stands.

Several processes of one thread each share a step on a CPU (gradients averaged over gloo), one process on CUDA.
"""

import json
import logging
import math
import os
import time
from collections.abc import Iterator, Sequence
from copy import deepcopy
from dataclasses import asdict
from typing import Any, Final

import torch
from safetensors.torch import load_file
from torch import Tensor, distributed
from torch.distributed import FileStore  # type: ignore[attr-defined]
from torch.multiprocessing.spawn import spawn
from torch.nn.parallel import DistributedDataParallel

from wyoming_piwhisper.training.augment import Augmenter
from wyoming_piwhisper.training.batches import Batches
from wyoming_piwhisper.training.clips import ClipStore
from wyoming_piwhisper.training.export import read_phoneme_head
from wyoming_piwhisper.training.objective import Batch, Objective, Targets
from wyoming_piwhisper.training.progress import measure
from wyoming_piwhisper.training.recipe import Place, Recipe
from wyoming_piwhisper.training.tokenizer import load_tokenizer

_LOGGER = logging.getLogger(__name__)
CHECKPOINT: Final = "checkpoint.pt"
CHECKPOINT_STEPS: Final = 250
MEASURE_STEPS: Final = 750
LOG_STEPS: Final = 25
RENDEZVOUS: Final = "rendezvous"
"""Where the processes of a step find each other."""
LAST_STRENGTH: Final = 0.6
"""Augmentation grows with maturity up to this; more of it pays only in runs several times as long."""
HEAD_START: Final = 0.4
"""Maturity with which a run begins whose model was trained before."""


def train(recipe: Recipe, place: Place, until: float = 1.0) -> None:
    """Train until the share `until` of `recipe.utterances` has been heard."""
    if torch.cuda.is_available():
        _train_process(0, recipe, place, 1, until)
    else:
        os.environ["OMP_NUM_THREADS"] = "1"
        (place.folder / RENDEZVOUS).unlink(missing_ok=True)  # a run that was killed leaves its own behind
        spawn(_train_process, (recipe, place, place.processes, until), place.processes)  # type: ignore[no-untyped-call]


class Trainer:
    """The state of a training run in one process."""

    def __init__(self, recipe: Recipe, place: Place, rank: int, ranks: int) -> None:
        """Build the model and take up the last checkpoint, if there is one."""
        self.recipe, self.place, self.rank, self.ranks = recipe, place, rank, ranks
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        tokenizer = load_tokenizer(place.folder)
        inventory = json.loads((place.folder / "phonemes.json").read_text(encoding="utf-8"))
        self.targets = Targets(tokenizer, inventory)
        # Processors without instructions for it take many times as long as in float32.
        self.bfloat16 = self.device.type == "cuda" or bool(torch.cpu.get_capabilities().get("avx512_bf16"))
        torch.manual_seed(recipe.seed)
        self.objective = Objective(recipe.config(tokenizer.get_vocab_size()), len(inventory), recipe.phoneme_weight).to(
            self.device
        )
        if place.start_from is not None:
            self.objective.whisper.load_state_dict(load_file(place.start_from / "model.safetensors"))
            head = read_phoneme_head(place.start_from)
            if head is not None and head[0] == inventory:
                self.objective.load_state_dict(head[1], strict=False)
        self.average = deepcopy(self.objective)
        self.optimizer = torch.optim.AdamW(
            _groups(self.objective, recipe.weight_decay), lr=0.0, betas=(0.9, 0.98), fused=True
        )
        self.step, self.heard, self.seconds = 0, 0, 0.0
        self._resume()
        wrapped = DistributedDataParallel(self.objective) if ranks > 1 else self.objective
        self.model: torch.nn.Module = wrapped
        torch.manual_seed(recipe.seed + 1000 * self.step + rank)

    @property
    def progress(self) -> float:
        """Share of the utterances heard so far."""
        return self.heard / self.recipe.utterances

    @property
    def maturity(self) -> float:
        """How demanding the clips may be, 0 to 1: progress, with a head start for a model that was trained before."""
        head_start = 0.0 if self.place.start_from is None else HEAD_START
        return head_start + (1 - head_start) * self.progress

    def advance(self, batch: Batch, examples: int) -> tuple[Tensor, Tensor]:
        """One step; returns the two losses, a token and a phoneme."""
        for group in self.optimizer.param_groups:
            group["lr"] = self._learning_rate()
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bfloat16):
            loss, spoken, helper = self.model(batch)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.objective.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.step += 1
        counted = torch.tensor(examples)
        if self.ranks > 1:
            distributed.all_reduce(counted)
        self.heard += int(counted)
        self._update_average()
        return spoken, helper

    def save(self) -> None:
        """Write a checkpoint, whole or not at all."""
        state = {
            "objective": self.objective.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
            "heard": self.heard,
            "seconds": self.seconds,
            "recipe": asdict(self.recipe),
        }
        temporary = self.place.folder / f"{CHECKPOINT}.part"
        torch.save(state, temporary)
        temporary.replace(self.place.folder / CHECKPOINT)

    def _resume(self) -> None:
        path = self.place.folder / CHECKPOINT
        if not path.exists():
            return
        state: dict[str, Any] = torch.load(path, map_location=self.device, weights_only=True)
        self.objective.load_state_dict(state["objective"])
        self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step, self.heard, self.seconds = state["step"], state["heard"], state["seconds"]
        _LOGGER.info("resumed at step %d, %d utterances", self.step, self.heard)

    def _learning_rate(self) -> float:
        first, last = self.recipe.learning_rate, self.recipe.last_learning_rate
        warm = min(1.0, (self.step + 1) / self.recipe.warmup_steps)
        cosine = 0.5 * (1 + math.cos(math.pi * min(1.0, self.progress)))
        return warm * (last + (first - last) * cosine)

    @torch.no_grad()
    def _update_average(self) -> None:
        decay = min(self.recipe.average_decay, (1 + self.step) / (10 + self.step))
        for averaged, current in zip(self.average.parameters(), self.objective.parameters(), strict=True):
            averaged.lerp_(current, 1 - decay)


def _train_process(rank: int, recipe: Recipe, place: Place, ranks: int, until: float) -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    if ranks == 1:
        _run(Trainer(recipe, place, rank, ranks), until)
        return
    torch.set_num_threads(1)
    store = FileStore(str(place.folder / RENDEZVOUS), ranks)
    distributed.init_process_group("gloo", store=store, rank=rank, world_size=ranks)
    _run(Trainer(recipe, place, rank, ranks), until)
    # Its threads abort a process that ends while they run, and one that is ahead must not leave the others alone.
    distributed.barrier()
    distributed.destroy_process_group()


def _run(trainer: Trainer, until: float) -> None:
    place, rank = trainer.place, trainer.rank
    watched = {name: ClipStore(folder) for name, folder in place.watched.items()}
    started = time.monotonic() - trainer.seconds
    for batch, examples in _input(trainer):
        if trainer.progress >= until:
            break
        spoken, helper = trainer.advance(batch, examples)
        trainer.seconds = time.monotonic() - started
        if rank == 0 and trainer.step % LOG_STEPS == 0:
            rate = trainer.heard / trainer.seconds
            _LOGGER.info(
                "step %d, %d heard, %.0f/s, token %.3f, phoneme %.3f", trainer.step, trainer.heard, rate, spoken, helper
            )
        if rank == 0 and trainer.step % CHECKPOINT_STEPS == 0:
            trainer.save()
        if trainer.step % MEASURE_STEPS == 0:
            _report(trainer, watched)
    if rank == 0:
        trainer.save()
    _report(trainer, watched)


def _input(trainer: Trainer) -> Iterator[tuple[Batch, int]]:
    recipe, place = trainer.recipe, trainer.place
    seed = recipe.seed + 10_000 * trainer.step + trainer.rank
    noise_stores = [ClipStore(folder) for folder in place.noise_stores]
    noises = [store.power(clip) for store in noise_stores for clip in store.clips if clip.kind == "noise"]
    augment = Augmenter(noises, seed)
    batches = Batches([ClipStore(folder) for folder in place.stores], recipe.frames_per_batch, seed)
    for examples in batches:
        batches.maturity = trainer.maturity
        augment.strength = min(LAST_STRENGTH, trainer.maturity)
        log_mel = augment([example.power for example in examples])
        yield trainer.targets.batch(log_mel, examples).to(trainer.device), len(examples)


def _report(trainer: Trainer, watched: dict[str, ClipStore]) -> None:
    """Measure the averaged model on the watched clips, shared among the processes, and write a line of progress."""
    figures = {
        name: measure(trainer.average, trainer.targets, store, trainer.rank, trainer.ranks)
        for name, store in watched.items()
    }
    if trainer.rank == 0:
        line = {"step": trainer.step, "heard": trainer.heard, "seconds": round(trainer.seconds), **figures}
        _LOGGER.info("%s", json.dumps(line))
        with (trainer.place.folder / "progress.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")


def _groups(objective: Objective, weight_decay: float) -> Sequence[dict[str, Any]]:
    trained = [parameter for parameter in objective.parameters() if parameter.requires_grad]
    return [
        {"params": [parameter for parameter in trained if parameter.ndim > 1], "weight_decay": weight_decay},
        {"params": [parameter for parameter in trained if parameter.ndim <= 1], "weight_decay": 0.0},
    ]
