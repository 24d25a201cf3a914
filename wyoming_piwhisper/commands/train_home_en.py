"""`wyoming-piwhisper train-home-en`: make the bundled model again."""

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from wyoming_piwhisper.commands import Subparsers

UTTERANCES: Final = 500_000


def add_parser(subparsers: "Subparsers") -> None:
    """Add the subcommand."""
    parser = subparsers.add_parser(
        "train-home-en",
        help="train the bundled model again",
        description="Train the bundled English model from recorded speech and speech synthesised with espeak-ng, flite "
        "and festival. Takes hours on a CPU; a run that was stopped goes on where it stood.",
        allow_abbrev=False,
    )
    parser.add_argument("--manifest", metavar="FILE", type=Path, required=True, help="JSON lines: path, text, split…")
    parser.add_argument("--work", metavar="DIR", type=Path, required=True, help="clips and checkpoints, about 5 GB")
    parser.add_argument("--output", metavar="DIR", type=Path, required=True, help="where the finished model goes")
    parser.add_argument("--utterances", metavar="N", type=int, default=UTTERANCES, help=f"default: {UTTERANCES}")
    parser.add_argument("--seed", metavar="N", type=int, default=1, help="of sentences, voices, weights (default: 1)")
    parser.add_argument(
        "--start-from", metavar="DIR", type=Path, help="model to begin with, such as home-en's folder (default: chance)"
    )
    parser.add_argument(
        "--processes", metavar="N", type=int, default=os.cpu_count() or 1, help="default: one for each core"
    )


def run(args: argparse.Namespace) -> int:
    """Train and export; 0 when the model is in its place.

    Raises:
        SettingsError: the manifest cannot be read, or a speech synthesiser is not installed.
    """
    import logging

    from wyoming_piwhisper.training.pipeline import Plan, train_home_en
    from wyoming_piwhisper.training.recipe import Recipe

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    recipe = Recipe(utterances=args.utterances, seed=args.seed)
    train_home_en(Plan(args.manifest, args.work, args.output, args.processes, recipe, args.start_from))
    print(f"The model is in {args.output}; use it with --asr-model {args.output}")
    return 0
