"""`wyoming-piwhisper train-profiles`: a whole library of LoRA profiles."""

import argparse
from typing import TYPE_CHECKING

from wyoming_piwhisper.commands.profile_training import add_training_options, profile_trainer

if TYPE_CHECKING:
    from wyoming_piwhisper.commands import Subparsers


def add_parser(subparsers: "Subparsers") -> None:
    """Add the subcommand."""
    parser = subparsers.add_parser(
        "train-profiles",
        help="train LoRA profiles for all groups of speakers",
        description="Train a LoRA profile for each group of speakers that the manifest knows well enough, and the "
        "one-for-all profile of the same total rank, over which they are trained. A profile that does not lower the "
        "loss on its group's development speech is left out. For several GPUs or machines: accelerate launch -m "
        "wyoming_piwhisper train-profiles …",
        allow_abbrev=False,
    )
    parser.add_argument(
        "--again", action="store_true", help="also train profiles that are there and fit the base model"
    )
    add_training_options(parser)


def run(args: argparse.Namespace) -> int:
    """Train; 0 when all profiles are in their folders.

    Raises:
        PiWhisperError: a setting is wrong, the base model is missing, or the manifest cannot be read.
    """
    from tqdm import tqdm

    trainer = profile_trainer(args)
    for group in tqdm(trainer.groups(), "profiles", unit="profile"):
        if args.again or not trainer.has(group):
            trainer.train(group, only_if_it_helps=True)
    print(f"The profiles are in {trainer.folder}")
    return 0
