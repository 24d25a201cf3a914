"""`wyoming-piwhisper train-profile`: one LoRA profile, without touching any other."""

import argparse
from typing import TYPE_CHECKING

from wyoming_piwhisper.commands.profile_training import add_training_options, profile_trainer

if TYPE_CHECKING:
    from wyoming_piwhisper.commands import Subparsers

TRAITS = ("age", "gender", "accent", "all")


def add_parser(subparsers: "Subparsers") -> None:
    """Add the subcommand."""
    parser = subparsers.add_parser(
        "train-profile",
        help="train the LoRA profile of one group of speakers",
        description="Train the LoRA profile of one group of speakers with PEFT; no other profile changes. A running "
        "server uses it from the next utterance on.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "--trait", choices=TRAITS, required=True, help="of the group; 'all' trains the one-for-all profile"
    )
    parser.add_argument("--value", metavar="VALUE", help="of the trait, such as indian, female or child")
    add_training_options(parser)


def run(args: argparse.Namespace) -> int:
    """Train; 0 when the profile is in its folder.

    Raises:
        PiWhisperError: a setting is wrong, the base model is missing, or the manifest has nobody of the group.
    """
    from wyoming_piwhisper.domain.errors import SettingsError
    from wyoming_piwhisper.training.profile_pipeline import EVERYBODY, Group

    if args.trait != "all" and not args.value:
        raise SettingsError("--value: missing; for example --trait accent --value indian")
    group = EVERYBODY if args.trait == "all" else Group(args.trait, args.value)
    written = profile_trainer(args).train(group)
    if written is not None:
        print(f"The profile is in {written}")
    return 0
