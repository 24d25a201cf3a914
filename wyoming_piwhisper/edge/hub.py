"""Files of a repository on the hub: only those that are wanted, resumable, each one checked.

The bytes are read here and not by the hub's own library, which begins a file anew after each interruption.
"""

import hashlib
import http.client
import json
import logging
import re
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from wyoming_piwhisper.domain.errors import DownloadError

_LOGGER = logging.getLogger(__name__)

DEFAULT_ENDPOINT: Final = "https://huggingface.co"
_TIMEOUT_SECONDS: Final = 20.0
"""Silence of the hub after which a request counts as failed; each read of the body begins anew."""
_ATTEMPTS: Final = 10
"""Connections per file, as long as each brings some bytes."""
_BLOCK_BYTES: Final = 1 << 18
_COMMIT: Final = re.compile(r"[0-9a-f]{40}")

Progress = Callable[[int, int], None]
"""Called with the bytes that are here and the bytes of all files."""


@dataclass(frozen=True)
class Request:
    """What is wanted of which repository."""

    repo: str
    """`owner/name`."""
    names: re.Pattern[str]
    """Of the files; never those of pickles, which run code when they are opened."""
    required: tuple[str, ...]
    otherwise: str
    """What to tell about a repository that lacks one of those."""
    command: str
    """Fetches the same again."""


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


def list_files(hub: Hub, request: Request, revision: str) -> tuple[str, list[RemoteFile]]:
    """Ask the hub which commit `revision` is and which of its files are wanted.

    Raises:
        DownloadError: the hub is out of reach, or knows no such repository or revision, or a required file is missing.
    """
    repo = request.repo
    try:
        with hub.open(f"/api/models/{repo}/revision/{quote(revision, safe='')}?blobs=true") as response:
            info = json.loads(response.read())
        commit = str(info["sha"])
        files = [_remote_file(entry) for entry in info["siblings"] if request.names.fullmatch(entry["rfilename"])]
    except urllib.error.HTTPError as error:
        raise _refusal(hub, request, revision, error) from error
    except (OSError, http.client.HTTPException) as error:
        raise _out_of_reach(hub, request, error) from error
    except (ValueError, KeyError, TypeError) as error:
        raise DownloadError(f"{repo}: {hub.endpoint} does not answer as the hub does") from error
    if not _COMMIT.fullmatch(commit):
        raise DownloadError(f"{repo}: {hub.endpoint} names {commit!r:.60} as the commit of {revision}")
    if missing := sorted(set(request.required) - {file.name for file in files}):
        raise DownloadError(f"{repo}: has no {', '.join(missing)}; {request.otherwise}")
    return commit, files


def _remote_file(entry: dict[str, Any]) -> RemoteFile:
    large = entry.get("lfs")
    return RemoteFile(
        entry["rfilename"], int(entry["size"]), str(large["sha256"]) if large else None, str(entry["blobId"])
    )


def fetch_files(
    hub: Hub, request: Request, commit: str, files: Sequence[RemoteFile], folder: Path, progress: Progress | None
) -> dict[str, dict[str, str | int]]:
    """Fetch each file into `folder`, going on with what is there, and check it; returns size and sha256 by name.

    Raises:
        DownloadError: the hub is out of reach, or a file does not match its checksum.
        OSError: the folder cannot be written.
    """
    total = sum(file.size for file in files)
    done = 0
    digests: dict[str, dict[str, str | int]] = {}
    for file in files:

        def report(size: int, before: int = done) -> None:
            if progress:
                progress(before + size, total)

        _fetch(hub, request, commit, file, folder / file.name, report)
        digests[file.name] = {"size": file.size, "sha256": _verified_sha256(file, folder / file.name, request)}
        done += file.size
    return digests


def _fetch(
    hub: Hub, request: Request, commit: str, file: RemoteFile, target: Path, report: Callable[[int], None]
) -> None:
    """Bring `target` to its full size, continuing what is there, over several connections if need be."""
    url_path = f"/{request.repo}/resolve/{commit}/{quote(file.name)}"
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
                f"{request.repo}: {hub.endpoint} answered {error.code} for {file.name}; {_again(request)}"
            ) from error
        except (urllib.error.URLError, ConnectionError, TimeoutError, http.client.HTTPException) as error:
            problem = error
        if target.stat().st_size <= before:
            break
        _LOGGER.debug("%s: %s of %s bytes of %s", request.repo, target.stat().st_size, file.size, file.name)
    if target.stat().st_size < file.size:
        raise _out_of_reach(hub, request, problem) from problem


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


def _verified_sha256(file: RemoteFile, path: Path, request: Request) -> str:
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
        raise DownloadError(
            f"{request.repo}: the checksum of {file.name} is wrong, the file was deleted; {_again(request)}"
        )
    return digest


def _refusal(hub: Hub, request: Request, revision: str, error: urllib.error.HTTPError) -> DownloadError:
    # The hub answers 401 for repositories that do not exist, so as not to tell which private ones do.
    if error.code in {401, 403, 404}:
        return DownloadError(f"{request.repo}: no public model of that name with revision {revision} at {hub.endpoint}")
    return DownloadError(f"{request.repo}: {hub.endpoint} answered {error.code}; {_again(request)}")


def _out_of_reach(hub: Hub, request: Request, error: Exception) -> DownloadError:
    reason = getattr(error, "reason", None) or error
    return DownloadError(f"{request.repo}: {hub.endpoint} is out of reach ({reason}); {_again(request)}")


def _again(request: Request) -> str:
    return f"what has arrived is kept; later, run again: {request.command}"
