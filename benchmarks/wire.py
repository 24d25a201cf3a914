"""How long a client waits for its transcript, over a real socket, with audio that comes as fast as people speak.

The client sends what Home Assistant sends: 16 kHz PCM in chunks of 30 ms, in time, and `audio-stop` after 0.7 s of
silence, where Home Assistant's own detector ends a command. Servers that are compared take turns on each clip.
"""

import argparse
import asyncio
import contextlib
import os
import platform
import re
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import psutil
import soundfile
import soxr
from wyoming.asr import Transcribe, Transcript
from wyoming.audio import AudioChunk, AudioStart, AudioStop
from wyoming.client import AsyncClient

RATE = 16_000
CHUNK_SAMPLES = 480
SILENCE_SECONDS = 0.7
START_SECONDS = 120.0
SENTENCES = (
    "turn on the living room lamp",
    "what time is it",
    "set the kitchen light to fifty percent",
    "close the garage door",
    "turn off the fan in the bedroom",
    "start a timer for ten minutes",
)


@dataclass
class Server:
    """A server that is measured."""

    name: str
    command: list[str]
    port: int
    process: psutil.Process | None = None
    waits: list[float] = field(default_factory=list)
    """Milliseconds from `audio-stop` to the transcript."""
    cpu_seconds: list[float] = field(default_factory=list)
    """Of all its processes, for each clip."""

    @property
    def family(self) -> list[psutil.Process]:
        """Its process and all children."""
        return [] if self.process is None else [self.process, *self.process.children(recursive=True)]

    def used(self) -> float:
        """CPU seconds so far."""
        return sum(sum(process.cpu_times()[:2]) for process in self.family)

    def memory(self) -> str:
        """Resident megabytes of each process."""
        return " + ".join(f"{process.memory_info().rss / 1e6:.0f}" for process in self.family)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("clips", nargs="*", type=Path, help="wav, flac or ogg (default: six sentences by espeak-ng)")
    parser.add_argument("--rounds", type=int, default=5, help="how often each clip is sent (default: 5)")
    parser.add_argument("--threads", type=int, default=1, help="of the model (default: 1)")
    parser.add_argument("--model", default="home-en", help="asr.model of ours (default: home-en)")
    parser.add_argument("--engine", nargs="+", default=["onnx"], help="asr.engine of ours (default: onnx)")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        clips = [read(path) for path in args.clips or synthesised(Path(folder))]
        servers = [ours(engine, args.model, args.threads) for engine in args.engine]
        asyncio.run(measure(servers, clips, args.rounds))
    report(servers, len(clips), args)


def ours(engine: str, model: str, threads: int) -> Server:
    """Our server with one of its engines."""
    port = free_port()
    command = [sys.executable, "-m", "wyoming_piwhisper", "serve", "--server-uri", f"tcp://127.0.0.1:{port}"]
    command += ["--asr-engine", engine, "--asr-model", model, "--asr-threads", str(threads), "--asr-device", "cpu"]
    return Server(f"wyoming-piwhisper, {engine}", command, port)


def synthesised(folder: Path) -> list[Path]:
    """The sentences as wav files."""
    for number, sentence in enumerate(SENTENCES):
        subprocess.run(["espeak-ng", "-v", "en-us", "-w", folder / f"{number}.wav", sentence], check=True)  # noqa: S603, S607
    return sorted(folder.glob("*.wav"))


def read(path: Path) -> np.ndarray:
    """Mono PCM of 16 kHz: shape (n,), int16, with the silence behind it after which the client stops."""
    samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
    mono = soxr.resample(samples.mean(axis=1), rate, RATE)
    spoken = np.flatnonzero(np.abs(mono) > 0.02 * np.abs(mono).max())[-1] + 1
    whole = np.concatenate([mono[:spoken], np.zeros(int(SILENCE_SECONDS * RATE), np.float32)])
    pcm: np.ndarray = (np.clip(whole, -1, 1) * 32767).astype("<i2")
    return pcm


async def measure(servers: Sequence[Server], clips: Sequence[np.ndarray], rounds: int) -> None:
    """Fill in the figures; the first round is for warming up."""
    async with contextlib.AsyncExitStack() as stack:
        for server in servers:
            await stack.enter_async_context(running(server))
        for number in range(rounds + 1):
            for clip in clips:
                for server in servers:
                    before = server.used()
                    wait = await ask(server.port, clip)
                    if number:
                        server.waits.append(1000 * wait)
                        server.cpu_seconds.append(server.used() - before)
        for server in servers:
            server.name += f" ({server.memory()} MB)"


@contextlib.asynccontextmanager
async def running(server: Server) -> AsyncIterator[None]:
    """Start the server and wait for its first answer."""
    log = tempfile.TemporaryFile()  # noqa: SIM115
    process = subprocess.Popen(server.command, stderr=log)  # noqa: ASYNC220, S603
    try:
        server.process = psutil.Process(process.pid)
        deadline = time.monotonic() + START_SECONDS
        while True:
            with contextlib.suppress(OSError):
                await ask(server.port, np.zeros(1600, "<i2"))
                break
            if process.poll() is not None or time.monotonic() > deadline:
                log.seek(0)
                sys.exit(f"{server.name} does not answer:\n{log.read().decode()}")
            await asyncio.sleep(0.1)
        yield
    finally:
        process.terminate()
        process.wait()


async def ask(port: int, pcm: np.ndarray) -> float:
    """Send a clip in time; returns the seconds from `audio-stop` to the transcript."""
    async with AsyncClient.from_uri(f"tcp://127.0.0.1:{port}") as client:
        await client.write_event(Transcribe(language="en").event())
        await client.write_event(AudioStart(RATE, 2, 1).event())
        began = time.monotonic()
        for start in range(0, pcm.size, CHUNK_SAMPLES):
            chunk = pcm[start : start + CHUNK_SAMPLES]
            await asyncio.sleep(max(0.0, began + (start + chunk.size) / RATE - time.monotonic()))
            await client.write_event(AudioChunk(RATE, 2, 1, chunk.tobytes()).event())
        stopped = time.monotonic()
        await client.write_event(AudioStop().event())
        while (event := await client.read_event()) is not None:
            if Transcript.is_type(event.type):
                return time.monotonic() - stopped
        raise ConnectionError("no transcript")


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def report(servers: Sequence[Server], clips: int, args: argparse.Namespace) -> None:
    """Print the table."""
    print(
        f"CPU {platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; {args.model}, "
        f"{args.threads} threads; {clips} clips, {args.rounds} rounds\n"
    )
    print("| server (resident memory of its processes) | median | 95th percentile | CPU a clip |\n|---|---|---|---|")
    for server in servers:
        cpu = 1000 * float(np.median(server.cpu_seconds))
        name = re.sub(r"\s+", " ", server.name)
        print(
            f"| {name} | {np.median(server.waits):.1f} ms | {np.percentile(server.waits, 95):.1f} ms | {cpu:.0f} ms |"
        )


if __name__ == "__main__":
    main()
