"""What the commands that train profiles have in common."""

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from wyoming_piwhisper.training.profile_pipeline import ProfileTrainer

STEPS: Final = 150
RANK: Final = 8
LEARNING_RATE: Final = 5e-4


def add_training_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of training and those that name the base model."""
    from wyoming_piwhisper.edge.settings_file import add_options

    parser.add_argument("--manifest", metavar="FILE", type=Path, required=True, help="JSON lines: path, text, age…")
    parser.add_argument("--work", metavar="DIR", type=Path, required=True, help="for clips, about 1 GB; used again")
    parser.add_argument(
        "--output",
        metavar="DIR",
        type=Path,
        help="folder of profiles (default: the first that profiles.dir means, where serve finds them)",
    )
    parser.add_argument("--rank", metavar="N", type=int, default=RANK, help=f"LoRA rank (default: {RANK})")
    parser.add_argument("--steps", metavar="N", type=int, default=STEPS, help=f"default: {STEPS}")
    parser.add_argument(
        "--learning-rate", metavar="X", type=float, default=LEARNING_RATE, help=f"default: {LEARNING_RATE}"
    )
    parser.add_argument("--seed", metavar="N", type=int, default=1, help="of order, rooms and weights (default: 1)")
    parser.add_argument("--licence", metavar="TEXT", default="", help="licence of the profiles, for their cards")
    parser.add_argument(
        "--processes", metavar="N", type=int, default=os.cpu_count() or 1, help="default: one for each core"
    )
    add_options(parser, ("asr", "profiles"))


def profile_trainer(args: argparse.Namespace) -> "ProfileTrainer":
    """The trainer that the options ask for.

    Raises:
        PiWhisperError: a setting is wrong, the base model is missing, or the manifest cannot be read.
    """
    import logging

    from wyoming_piwhisper.edge.data_folders import models_dir_of, profile_dirs_of
    from wyoming_piwhisper.edge.model_store import resolve_model
    from wyoming_piwhisper.edge.settings_file import given_options, load_settings
    from wyoming_piwhisper.training.profile_batches import ProfileRecipe
    from wyoming_piwhisper.training.profile_pipeline import ProfilePlan, ProfileTrainer

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    settings = load_settings(given_options(args), os.environ)
    model = resolve_model(settings.asr.model, models_dir_of(settings.asr.models_dir))
    recipe = ProfileRecipe(
        rank=args.rank, alpha=2 * args.rank, steps=args.steps, learning_rate=args.learning_rate, seed=args.seed
    )
    output = args.output or profile_dirs_of(settings.profiles.dir)[0]
    plan = ProfilePlan(
        manifest=args.manifest,
        work=args.work,
        output=output,
        model_dir=model.folder,
        model_name=model.description.name,
        processes=args.processes,
        recipe=recipe,
        licence=args.licence,
    )
    return ProfileTrainer(plan)
