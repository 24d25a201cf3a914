"""`wyoming-piwhisper check-config`: print the settings that `serve` would use."""

import argparse
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from wyoming_piwhisper.commands import Subparsers


def add_parser(subparsers: "Subparsers") -> None:
    """Add the subcommand."""
    from wyoming_piwhisper.edge.settings_file import add_options

    parser = subparsers.add_parser(
        "check-config",
        help="print the settings that would be used",
        description="Print the settings that `serve` would use with the same options, environment and file, as YAML.",
        allow_abbrev=False,
    )
    add_options(parser)


def run(args: argparse.Namespace) -> int:
    """Print the settings; a wrong one raises `SettingsError`."""
    from wyoming_piwhisper.edge.settings_file import given_options, load_settings, settings_as_yaml

    print(settings_as_yaml(load_settings(given_options(args), os.environ)), end="")
    return 0
