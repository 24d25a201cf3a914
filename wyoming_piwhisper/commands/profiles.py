"""`wyoming-piwhisper profiles`: look at, add, remove and check LoRA profiles."""

import argparse
import os
import shutil
import sys
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from wyoming_piwhisper.domain.errors import ProfileError

if TYPE_CHECKING:
    from wyoming_piwhisper.commands import Subparsers
    from wyoming_piwhisper.engine.profile_library import BaseModel, ProfileLibrary

MEGABYTE = 1_000_000


def add_parser(subparsers: "Subparsers") -> None:
    """Add the subcommand."""
    from wyoming_piwhisper.edge.settings_file import add_options

    parser = subparsers.add_parser(
        "profiles",
        help="list, show, add, remove and verify LoRA profiles",
        description="Look at the LoRA profiles of the base model that --asr-model names, add and remove some. A "
        "running server takes changes in with the next utterance.",
        allow_abbrev=False,
    )
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    for name, meaning in (
        ("list", "all profiles, a line each, with the reason where one cannot be used"),
        ("show", "the card of one profile"),
        ("add", "take a profile, or any PEFT LoRA for this model, from a folder or the hub"),
        ("remove", "delete a profile"),
        ("verify", "check all profiles, or one; exit status 1 when one cannot be used"),
    ):
        action = actions.add_parser(name, help=meaning, description=meaning, allow_abbrev=False)
        if name in {"show", "remove"}:
            action.add_argument("profile", metavar="NAME", help="such as accent-indian")
        if name == "verify":
            action.add_argument("profile", metavar="NAME", nargs="?", help="such as accent-indian (default: all)")
        if name == "add":
            action.add_argument(
                "source",
                metavar="SOURCE",
                help="a folder with adapter_config.json and adapter_model.safetensors, or a hub id such as owner/name",
            )
            action.add_argument("--revision", metavar="R", help="commit, tag or branch on the hub (default: main)")
            action.add_argument(
                "--trait", choices=("age", "gender", "accent", "all"), help="where no profile.yaml says"
            )
            action.add_argument("--value", metavar="VALUE", help="where no profile.yaml says")
        add_options(action, ("asr", "profiles"))


def run(args: argparse.Namespace) -> int:
    """Do what `args.action` says; 0 when done, 1 when a profile cannot be used.

    Raises:
        PiWhisperError: a setting is wrong, the base model is missing, or the profile is not there or does not fit.
    """
    library, base, own = _opened(args)
    match args.action:
        case "list":
            return _list(library)
        case "show":
            return _show(library, args.profile)
        case "remove":
            return _remove(library, args.profile)
        case "verify":
            return _verify(library, args.profile)
        case _:
            return _add(args, base, own)


def _opened(args: argparse.Namespace) -> "tuple[ProfileLibrary, BaseModel, Path]":
    """The library, its base model and the folder for new profiles."""
    import logging

    from wyoming_piwhisper.edge.data_folders import models_dir_of, profile_dirs_of
    from wyoming_piwhisper.edge.model_store import resolve_model
    from wyoming_piwhisper.edge.settings_file import given_options, load_settings
    from wyoming_piwhisper.engine.profile_library import BaseModel, ProfileLibrary

    settings = load_settings(given_options(args), os.environ)
    model = resolve_model(settings.asr.model, models_dir_of(settings.asr.models_dir))
    folders = profile_dirs_of(settings.profiles.dir)
    base = BaseModel(model.description.name, model.folder / "model.safetensors")
    # What is refused is part of the output here.
    logger = logging.getLogger("wyoming_piwhisper.engine.profile_library")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        return ProfileLibrary(folders, base), base, folders[0]
    finally:
        logger.setLevel(level)


def _list(library: "ProfileLibrary") -> int:
    for name, profile in sorted(library.profiles.items()):
        size = profile.lora.weights.stat().st_size / MEGABYTE
        print(f"{name}  rank {profile.lora.rank}, {size:.1f} MB, {profile.folder}")
    for name, refused in sorted(library.refused.items()):
        print(f"{name}  not used: {refused.reason} ({refused.folder})")
    if not library.profiles and not library.refused:
        print("no profiles for this model; train some with: wyoming-piwhisper train-profiles --help", file=sys.stderr)
    return 0


def _show(library: "ProfileLibrary", name: str) -> int:
    if name in library.refused:
        raise ProfileError(f"{name}: {library.refused[name].reason}")
    _require(library, name)
    profile = library.profiles[name]
    facts = asdict(profile.card) | {"rank": profile.lora.rank, "matrices": len(profile.lora.ranks)}
    for key, value in {**facts, "folder": profile.folder}.items():
        print(f"{key}: {value}")
    return 0


def _remove(library: "ProfileLibrary", name: str) -> int:
    _require(library, name)
    found = library.profiles.get(name) or library.refused[name]
    shutil.rmtree(found.folder)
    print(f"removed {found.folder}")
    return 0


def _verify(library: "ProfileLibrary", name: str | None) -> int:
    if name is not None:
        _require(library, name)
    refused = {key: one for key, one in library.refused.items() if name in {None, key}}
    for key, one in sorted(refused.items()):
        print(f"{key}: {one.reason}", file=sys.stderr)
    good = [key for key in library.profiles if name in {None, key}]
    print(f"{len(good)} profiles can be used, {len(refused)} cannot")
    return 1 if refused else 0


def _add(args: argparse.Namespace, base: "BaseModel", own: Path) -> int:
    from wyoming_piwhisper.edge.model_store import is_hub_id

    source = Path(args.source).expanduser()
    if source.is_dir():
        return _add_folder(args, source, args.source, base, own)
    if not is_hub_id(args.source):
        raise ProfileError(f"{args.source}: no such folder, and no hub id such as owner/name")
    return _add_from_hub(args, base, own)


def _add_from_hub(args: argparse.Namespace, base: "BaseModel", own: Path) -> int:
    from wyoming_piwhisper.commands.download import showing_progress
    from wyoming_piwhisper.edge.adapter_download import download_adapter
    from wyoming_piwhisper.edge.hub import hub_from

    # The library passes over names with a dot.
    with showing_progress(args.source) as show:
        folder, commit = download_adapter(hub_from(os.environ), args.source, own / ".partial", args.revision, show)
    status = _add_folder(args, folder, f"{args.source} at {commit}", base, own)
    shutil.rmtree(folder)
    return status


def _add_folder(args: argparse.Namespace, source: Path, origin: str, base: "BaseModel", own: Path) -> int:
    """Check the profile under its final name beside the others, then let it appear at once."""
    from wyoming_piwhisper.engine.profile_card import CARD, ProfileCard, read_card, write_card
    from wyoming_piwhisper.engine.profile_library import check_profile

    if args.trait is None and not (source / CARD).is_file():
        raise ProfileError(f"{args.source} has no {CARD}: say what it is for, such as --trait accent --value indian")
    if args.trait is not None:
        today = datetime.now(UTC).date().isoformat()
        card = ProfileCard(args.trait, args.value or "all", base.name, base.fingerprint, data=origin, created=today)
    else:
        card = read_card(source)
    target = own / base.folder_name / card.name
    staging = target.parent / f"{card.name}.part" / card.name
    shutil.rmtree(staging.parent, ignore_errors=True)
    try:
        _copy(source, staging)
        write_card(staging, card)
        check_profile(staging, base)
        shutil.rmtree(target, ignore_errors=True)
        staging.rename(target)
    finally:
        shutil.rmtree(staging.parent, ignore_errors=True)
    print(f"added {target}")
    return 0


def _copy(source: Path, target: Path) -> None:
    from wyoming_piwhisper.engine.lora_file import CONFIG, WEIGHTS

    target.mkdir(parents=True)
    for name in (CONFIG, WEIGHTS):
        if (source / name).is_file():
            shutil.copyfile(source / name, target / name)


def _require(library: "ProfileLibrary", name: str) -> None:
    if name not in library.profiles and name not in library.refused:
        known = ", ".join(sorted({*library.profiles, *library.refused})) or "none"
        raise ProfileError(f"{name}: no such profile; there are: {known}")
