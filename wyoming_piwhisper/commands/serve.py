"""`wyoming-piwhisper serve`: run the Wyoming server."""

import argparse
import asyncio
import logging
import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from wyoming_piwhisper.commands import Subparsers


def add_parser(subparsers: "Subparsers") -> None:
    """Add the subcommand."""
    from wyoming_piwhisper.edge.settings_file import add_options

    parser = subparsers.add_parser(
        "serve",
        help="run the Wyoming server",
        description="Run the Wyoming server until Ctrl-C or SIGTERM.",
        allow_abbrev=False,
    )
    add_options(parser)


def run(args: argparse.Namespace) -> int:
    """Serve; 0 after a signal, and one line and another status where the server cannot go on."""
    from wyoming_piwhisper.app import serve
    from wyoming_piwhisper.edge.settings_file import given_options, load_settings
    from wyoming_piwhisper.service.worker import LOG_FORMAT

    settings = load_settings(given_options(args), os.environ)
    logging.basicConfig(level=settings.log.level.upper(), format=LOG_FORMAT, stream=sys.stderr)
    return asyncio.run(serve(settings))
