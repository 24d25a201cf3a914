"""How long a client waits for its transcript, over a real socket, with audio that comes as fast as people speak.

The client sends what Home Assistant sends: 16 kHz PCM in chunks of 30 ms, in time, and `audio-stop` after 0.7 s of
silence, where Home Assistant's own detector ends a command. Servers that are compared take turns on each clip.

With `--peer-python` the real wyoming-faster-whisper runs beside ours; see `peer_server.py`. All then hear with one
random checkpoint whose answers have 12 tokens. Our gate, our rules against noise and our work in pauses are as they
always are; how often a draft is right with random weights says nothing about speech.
"""

import argparse
import asyncio
import contextlib
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
import soundfile
import soxr
from servers import ANSWER_TOKENS, PEER_BEAMS, Answer, Server, ours, peer, random_weights
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


@dataclass(frozen=True)
class Clip:
    """What a client sends."""

    pcm: np.ndarray
    """Shape (n,), int16, mono, 16 kHz."""
    speech_seconds: float
    """To the end of the last word."""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("clips", nargs="*", type=Path, help="wav, flac or ogg (default: six sentences by espeak-ng)")
    parser.add_argument("--rounds", type=int, default=5, help="how often each clip is sent (default: 5)")
    parser.add_argument("--threads", type=int, default=1, help="of the model (default: 1)")
    parser.add_argument("--model", default="home-en", help="asr.model of ours (default: home-en)")
    parser.add_argument("--engine", nargs="+", default=["onnx"], help="asr.engine of ours (default: onnx)")
    parser.add_argument("--peer-python", type=Path, help="Python of an environment with wyoming-faster-whisper")
    args = parser.parse_args()
    if args.peer_python:
        args.model = str(random_weights())
    servers = [ours(engine, args.model, args.threads) for engine in args.engine]
    if not args.peer_python:
        servers += [ours(engine, args.model, args.threads, finds_end=True) for engine in args.engine]
    if args.peer_python:
        servers += [peer(args.peer_python, Path(args.model), beam, args.threads) for beam in PEER_BEAMS]
    clips = read_clips(args.clips)
    asyncio.run(measure(servers, clips, args.rounds))
    if args.peer_python:
        check_lengths(servers)
    report(servers, len(clips), args)


def read_clips(paths: Sequence[Path]) -> list[Clip]:
    """The files, or the sentences where there are none."""
    with tempfile.TemporaryDirectory() as folder:
        return [read(path) for path in paths or synthesised(Path(folder))]


def synthesised(folder: Path) -> list[Path]:
    """The sentences as wav files."""
    for number, sentence in enumerate(SENTENCES):
        subprocess.run(["espeak-ng", "-v", "en-us", "-w", folder / f"{number}.wav", sentence], check=True)  # noqa: S603, S607
    return sorted(folder.glob("*.wav"))


def read(path: Path) -> Clip:
    """A file with the silence behind it after which the client stops."""
    samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
    mono = soxr.resample(samples.mean(axis=1), rate, RATE)
    spoken = np.flatnonzero(np.abs(mono) > 0.02 * np.abs(mono).max())[-1] + 1
    whole = np.concatenate([mono[:spoken], np.zeros(int(SILENCE_SECONDS * RATE), np.float32)])
    return Clip((np.clip(whole, -1, 1) * 32767).astype("<i2"), spoken / RATE)


async def measure(servers: Sequence[Server], clips: Sequence[Clip], rounds: int) -> None:
    """Fill in the figures; the first round is for warming up."""
    async with contextlib.AsyncExitStack() as stack:
        for server in servers:
            await stack.enter_async_context(running(server))
        for number in range(rounds + 1):
            await take_turns(servers, clips, counts=number > 0)
        for server in servers:
            server.weigh()


async def take_turns(servers: Sequence[Server], clips: Sequence[Clip], *, counts: bool) -> None:
    """Send each clip to each server."""
    for clip in clips:
        for server in servers:
            before = server.used()
            answer = await ask(server.port, clip)
            if counts:
                server.answers.append(answer)
                server.cpu_seconds.append(server.used() - before)


@contextlib.asynccontextmanager
async def running(server: Server) -> AsyncIterator[None]:
    """Start the server and wait for its first answer."""
    log = tempfile.TemporaryFile()  # noqa: SIM115
    process = subprocess.Popen(server.command, stderr=log)  # noqa: ASYNC220, S603
    try:
        server.process = psutil.Process(process.pid)
        deadline = time.monotonic() + START_SECONDS
        while True:
            with contextlib.suppress(OSError, ExceptionGroup):
                await ask(server.port, Clip(np.zeros(1600, "<i2"), 0.0))
                break
            if process.poll() is not None or time.monotonic() > deadline:
                log.seek(0)
                sys.exit(f"{server.name} does not answer:\n{log.read().decode()}")
            await asyncio.sleep(0.1)
        yield
    finally:
        process.terminate()
        process.wait()


async def ask(port: int, clip: Clip) -> Answer:
    """Send a clip in time and wait for its transcript, which may come before the end of the clip."""
    async with AsyncClient.from_uri(f"tcp://127.0.0.1:{port}") as client, asyncio.TaskGroup() as tasks:
        arrival = tasks.create_task(transcript(client))
        await client.write_event(Transcribe(language="en").event())
        await client.write_event(AudioStart(RATE, 2, 1).event())
        began = time.monotonic()
        for start in range(0, clip.pcm.size, CHUNK_SAMPLES):
            chunk = clip.pcm[start : start + CHUNK_SAMPLES]
            await asyncio.sleep(max(0.0, began + (start + chunk.size) / RATE - time.monotonic()))
            await client.write_event(AudioChunk(RATE, 2, 1, chunk.tobytes()).event())
        stopped = time.monotonic()
        await client.write_event(AudioStop().event())
        now, words = await arrival
        return Answer(now - stopped, now - began - clip.speech_seconds, words)


async def transcript(client: AsyncClient) -> tuple[float, int]:
    """When the transcript comes, and how many words it has."""
    while (event := await client.read_event()) is not None:
        if Transcript.is_type(event.type):
            return time.monotonic(), len(Transcript.from_event(event).text.split())
    raise ConnectionError("no transcript")


def check_lengths(servers: Sequence[Server]) -> None:
    """Stop unless all servers said as much as the others."""
    for server in servers:
        words = {answer.words for answer in server.answers}
        if words != {ANSWER_TOKENS}:
            sys.exit(f"{server.name} said {words} tokens, not {ANSWER_TOKENS}")


def report(servers: Sequence[Server], clips: int, args: argparse.Namespace) -> None:
    """Print the table."""
    weights = f"random weights, answers of {ANSWER_TOKENS} tokens" if args.peer_python else args.model
    print(
        f"CPU {platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; {weights}, "
        f"{args.threads} threads; {clips} clips, {args.rounds} rounds\n"
    )
    columns = ["audio-stop to transcript", "95th percentile", "last word to transcript", "first partial", "CPU a clip"]
    print(f"| server (resident memory of its processes) | {' | '.join(columns)} |\n|---|{'---|' * len(columns)}")
    for server in servers:
        cpu = 1000 * float(np.median(server.cpu_seconds))
        after_speech = 1000 * float(np.median([answer.after_speech for answer in server.answers]))
        waits = f"{np.median(server.waits):.1f} ms | {np.percentile(server.waits, 95):.1f} ms"
        print(f"| {server.name} ({server.resident} MB) | {waits} | {after_speech:.0f} ms | - | {cpu:.0f} ms |")
    print("\nNo server here sends partial transcripts.")


if __name__ == "__main__":
    main()
