"""Fetching models from the hub: resumable, every file checked, and put in place only when complete.

The bytes are read here and not by the hub's own library, which begins a file anew after each interruption.
"""

import hashlib
import http.client
import json
import logging
import re
import shutil
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from wyoming_piwhisper.domain.errors import DownloadError
from wyoming_piwhisper.edge.model_store import (
    RECORD,
    REQUIRED_FILES,
    download_command,
    is_hub_id,
    missing_files,
    model_folder,
)

_LOGGER = logging.getLogger(__name__)

DEFAULT_ENDPOINT: Final = "https://huggingface.co"
PINNED_REVISIONS: Final = {
    "openai/whisper-tiny.en": "87c7102498dcde7456f24cfd30239ca606ed9063",
    "openai/whisper-tiny": "169d4a4341b33bc18d8881c4b69c2e104e1cc0af",
    "openai/whisper-base.en": "911407f4214e0e1d82085af863093ec0b66f9cd6",
    "openai/whisper-small.en": "e8727524f962ee844a7319d92be39ac1bd25655a",
}
"""The commit that is fetched unless another is asked for, so that everybody hears with the same weights."""

_TIMEOUT_SECONDS: Final = 20.0
"""Silence of the hub after which a request counts as failed; each read of the body begins anew."""
_ATTEMPTS: Final = 10
"""Connections per file, as long as each brings some bytes."""
_BLOCK_BYTES: Final = 1 << 18
_COMMIT: Final = re.compile(r"[0-9a-f]{40}")
# Configuration, vocabulary, card and safe weights; never pickles, which run code when they are opened.
_WANTED: Final = re.compile(r"[\w-][\w.-]*\.(?:json|txt)|model\.safetensors|README\.md|LICENSE", re.ASCII)

Progress = Callable[[int, int], None]
"""Called with the bytes that are here and the bytes of the whole model."""


@dataclass(frozen=True)
class RemoteFile:
    """A file on the hub and what its content must hash to."""

    name: str
    size: int
    sha256: str | None
    """Known for files in large-file storage."""
    git_sha1: str
    """Git's object id, of the content for files that lie in the repository itself."""


@dataclass(frozen=True)
class Hub:
    """The hub and, for private models, who asks."""

    endpoint: str = DEFAULT_ENDPOINT
    token: str | None = None

    def open(self, path: str, headers: dict[str, str] | None = None) -> http.client.HTTPResponse:
        """Send a GET for `path`; raises urllib's URLError, HTTPError included, or another OSError."""
        request = urllib.request.Request(f"{self.endpoint}{path}", headers=headers or {})  # noqa: S310 -- see hub_from
        request.add_header("User-Agent", "wyoming-piwhisper")
        if self.token:
            # Not to be sent on to the storage that the hub redirects to.
            request.add_unredirected_header("Authorization", f"Bearer {self.token}")
        response: http.client.HTTPResponse = urllib.request.urlopen(request, timeout=_TIMEOUT_SECONDS)  # noqa: S310
        return response


def hub_from(environment: Mapping[str, str]) -> Hub:
    """The hub that `HF_ENDPOINT` and `HF_TOKEN` name, as for every program that uses it.

    Raises:
        DownloadError: `HF_ENDPOINT` is no http address.
    """
    endpoint = environment.get("HF_ENDPOINT", "").rstrip("/") or DEFAULT_ENDPOINT
    if not endpoint.startswith(("https://", "http://")):
        raise DownloadError(f"HF_ENDPOINT: {endpoint!r} does not begin with https:// or http://")
    return Hub(endpoint, environment.get("HF_TOKEN") or None)


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
    commit, files = _list_files(hub, repo, revision)
    if is_fetched(target, commit):
        return target
    partial = models_dir / ".partial" / f"{repo.replace('/', '--')}-{commit}"
    try:
        partial.mkdir(parents=True, exist_ok=True)
        digests = _fetch_all(hub, repo, commit, files, partial, progress)
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


def _list_files(hub: Hub, repo: str, revision: str) -> tuple[str, list[RemoteFile]]:
    """Ask the hub which commit `revision` is and which of its files a server needs."""
    try:
        with hub.open(f"/api/models/{repo}/revision/{quote(revision, safe='')}?blobs=true") as response:
            info = json.loads(response.read())
        commit = str(info["sha"])
        files = [_remote_file(entry) for entry in info["siblings"] if _is_wanted(entry["rfilename"])]
    except urllib.error.HTTPError as error:
        raise _refusal(hub, repo, revision, error) from error
    except (OSError, http.client.HTTPException) as error:
        raise _out_of_reach(hub, repo, error) from error
    except (ValueError, KeyError, TypeError) as error:
        raise DownloadError(f"{repo}: {hub.endpoint} does not answer as the hub does") from error
    if not _COMMIT.fullmatch(commit):
        raise DownloadError(f"{repo}: {hub.endpoint} names {commit!r:.60} as the commit of {revision}")
    missing = sorted(set(REQUIRED_FILES) - {file.name for file in files})
    if missing:
        raise DownloadError(f"{repo}: has no {', '.join(missing)}; only Whisper checkpoints in safetensors can be used")
    return commit, files


def _is_wanted(name: str) -> bool:
    return _WANTED.fullmatch(name) is not None and name != RECORD


def _remote_file(entry: dict[str, Any]) -> RemoteFile:
    large = entry.get("lfs")
    return RemoteFile(
        entry["rfilename"], int(entry["size"]), str(large["sha256"]) if large else None, str(entry["blobId"])
    )


def _fetch_all(
    hub: Hub, repo: str, commit: str, files: Sequence[RemoteFile], folder: Path, progress: Progress | None
) -> dict[str, dict[str, str | int]]:
    """Fetch and check each file; returns size and sha256 by name."""
    total = sum(file.size for file in files)
    done = 0
    digests: dict[str, dict[str, str | int]] = {}
    for file in files:

        def report(size: int, before: int = done) -> None:
            if progress:
                progress(before + size, total)

        _fetch(hub, f"/{repo}/resolve/{commit}/{quote(file.name)}", file, folder / file.name, repo, report)
        digests[file.name] = {"size": file.size, "sha256": _verified_sha256(file, folder / file.name, repo)}
        done += file.size
    return digests


def _fetch(hub: Hub, url_path: str, file: RemoteFile, target: Path, repo: str, report: Callable[[int], None]) -> None:
    """Bring `target` to its full size, continuing what is there, over several connections if need be."""
    if target.exists() and target.stat().st_size > file.size:
        target.unlink()
    target.touch()
    problem: Exception = ConnectionError("connection closed too early")
    for _ in range(_ATTEMPTS):
        before = target.stat().st_size
        report(before)
        if before == file.size:
            return
        try:
            _receive(hub, url_path, target, file.size, report)
        except urllib.error.HTTPError as error:
            raise DownloadError(
                f"{repo}: {hub.endpoint} answered {error.code} for {file.name}; {_again(repo)}"
            ) from error
        except (urllib.error.URLError, ConnectionError, TimeoutError, http.client.HTTPException) as error:
            problem = error
        if target.stat().st_size <= before:
            break
        _LOGGER.debug("%s: %s of %s bytes of %s", repo, target.stat().st_size, file.size, file.name)
    if target.stat().st_size < file.size:
        raise _out_of_reach(hub, repo, problem) from problem


def _receive(hub: Hub, url_path: str, target: Path, size: int, report: Callable[[int], None]) -> None:
    """Append what one connection brings."""
    have = target.stat().st_size
    headers = {"Range": f"bytes={have}-"} if have else {}
    with hub.open(url_path, headers) as response, target.open("ab") as output:
        if have and response.status != http.client.PARTIAL_CONTENT:
            # The whole file comes instead of its rest.
            output.truncate(0)
            have = 0
        while have < size and (block := response.read(min(_BLOCK_BYTES, size - have))):
            output.write(block)
            have += len(block)
            report(have)


def _verified_sha256(file: RemoteFile, path: Path, repo: str) -> str:
    """Return the SHA-256 of a fetched file; one that is not what the hub announced is deleted."""
    sha256 = hashlib.sha256()
    # Git's name of an object is a SHA-1 over a header and the content; it guards against accidents only.
    git = hashlib.sha1(f"blob {file.size}\0".encode(), usedforsecurity=False)
    with path.open("rb") as content:
        while block := content.read(_BLOCK_BYTES):
            sha256.update(block)
            git.update(block)
    digest = sha256.hexdigest()
    if (digest != file.sha256) if file.sha256 else (git.hexdigest() != file.git_sha1):
        path.unlink()
        raise DownloadError(f"{repo}: the checksum of {file.name} is wrong, the file was deleted; {_again(repo)}")
    return digest


def _put_in_place(partial: Path, target: Path) -> None:
    """Rename the complete folder to where models are looked for; another revision there gives way."""
    target.parent.mkdir(parents=True, exist_ok=True)
    retired = partial.with_name(f"{partial.name}.old")
    shutil.rmtree(retired, ignore_errors=True)
    if target.exists():
        target.rename(retired)
    partial.rename(target)
    shutil.rmtree(retired, ignore_errors=True)


def _refusal(hub: Hub, repo: str, revision: str, error: urllib.error.HTTPError) -> DownloadError:
    # The hub answers 401 for models that do not exist, so as not to tell which private ones do.
    if error.code in {401, 403, 404}:
        return DownloadError(f"{repo}: no public model of that name with revision {revision} at {hub.endpoint}")
    return DownloadError(f"{repo}: {hub.endpoint} answered {error.code}; {_again(repo)}")


def _out_of_reach(hub: Hub, repo: str, error: Exception) -> DownloadError:
    reason = getattr(error, "reason", None) or error
    return DownloadError(f"{repo}: {hub.endpoint} is out of reach ({reason}); {_again(repo)}")


def _again(repo: str) -> str:
    return f"what has arrived is kept; later, run again: {download_command(repo)}"
