"""All trait classifiers from a manifest: clips, training, calibration, figures, files."""

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import torch
from safetensors.torch import save_file

from wyoming_piwhisper.domain.errors import SettingsError
from wyoming_piwhisper.domain.traits import Trait
from wyoming_piwhisper.engine.trait_models import DESCRIPTION, WEIGHTS, Calibration
from wyoming_piwhisper.training.augment import Power
from wyoming_piwhisper.training.manifest import read_clips
from wyoming_piwhisper.training.prepare import made_noises
from wyoming_piwhisper.training.trait_clips import TraitClip, TraitClips, prepare
from wyoming_piwhisper.training.trait_labels import labels_of
from wyoming_piwhisper.training.trait_net import TraitNet
from wyoming_piwhisper.training.trait_report import (
    EVERYBODY,
    NO_CHILDREN,
    SECONDS,
    TraitFigures,
    calibrate,
    figures,
    hear,
)
from wyoming_piwhisper.training.trait_training import TraitRecipe, is_for_calibration, is_for_training, train_trait

_LOGGER = logging.getLogger(__name__)
REPORT = "results.json"


@dataclass(frozen=True)
class TraitPlan:
    """What to train from, where to work and where the result goes."""

    manifest: Path
    work: Path
    output: Path
    processes: int
    recipes: Mapping[Trait, TraitRecipe]
    """Of the traits that are wanted."""
    seed: int
    """Of noise and bootstrap."""
    measured_on: Literal["kept", "test"] = "test"
    """The speakers kept for calibration, to choose by, or the test split, to report."""
    left_out: str | None = None
    """A data set that is not learned from and on all of which the figures are taken, instead of the test split."""


def train_traits(plan: TraitPlan) -> list[TraitFigures]:
    """Train, calibrate and measure the classifiers; write them to the output unless a data set is left out.

    Raises:
        SettingsError: the manifest cannot be read, or has no clip with one of the traits.
    """
    clips = prepare(plan.work / "speakers", list(read_clips(plan.manifest)), plan.processes)
    noises = made_noises(plan.work / "noise", plan.seed)
    nets: dict[Trait, TraitNet] = {}
    calibrations: dict[Trait, Calibration] = {}
    report: list[TraitFigures] = []
    for trait in plan.recipes:
        with_trait = [clip for clip in clips.clips if clip.traits.get(trait) in labels_of(trait)]
        learned = [clip for clip in with_trait if clip.dataset != plan.left_out and is_for_training(clip)]
        tuned = [clip for clip in with_trait if clip.dataset != plan.left_out and is_for_calibration(clip)]
        if not learned or not tuned:
            raise SettingsError(f"manifest: no clips in {plan.manifest} to learn {trait} from and to calibrate it on")
        nets[trait] = _trained(plan, trait, clips, learned, noises)
        calibrations[trait] = calibrate(trait, [hear(nets[trait], trait, clips, tuned, s) for s in SECONDS])
        tested = [clip for clip in with_trait if _is_measured(clip, plan)]
        for whom, measured in _by_whom(trait, tested).items():
            for seconds in SECONDS:
                heard = hear(nets[trait], trait, clips, measured, seconds)
                report.append(figures(trait, seconds, heard, calibrations[trait], plan.seed, whom))
    if plan.left_out is None:
        _write(plan, nets, calibrations, report)
    return report


def _is_measured(clip: TraitClip, plan: TraitPlan) -> bool:
    if plan.left_out is not None:
        return clip.dataset == plan.left_out
    return is_for_calibration(clip) if plan.measured_on == "kept" else clip.split == "test"


def _by_whom(trait: Trait, clips: Sequence[TraitClip]) -> dict[str, Sequence[TraitClip]]:
    """The voices of girls and boys differ little, which is worth a figure of its own."""
    grown = [clip for clip in clips if clip.traits.get("age") != "child"]
    return {EVERYBODY: clips} | ({NO_CHILDREN: grown} if trait == "gender" and len(grown) < len(clips) else {})


def _trained(
    plan: TraitPlan, trait: Trait, clips: TraitClips, learned: Sequence[TraitClip], noises: Sequence[Power]
) -> TraitNet:
    """The trained network, from the work folder where a run that was cut off had come so far."""
    recipe = plan.recipes[trait]
    kept = plan.work / f"{trait}{'' if plan.left_out is None else f'-without-{plan.left_out}'}.pt"
    if kept.exists():
        state = torch.load(kept, weights_only=True)
        if state["recipe"] == asdict(recipe):
            net = TraitNet(state["weights"]["head.bias"].numel())
            net.load_state_dict(state["weights"])
            return net.eval()
    _LOGGER.info("%s: %d clips of %d speakers", trait, len(learned), len({clip.speaker for clip in learned}))
    net = train_trait(trait, clips, learned, noises, recipe)
    torch.save({"recipe": asdict(recipe), "weights": net.state_dict()}, kept)
    return net


def _write(
    plan: TraitPlan,
    nets: dict[Trait, TraitNet],
    calibrations: dict[Trait, Calibration],
    report: Sequence[TraitFigures],
) -> None:
    plan.output.mkdir(parents=True, exist_ok=True)
    weights = {
        f"{trait}.{name}": tensor.half() if tensor.is_floating_point() and "running" not in name else tensor
        for trait, net in nets.items()
        for name, tensor in net.state_dict().items()
    }
    save_file({name: tensor.contiguous() for name, tensor in weights.items()}, plan.output / WEIGHTS)
    described = {
        "traits": {trait: asdict(calibration) for trait, calibration in calibrations.items()},
        "recipes": {trait: asdict(recipe) for trait, recipe in plan.recipes.items()},
    }
    (plan.output / DESCRIPTION).write_text(json.dumps(described, indent=1) + "\n", encoding="utf-8")
    results = [one.as_json() for one in report]
    (plan.output / REPORT).write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
