"""Stand-ins for the recogniser behind the server: an engine in the worker, steered by files in its model folder.

The worker is a process of its own, so a test talks to the fake engine through the folder:
`hold` and `hold-load` are FIFOs on which it waits before an answer and while it loads, the other names are plain files;
`transcription` holds more fields of its answers.
"""

import asyncio
import contextlib
import json
import os
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
from wyoming.audio import AudioChunk, AudioStart, AudioStop
from wyoming.client import AsyncClient
from wyoming.event import Event

from wyoming_piwhisper.domain.audio import Samples, seconds_of
from wyoming_piwhisper.domain.engine_plan import EnginePlan
from wyoming_piwhisper.domain.errors import InferenceError, ModelFormatError
from wyoming_piwhisper.domain.settings import AsrSettings, ServerSettings, VadSettings
from wyoming_piwhisper.domain.transcription import ModelDescription, RecognitionOptions, Speculation, Transcription
from wyoming_piwhisper.edge.recognition import Recognition
from wyoming_piwhisper.edge.wyoming_server import WyomingServer
from wyoming_piwhisper.service.inference import InferenceService

FACTORY = "fakes:load_fake_engine"
MODEL = ModelDescription("fake", "Counts samples", ("en", "de"), "Nobody", "https://example.org/", "1")
WAIT_SECONDS = 20.0
"""Bound of every wait in the tests; none comes near it."""


class FakeUtterance:
    """Tells how many samples it got and how loud they were; one that is silent has no words."""

    def __init__(self, folder: Path, options: RecognitionOptions) -> None:
        self._folder = folder
        self._language = options.language or "en"
        self._samples: list[Samples] = []

    def feed(self, samples: Samples) -> None:
        if (self._folder / "raise-on-feed").exists():
            raise RuntimeError("no memory for these samples")
        self._samples.append(samples)

    def think(self) -> bool:
        return False

    def endpoint(self) -> Transcription | None:
        end = self._folder / "endpoint"
        return self.finish() if end.exists() and sum(map(len, self._samples)) >= int(end.read_text()) else None

    def finish(self) -> Transcription:
        heard = np.concatenate([np.zeros(0, np.float32), *self._samples])
        with (self._folder / "finished").open("a") as log:
            log.write(f"{len(heard)}\n")
        self._misbehave()
        loudest = float(np.abs(heard).max(initial=0.0))
        text = f"{len(heard)} samples up to {loudest:.2f}" if loudest > 0.01 else ""
        told = self._folder / "transcription"
        fields = json.loads(told.read_text()) if told.exists() else {}
        return Transcription(
            text,
            self._language,
            seconds_of(len(heard)),
            stage_seconds={"decode": 0.001},
            speculation=Speculation(kept=1, dropped=2),
            **fields,
        )

    def _misbehave(self) -> None:
        wait_on(self._folder / "hold")
        if (self._folder / "fail").exists():
            raise InferenceError("the model gave up")
        if (self._folder / "raise").exists():
            raise RuntimeError("a bug\nin the model")
        if (self._folder / "crash").exists() or took(self._folder / "crash-once"):
            os._exit(3)
        if took(self._folder / "hang-once"):
            threading.Event().wait()


class FakeEngine:
    """Opens utterances that count their samples."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def open(self, options: RecognitionOptions) -> FakeUtterance:
        return FakeUtterance(self._folder, options)


def load_fake_engine(plan: EnginePlan) -> FakeEngine:
    """The engine factory that the tests name to the worker."""
    model_dir = plan.model_dir
    print("a library prints while it loads")  # noqa: T201
    (model_dir / "loaded").write_text(json.dumps({"pid": os.getpid(), "threads": os.environ["OMP_NUM_THREADS"]}))
    wait_on(model_dir / "hold-load")
    if (model_dir / "refuse").exists():
        raise ModelFormatError("config.json: damaged")
    if (model_dir / "crash-load").exists():
        os._exit(4)
    return FakeEngine(model_dir)


def took(path: Path) -> bool:
    """Remove `path`; False where it is not there."""
    try:
        path.unlink()
    except FileNotFoundError:
        return False
    return True


def wait_on(fifo: Path) -> None:
    """Wait until somebody has opened and closed `fifo` for writing; not at all where there is none."""
    with contextlib.suppress(FileNotFoundError):
        fifo.read_bytes()


async def release(fifo: Path) -> None:
    """Wait until the engine has come to `fifo`, then let it go on, now and later."""
    await reached(fifo, for_good=True)


async def reached(fifo: Path, *, for_good: bool = False) -> None:
    """Wait until the engine has come to `fifo`, and let it go on once."""

    def touch() -> None:
        with fifo.open("wb"):
            if for_good:
                fifo.unlink()

    await asyncio.wait_for(asyncio.to_thread(touch), WAIT_SECONDS)


def worker_pid(folder: Path) -> int:
    """Process id of the worker that loaded the fake engine last."""
    return int(json.loads((folder / "loaded").read_text())["pid"])


def write_model_folder(folder: Path) -> Path:
    """The small files of a model, as much as choosing it reads."""
    for name in ("generation_config.json", "preprocessor_config.json", "tokenizer.json", "model.safetensors"):
        (folder / name).write_text("{}")
    (folder / "config.json").write_text('{"model_type": "whisper"}')
    return folder


@asynccontextmanager
async def running_inference(
    folder: Path, asr: AsrSettings | None = None, vad: VadSettings | None = None
) -> AsyncIterator[InferenceService]:
    """A started service over a worker with the fake engine."""
    service = InferenceService(EnginePlan(folder, asr=asr or AsrSettings(), vad=vad or VadSettings()), FACTORY)
    await service.start()
    try:
        yield service
    finally:
        await service.aclose()


@asynccontextmanager
async def running_server(
    folder: Path,
    settings: ServerSettings | None = None,
    asr: AsrSettings | None = None,
    vad: VadSettings | None = None,
) -> AsyncIterator[WyomingServer]:
    """A server on a free port over a worker with the fake engine."""
    settings = settings or ServerSettings(uri="tcp://127.0.0.1:0")
    vad = vad or VadSettings()
    async with (
        running_inference(folder, asr, vad) as inference,
        WyomingServer(settings, Recognition(inference, MODEL, "en", vad.endpointing)) as server,
    ):
        yield server


async def answer(client: AsyncClient) -> Event:
    """The next event from the server."""
    event = await asyncio.wait_for(client.read_event(), WAIT_SECONDS)
    assert event is not None, "the server closed the connection without a word"
    return event


async def closed(client: AsyncClient) -> bool:
    """Wait for the server to close the connection; False where it sends another event instead."""
    return await asyncio.wait_for(client.read_event(), WAIT_SECONDS) is None


def pcm16(samples: int, level: float = 0.5) -> bytes:
    """A tone of 440 Hz at 16 kHz, mono, 16 bit."""
    tone = level * np.sin(2 * np.pi * 440 / 16_000 * np.arange(samples))
    return bytes((tone * 32_767).astype("<i2").data)


async def speak(client: AsyncClient, pcm: bytes, chunk_bytes: int = 320) -> None:
    """Send one utterance of 16 kHz mono 16 bit in chunks, as Home Assistant does."""
    await client.write_event(AudioStart(16_000, 2, 1).event())
    for at in range(0, len(pcm), chunk_bytes):
        await client.write_event(AudioChunk(16_000, 2, 1, pcm[at : at + chunk_bytes]).event())
    await client.write_event(AudioStop().event())
