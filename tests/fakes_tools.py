"""Stand-ins for the tests of the command line: an engine with a script, a model folder, a hub over HTTP."""

import hashlib
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from wyoming_piwhisper.domain.audio import Samples, seconds_of
from wyoming_piwhisper.domain.errors import InferenceError
from wyoming_piwhisper.domain.transcription import RecognitionOptions, Transcription

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class ScriptedEngine:
    """An engine that answers its utterances with the given texts in turn; None makes one fail."""

    def __init__(self, *texts: str | None) -> None:
        self.texts = list(texts)
        self.options: list[RecognitionOptions] = []

    def open(self, options: RecognitionOptions) -> "ScriptedUtterance":
        self.options.append(options)
        return ScriptedUtterance(self.texts.pop(0))


class ScriptedUtterance:
    def __init__(self, text: str | None) -> None:
        self._text = text
        self._samples = 0

    def feed(self, samples: Samples) -> None:
        self._samples += len(samples)

    def think(self) -> bool:
        return False

    def endpoint(self) -> Transcription | None:
        return None

    def finish(self) -> Transcription:
        if self._text is None:
            raise InferenceError("the model failed")
        seconds = seconds_of(self._samples)
        return Transcription(self._text, "en", seconds, seconds, stage_seconds={"decode": 0.25})


def model_files(**generation: object) -> dict[str, bytes]:
    """The files of a Whisper model, by name; the weights are some bytes."""
    return {
        "config.json": b'{"model_type": "whisper"}',
        "generation_config.json": json.dumps(generation).encode(),
        "preprocessor_config.json": b"{}",
        "tokenizer.json": b"{}",
        "model.safetensors": bytes(range(256)) * 4096,
    }


def write_model(folder: Path, files: Mapping[str, bytes]) -> Path:
    folder.mkdir(parents=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


@dataclass
class FakeHub:
    """What the hub serves, how it misbehaves, and what it was asked."""

    endpoint: str = ""
    repo: str = "someone/whisper-test"
    files: dict[str, bytes] = field(default_factory=dict)
    cut_after: int | None = None
    """Each answer with a file ends after so many bytes."""
    refuse_files_after: int | None = None
    """From so many file requests on, they get status 503."""
    ignore_range: bool = False
    damaged: str = ""
    """A file of which other bytes come than were announced."""
    other_listing: bytes | None = None
    """What is answered in place of the list of files."""
    requests: list[tuple[str, str | None]] = field(default_factory=list)
    """Path and Range of each request, in order."""

    def ranges_of(self, name: str) -> list[str | None]:
        return [asked for path, asked in self.requests if path.endswith(f"/{name}")]

    def listing(self) -> dict[str, Any]:
        siblings = []
        for name, content in self.files.items():
            entry: dict[str, Any] = {
                "rfilename": name,
                "size": len(content),
                "blobId": hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest(),
            }
            if name.endswith((".safetensors", ".bin")):
                entry["blobId"] = "f" * 40
                entry["lfs"] = {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content)}
            siblings.append(entry)
        return {"sha": COMMIT, "siblings": siblings}


@contextmanager
def serving_hub(files: dict[str, bytes]) -> Iterator[FakeHub]:
    """Run a hub on a free port of this host; it answers as its fields say, which a test may change."""
    hub = FakeHub(files=files)
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler_of(hub))
    server.daemon_threads = True
    hub.endpoint = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _handler_of(hub: FakeHub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            hub.requests.append((self.path, self.headers["Range"]))
            api, files = f"/api/models/{hub.repo}/revision/", f"/{hub.repo}/resolve/{COMMIT}/"
            if self.path.startswith(api):
                listing = json.dumps(hub.listing()).encode() if hub.other_listing is None else hub.other_listing
                self._answer(200, listing)
            elif self.path.startswith(files) and self.path.removeprefix(files) in hub.files:
                self._answer_file(self.path.removeprefix(files))
            else:
                self._answer(401, b"")

        def _answer_file(self, name: str) -> None:
            asked = sum("/resolve/" in path for path, _ in hub.requests)
            if hub.refuse_files_after is not None and asked > hub.refuse_files_after:
                self._answer(503, b"")
                return
            content = hub.files[name]
            if name == hub.damaged:
                content = bytes(len(content))
            wanted = self.headers["Range"]
            if wanted and not hub.ignore_range:
                self._answer(206, content[int(wanted.removeprefix("bytes=").removesuffix("-")) :])
            else:
                self._answer(200, content)

        def _answer(self, status: int, content: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content if "/resolve/" not in self.path else content[: hub.cut_after])
            self.close_connection = True

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 -- named by the base class
            """Keep quiet."""

    return Handler
