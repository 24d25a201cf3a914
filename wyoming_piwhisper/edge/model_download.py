"""Fetching Whisper models from the hub: put in place only when complete."""

import json
import re
import shutil
from pathlib import Path
from typing import Final

from wyoming_piwhisper.domain.errors import DownloadError
from wyoming_piwhisper.edge.hub import Hub, Progress, Request, fetch_files, list_files
from wyoming_piwhisper.edge.model_store import (
    RECORD,
    REQUIRED_FILES,
    download_command,
    is_hub_id,
    missing_files,
    model_folder,
)

PINNED_REVISIONS: Final = {
    "openai/whisper-tiny.en": "87c7102498dcde7456f24cfd30239ca606ed9063",
    "openai/whisper-tiny": "169d4a4341b33bc18d8881c4b69c2e104e1cc0af",
    "openai/whisper-base.en": "911407f4214e0e1d82085af863093ec0b66f9cd6",
    "openai/whisper-small.en": "e8727524f962ee844a7319d92be39ac1bd25655a",
}
"""The commit that is fetched unless another is asked for, so that everybody hears with the same weights."""

# Configuration, vocabulary, card and safe weights, but no record of ours.
_FILES: Final = re.compile(
    rf"(?!{re.escape(RECORD)}$)[\w-][\w.-]*\.(?:json|txt)|model\.safetensors|README\.md|LICENSE", re.ASCII
)
_OTHERWISE: Final = "only Whisper checkpoints in safetensors can be used"


def download_model(
    hub: Hub, repo: str, models_dir: Path, revision: str | None = None, progress: Progress | None = None
) -> Path:
    """Fetch the model `repo` (`owner/name`) and return its folder; does nothing when that revision is there.

    Without `revision`, a known model is fetched at its pinned commit, another at the head of `main`. What an
    interruption left is continued. The folder appears at once and complete, with `download.json` in it.

    Raises:
        DownloadError: the hub is out of reach, the model is unknown or no Whisper checkpoint in safetensors, or a file
            does not match its checksum.
    """
    if not is_hub_id(repo):
        raise DownloadError(f"{repo}: not a hub id such as openai/whisper-tiny.en")
    revision = revision or PINNED_REVISIONS.get(repo, "main")
    target = model_folder(repo, models_dir)
    if is_fetched(target, revision):
        return target
    request = Request(repo, _FILES, REQUIRED_FILES, _OTHERWISE, download_command(repo))
    commit, files = list_files(hub, request, revision)
    if is_fetched(target, commit):
        return target
    partial = models_dir / ".partial" / f"{repo.replace('/', '--')}-{commit}"
    try:
        partial.mkdir(parents=True, exist_ok=True)
        digests = fetch_files(hub, request, commit, files, partial, progress)
        record = {"repo": repo, "revision": commit, "files": digests}
        (partial / RECORD).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
        _put_in_place(partial, target)
    except OSError as error:
        raise DownloadError(f"{repo}: {error.strerror or error} ({error.filename or partial})") from error
    return target


def is_fetched(folder: Path, commit: str) -> bool:
    """Whether `folder` holds all files of that commit, in the sizes they were fetched with."""
    try:
        record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        sizes_fit = all((folder / name).stat().st_size == entry["size"] for name, entry in record["files"].items())
        return sizes_fit and record["revision"] == commit and not missing_files(folder)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def _put_in_place(partial: Path, target: Path) -> None:
    """Rename the complete folder to where models are looked for; another revision there gives way."""
    target.parent.mkdir(parents=True, exist_ok=True)
    retired = partial.with_name(f"{partial.name}.old")
    shutil.rmtree(retired, ignore_errors=True)
    if target.exists():
        target.rename(retired)
    partial.rename(target)
    shutil.rmtree(retired, ignore_errors=True)
