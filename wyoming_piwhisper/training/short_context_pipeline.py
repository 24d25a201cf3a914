"""A Whisper of 30 s to one of short context: recordings, training, model folder, figures, card."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import torch

from wyoming_piwhisper.domain.errors import SettingsError
from wyoming_piwhisper.engine.checkpoint import WINDOW_SECONDS, Checkpoint, EncoderContext, read_checkpoint
from wyoming_piwhisper.engine.features import FRAMES_PER_SECOND
from wyoming_piwhisper.engine.profile_card import fingerprint
from wyoming_piwhisper.engine.whisper_torch import TorchWhisper, load_whisper
from wyoming_piwhisper.training.clips import MEL_BINS
from wyoming_piwhisper.training.manifest import read_clips
from wyoming_piwhisper.training.profile_clips import LONGEST_SECONDS, SpokenClip, SpokenClips, prepare_spoken
from wyoming_piwhisper.training.short_context_export import ORIGINAL_CARD, write_card, write_tuned
from wyoming_piwhisper.training.short_context_goals import Goals
from wyoming_piwhisper.training.short_context_report import Comparison, Way, markdown
from wyoming_piwhisper.training.short_context_training import (
    JITTER_SECONDS,
    ShortContextRecipe,
    ShortContextTrainer,
)

FRAMES_PER_HOUR: Final = 3600 * FRAMES_PER_SECOND
LONGEST_PAD_SECONDS: Final = WINDOW_SECONDS - LONGEST_SECONDS - JITTER_SECONDS


@dataclass(frozen=True)
class ShortContextPlan:
    """What to tune, from which recordings, and where the result goes."""

    model_dir: Path
    model_name: str
    author: str
    """Of the original."""
    manifest: Path
    work: Path
    output: Path
    """Folder of the tuned model; empty or not there yet."""
    language: str
    """That the recordings are in, as in `asr.language`."""
    processes: int
    steps: int
    recipe: ShortContextRecipe


@dataclass(frozen=True)
class _Material:
    """What a run works on."""

    checkpoint: Checkpoint
    """Of the original."""
    clips: SpokenClips
    chosen: Sequence[SpokenClip]
    """Those that are trained on."""
    watched: Sequence[SpokenClip]
    """Those of the development split, which are measured on."""
    device: torch.device


def train_short_context(plan: ShortContextPlan) -> str:
    """Tune the model, or go on tuning it, and write its folder; returns the figures as a Markdown table.

    Raises:
        SettingsError: the output is not empty, the model hears short context already, the manifest cannot be read or
            has no clips, or the work folder holds a run with another recipe.
        ModelFormatError: the model is damaged.
    """
    checkpoint = read_checkpoint(plan.model_dir)
    _check(plan, checkpoint)
    material = _prepare(plan, checkpoint)
    trainer = _train(plan, material)
    # A folder that is cut off half-way must not be taken for a model.
    part = plan.output.with_name(f"{plan.output.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    context = EncoderContext(plan.recipe.pad_seconds, knows_full=True, longest_seconds=LONGEST_SECONDS)
    write_tuned(checkpoint, trainer.tuned.state_dict(), context, part)
    figures = _measure(plan, material, part)
    write_card(part, _front_matter(plan), _card(plan, material, trainer.step, figures))
    if plan.output.exists():
        plan.output.rmdir()
    part.rename(plan.output)
    return figures


def _check(plan: ShortContextPlan, checkpoint: Checkpoint) -> None:
    if plan.output.exists() and not (plan.output.is_dir() and not any(plan.output.iterdir())):
        raise SettingsError(f"--output: {plan.output} is not empty; name another folder")
    if plan.steps < 1:
        raise SettingsError(f"--steps: {plan.steps} is less than 1")
    pad = checkpoint.context.pad_seconds
    if pad is not None:
        raise SettingsError(f"{plan.model_name} hears short context already: {pad:g} s of silence behind the speech")
    if checkpoint.mel_bins != MEL_BINS:
        raise SettingsError(f"{plan.model_name} hears {checkpoint.mel_bins} Mel bins; training here reads {MEL_BINS}")
    if not 0 <= plan.recipe.pad_seconds <= LONGEST_PAD_SECONDS:
        raise SettingsError(f"--pad-seconds: {plan.recipe.pad_seconds:g} is not between 0 and {LONGEST_PAD_SECONDS:g}")


def _prepare(plan: ShortContextPlan, checkpoint: Checkpoint) -> _Material:
    rows = list(read_clips(plan.manifest))
    plan.work.mkdir(parents=True, exist_ok=True)
    clips = prepare_spoken(plan.work / "utterances", rows, plan.processes)
    chosen, watched = (_of_split(plan, clips, split) for split in ("train", "dev"))
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return _Material(checkpoint, clips, chosen, watched, device)


def _of_split(plan: ShortContextPlan, clips: SpokenClips, split: str) -> list[SpokenClip]:
    found = [clip for clip in clips.clips if clip.split == split]
    if not found:
        longest = f"{LONGEST_SECONDS:g} s"
        raise SettingsError(
            f"manifest: no clips in {plan.manifest} (split {split}) with a transcript and up to {longest}"
        )
    return found


def _train(plan: ShortContextPlan, material: _Material) -> ShortContextTrainer:
    checkpoint = material.checkpoint
    folder = plan.work / f"short-context-{fingerprint(checkpoint.weights)}"
    folder.mkdir(exist_ok=True)
    original = load_whisper(checkpoint).to(material.device).eval()
    goals = Goals(original, checkpoint, material.clips, plan.language)
    trainer = ShortContextTrainer(original, goals, material.clips, plan.recipe, folder)
    trainer.train(material.chosen, material.watched, plan.steps)
    return trainer


def _measure(plan: ShortContextPlan, material: _Material, folder: Path) -> str:
    """What was written beside the original, on the development clips."""
    checkpoint, device = material.checkpoint, material.device
    pad = plan.recipe.pad_seconds
    original, tuned = (TorchWhisper.load(read, device) for read in (checkpoint, read_checkpoint(folder)))
    ways = [
        Way("original, 30 s", original, None),
        Way(f"original, speech and {pad:g} s", original, pad),
        Way(f"tuned, speech and {pad:g} s", tuned, pad),
    ]
    return markdown(Comparison(checkpoint, material.clips, plan.language).compare(ways, material.watched))


def _front_matter(plan: ShortContextPlan) -> dict[str, str]:
    return {
        "description": f"{plan.model_name}, tuned to hear the speech and {plan.recipe.pad_seconds:g} s of silence",
        "author": plan.author,
        "base_model": plan.model_name,
        "version": "1",
    }


def _card(plan: ShortContextPlan, material: _Material, steps: int, figures: str) -> str:
    recipe, chosen, watched = plan.recipe, material.chosen, material.watched
    hours = sum(clip.clip.frames for clip in chosen) / FRAMES_PER_HOUR
    sets = ", ".join(sorted({clip.clip.source for clip in watched}))
    return f"""# {plan.model_name} at short context

{plan.model_name} expects 30 s of sound. This model was tuned to say the same when it is given the speech and
{recipe.pad_seconds:g} s of silence behind it; `config.json` tells the server so. Speech of more than
{LONGEST_SECONDS:g} s is cut at a pause. Token embeddings and positions are the original's. The original's licence holds
for this model too; its card, where it has one, is in `{ORIGINAL_CARD}`.

## Figures

{len(watched)} clips of split `dev` of {plan.manifest.name} ({sets}), none of them trained on, greedy, torch on
{material.device.type}; in brackets 95 % bootstrap intervals, seed 0. "Same answer" and the first WER compare with what
the original says when it hears 30 s; "doubtful" are answers that the server's guard does not let pass: it then lets the
model hear 30 s. Here all answers are compared as they are.

{figures}

## Training

Method: futo-org/whisper-acft on GitHub, audio context fine-tuning: the decoder's last hidden states are drawn towards
those of the frozen original at 30 s, along the original's own answers.

{steps} steps over {len(chosen)} clips, {hours:.1f} h, of split `train`; {recipe}.
"""
