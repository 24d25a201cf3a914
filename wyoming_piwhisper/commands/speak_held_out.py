"""`wyoming-piwhisper speak-held-out`: a test set of synthetic commands whose sentences and voices no training heard."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from wyoming_piwhisper.commands import Subparsers


def add_parser(subparsers: "Subparsers") -> None:
    """Add the subcommand."""
    parser = subparsers.add_parser(
        "speak-held-out",
        help="synthesise commands kept out of training, for `evaluate`",
        description="Speak commands that training never heard, with voices that it never heard, into wav files with a "
        "manifest for `evaluate`. Needs espeak-ng and festival.",
        allow_abbrev=False,
    )
    parser.add_argument("folder", metavar="DIR", type=Path, help="where the files go")
    parser.add_argument("--commands", metavar="N", type=int, default=500, help="how many (default: 500)")
    parser.add_argument("--seed", metavar="N", type=int, default=100, help="of sentences and voices (default: 100)")


def run(args: argparse.Namespace) -> int:
    """Write the files; 0 when done.

    Raises:
        SettingsError: a speech synthesiser is not installed.
    """
    from wyoming_piwhisper.training.prepare import write_held_out
    from wyoming_piwhisper.training.synthesis import require_programs

    require_programs()
    print(
        f"Evaluate with: wyoming-piwhisper evaluate --manifest {write_held_out(args.folder, args.commands, args.seed)}"
    )
    return 0
