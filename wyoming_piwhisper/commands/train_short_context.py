"""`wyoming-piwhisper train-short-context`: a model that expects 30 s learns to do with the seconds that were spoken."""

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from wyoming_piwhisper.commands import Subparsers

STEPS: Final = 5_000
PAD_SECONDS: Final = 1.28
LEARNING_RATE: Final = 5e-6


def add_parser(subparsers: "Subparsers") -> None:
    """Add the subcommand."""
    parser = subparsers.add_parser(
        "train-short-context",
        help="tune a model of the hub to hear only the seconds that were spoken",
        description="Tune a Whisper that expects 30 s of sound until it says the same when it hears the speech and a "
        "short silence, write it as a model folder, and measure both on the development clips. Takes hours on a CPU; "
        "a run that was stopped goes on where it stood, also with more steps.",
        allow_abbrev=False,
    )
    parser.add_argument("model", metavar="MODEL", help="hub id that was downloaded, or folder, as in asr.model")
    parser.add_argument("--manifest", metavar="FILE", type=Path, required=True, help="JSON lines: path, text, split…")
    parser.add_argument("--work", metavar="DIR", type=Path, required=True, help="for clips and checkpoints; used again")
    parser.add_argument("--output", metavar="DIR", type=Path, required=True, help="where the tuned model goes")
    parser.add_argument(
        "--pad-seconds",
        metavar="X",
        type=float,
        default=PAD_SECONDS,
        help=f"silence behind the speech (default: {PAD_SECONDS})",
    )
    parser.add_argument("--steps", metavar="N", type=int, default=STEPS, help=f"in all (default: {STEPS})")
    parser.add_argument(
        "--learning-rate", metavar="X", type=float, default=LEARNING_RATE, help=f"default: {LEARNING_RATE}"
    )
    parser.add_argument("--seed", metavar="N", type=int, default=1, help="of the order of clips (default: 1)")
    parser.add_argument(
        "--processes", metavar="N", type=int, default=os.cpu_count() or 1, help="default: one for each core"
    )
    parser.add_argument("--config", metavar="FILE", help="YAML file with settings, for asr.models_dir and asr.language")
    parser.add_argument("--asr-models-dir", dest="asr.models_dir", metavar="DIR", help="where downloaded models lie")
    parser.add_argument("--asr-language", dest="asr.language", metavar="CODE", help="that the recordings are in")


def run(args: argparse.Namespace) -> int:
    """Tune, measure and print; 0 when the model is in its folder.

    Raises:
        PiWhisperError: a setting is wrong, the model is missing or damaged, or the manifest cannot be used.
    """
    import logging

    from wyoming_piwhisper.domain.languages import choose_language
    from wyoming_piwhisper.edge.data_folders import models_dir_of
    from wyoming_piwhisper.edge.model_store import resolve_model
    from wyoming_piwhisper.edge.settings_file import given_options, load_settings

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    asr = load_settings(given_options(args), os.environ).asr
    model = resolve_model(args.model, models_dir_of(asr.models_dir))

    import torch

    from wyoming_piwhisper.training.short_context_pipeline import ShortContextPlan, train_short_context
    from wyoming_piwhisper.training.short_context_training import ShortContextRecipe

    torch.set_num_threads(args.processes)
    plan = ShortContextPlan(
        model_dir=model.folder,
        model_name=model.description.name,
        author=model.description.attribution_name,
        manifest=args.manifest,
        work=args.work,
        output=args.output,
        language=choose_language(None, asr.language, model.description.languages) or "en",
        processes=args.processes,
        steps=args.steps,
        recipe=ShortContextRecipe(args.pad_seconds, args.learning_rate, seed=args.seed),
    )
    print(train_short_context(plan))
    print(f"The model is in {args.output}; use it with --asr-model {args.output}")
    return 0
