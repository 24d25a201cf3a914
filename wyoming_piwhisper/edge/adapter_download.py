"""Fetching LoRA adapters in PEFT's file format from the hub."""

import re
from pathlib import Path
from typing import Final

from wyoming_piwhisper.domain.errors import DownloadError
from wyoming_piwhisper.edge.hub import Hub, Progress, Request, fetch_files, list_files

REQUIRED_FILES: Final = ("adapter_config.json", "adapter_model.safetensors")
_FILES: Final = re.compile(r"adapter_config\.json|adapter_model\.safetensors|profile\.yaml", re.ASCII)
_OTHERWISE: Final = "only LoRA adapters that PEFT saved as safetensors can be used"


def download_adapter(
    hub: Hub, repo: str, work: Path, revision: str | None = None, progress: Progress | None = None
) -> tuple[Path, str]:
    """Fetch the adapter `repo` (`owner/name`) and return a folder below `work` that holds it, and its commit.

    Without `revision` the head of `main` is fetched. What an interruption left is continued.

    Raises:
        DownloadError: the hub is out of reach, there is no such adapter, or a file does not match its checksum.
    """
    again = f"wyoming-piwhisper profiles add {repo}"
    request = Request(repo, _FILES, REQUIRED_FILES, _OTHERWISE, again)
    commit, files = list_files(hub, request, revision or "main")
    folder = work / f"{repo.replace('/', '--')}-{commit}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        fetch_files(hub, request, commit, files, folder, progress)
    except OSError as error:
        raise DownloadError(f"{repo}: {error.strerror or error} ({error.filename or folder})") from error
    return folder, commit
