"""`wyoming-piwhisper download`: fetch a model from the hub."""

import argparse
import os
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from wyoming_piwhisper.commands import Subparsers
    from wyoming_piwhisper.edge.hub import Progress


def add_parser(subparsers: "Subparsers") -> None:
    """Add the subcommand."""
    parser = subparsers.add_parser(
        "download",
        help="fetch a model from the hub",
        description="Fetch a Whisper model from the hub, check every file, and put it where `serve` looks for it. "
        "An interrupted download goes on where it stopped.",
        allow_abbrev=False,
    )
    parser.add_argument("model", metavar="MODEL", help="hub id, such as openai/whisper-tiny.en")
    parser.add_argument("--revision", metavar="R", help="commit, tag or branch (default: a pinned commit, else main)")
    parser.add_argument("--models-dir", metavar="D", type=Path, help="where models lie (default: asr.models_dir)")
    parser.add_argument("--config", metavar="FILE", help="YAML file with settings, for asr.models_dir")


def run(args: argparse.Namespace) -> int:
    """Fetch `args.model`; 0 when it is in place.

    Raises:
        DownloadError: it could not be fetched.
        SettingsError: the models folder had to be read from settings that are wrong.
    """
    from wyoming_piwhisper.edge.hub import hub_from
    from wyoming_piwhisper.edge.model_download import download_model

    with showing_progress(args.model) as show:
        folder = download_model(hub_from(os.environ), args.model, _models_dir(args), args.revision, show)
    print(f"{args.model} is in {folder}")
    return 0


@contextmanager
def showing_progress(name: str) -> "Iterator[Progress]":
    """A progress bar on a terminal; yields what is to be called with the bytes that are here and those of all."""
    from tqdm import tqdm

    with tqdm(desc=name, unit="B", unit_scale=True, unit_divisor=1024, disable=None, file=sys.stderr) as bar:

        def show(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        yield show


def _models_dir(args: argparse.Namespace) -> Path:
    """The folder given, else the one that the server's settings name, so that both look in the same place."""
    if args.models_dir is not None:
        return Path(args.models_dir)
    from wyoming_piwhisper.edge.data_folders import models_dir_of
    from wyoming_piwhisper.edge.settings_file import given_options, load_settings

    return models_dir_of(load_settings(given_options(args), os.environ).asr.models_dir)
