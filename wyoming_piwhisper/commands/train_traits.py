"""`wyoming-piwhisper train-traits`: make the classifiers of age, gender and accent again."""

import argparse
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from wyoming_piwhisper.commands import Subparsers
    from wyoming_piwhisper.training.trait_report import Figure, TraitFigures

TRAITS = ("gender", "accent", "age")


def add_parser(subparsers: "Subparsers") -> None:
    """Add the subcommand."""
    parser = subparsers.add_parser(
        "train-traits",
        help="train the classifiers of age, gender and accent",
        description="Train the classifiers that tell age, gender and accent from the first 3 s of speech, calibrate "
        "them on speakers kept for that, and print how good they are on the test split, whose speakers are others.",
        allow_abbrev=False,
    )
    parser.add_argument("--manifest", metavar="FILE", type=Path, required=True, help="JSON lines: path, age, gender…")
    parser.add_argument("--work", metavar="DIR", type=Path, required=True, help="clips and networks, about 1 GB")
    parser.add_argument("--output", metavar="DIR", type=Path, required=True, help="where the finished models go")
    parser.add_argument("--trait", choices=TRAITS, nargs="+", default=list(TRAITS), help="which (default: all)")
    parser.add_argument("--steps", metavar="N", type=int, help="default: 8000 for gender, 4000 for accent and age")
    parser.add_argument("--crops", metavar="N", type=int, default=48, help="heard in each step (default: 48)")
    parser.add_argument("--seed", metavar="N", type=int, default=1, help="of crops, rooms and weights (default: 1)")
    parser.add_argument(
        "--measure-on",
        choices=("kept", "test"),
        default="test",
        help="the speakers kept for calibration, to choose by, or the test split, to report (default: test)",
    )
    parser.add_argument(
        "--leave-out",
        metavar="DATASET",
        help="do not learn from this data set and measure on all of it; writes no models",
    )
    parser.add_argument(
        "--processes", metavar="N", type=int, default=os.cpu_count() or 1, help="default: one for each core"
    )


def run(args: argparse.Namespace) -> int:
    """Train, measure and print; 0 when done.

    Raises:
        SettingsError: the manifest cannot be read, or has no clips with one of the traits.
    """
    import logging

    import torch

    from wyoming_piwhisper.training.trait_pipeline import TraitPlan, train_traits
    from wyoming_piwhisper.training.trait_training import STEPS, TraitRecipe

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(args.processes)
    recipes = {trait: TraitRecipe(args.steps or STEPS[trait], args.crops, seed=args.seed) for trait in args.trait}
    args.work.mkdir(parents=True, exist_ok=True)
    plan = TraitPlan(
        args.manifest, args.work, args.output, args.processes, recipes, args.seed, args.measure_on, args.leave_out
    )
    print(format_figures(train_traits(plan)))
    return 0


def format_figures(report: Sequence["TraitFigures"]) -> str:
    """A Markdown table, a row for each trait and length of speech; in brackets 95 % intervals over speakers."""
    columns: tuple[str, ...] = (
        "trait",
        "speakers",
        "speech",
        "clips",
        "people",
        "balanced accuracy %",
        "macro-F1",
        "within one stratum %",
    )
    columns += ("mean error, years", "ECE", "answered %", "right when answered %")
    rows = [columns, tuple("---" for _ in columns), *(_row(one) for one in report)]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _row(one: "TraitFigures") -> tuple[str, ...]:
    return (
        one.trait,
        one.whom,
        f"{one.seconds:g} s",
        str(one.clips),
        str(one.speakers),
        _shown(one.balanced_accuracy, 100, 1),
        _shown(one.macro_f1, 1, 2),
        _shown(one.within_one_stratum, 100, 1),
        _shown(one.mean_absolute_error_years, 1, 1),
        _shown(one.calibration_error, 1, 3),
        _shown(one.answered, 100, 0),
        _shown(one.accuracy_when_answered, 100, 1),
    )


def _shown(figure: "Figure | None", scale: int, digits: int) -> str:
    if figure is None or math.isnan(figure.value):
        return ""
    low, high = figure.low * scale, figure.high * scale
    return f"{figure.value * scale:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"
