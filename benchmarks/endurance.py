"""How soon a server is there, and whether its memory stays where it is over thousands of utterances.

The utterances come one after the other, each at once; one of them is 30 s long.
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
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import psutil
from servers import Server, ours
from wire import read, synthesised
from wyoming.asr import Transcribe, Transcript
from wyoming.audio import AudioChunk, AudioStart, AudioStop
from wyoming.client import AsyncClient
from wyoming.info import Describe, Info

RATE = 16_000
CHUNK_BYTES = 4096
LONG_SECONDS = 30
START_SECONDS = 60.0
POLL_SECONDS = 0.005


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--utterances", type=int, default=2000, help="how many (default: 2000)")
    parser.add_argument("--threads", type=int, default=1, help="of the model (default: 1)")
    parser.add_argument("--model", default="home-en", help="asr.model (default: home-en)")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        clips = [read(path).pcm for path in synthesised(Path(folder))]
    print(f"CPU {platform.machine()}, {os.cpu_count()} cores; {args.model}, {args.threads} threads\n")
    asyncio.run(measure(ours("onnx", args.model, args.threads), clips, args.utterances))


async def measure(server: Server, clips: list[np.ndarray], count: int) -> None:
    """Start the server, then send the utterances; prints as it goes."""
    async with started(server):
        long = np.resize(np.concatenate(clips), LONG_SECONDS * RATE)
        print("| utterances | resident MB of server + worker |\n|---|---|", flush=True)
        for number in range(count + 1):
            if number in {10, count // 4 - 1, count // 4 + 1, count // 2, 3 * count // 4, count}:
                server.weigh()
                print(f"| {number} | {server.resident} |", flush=True)
            await ask(server.port, long if number == count // 4 else clips[number % len(clips)])
    print(f"\nUtterance {count // 4} was {LONG_SECONDS} s long.")


@contextlib.asynccontextmanager
async def started(server: Server) -> AsyncIterator[None]:
    """Run the server; prints how long its first answers took."""
    began = time.monotonic()
    process = subprocess.Popen(server.command, stderr=subprocess.DEVNULL)  # noqa: ASYNC220, S603
    try:
        server.process = psutil.Process(process.pid)
        await until(began, lambda: described(server.port))
        print(f"`describe` answered {time.monotonic() - began:.2f} s after the start")
        await ask(server.port, np.zeros(RATE, "<i2"))
        print(f"first transcript {time.monotonic() - began:.2f} s after the start\n")
        yield
    finally:
        process.terminate()
        process.wait()


async def until(began: float, attempt) -> None:  # noqa: ANN001
    """Try until it works."""
    while True:
        with contextlib.suppress(OSError):
            return await attempt()
        if time.monotonic() - began > START_SECONDS:
            sys.exit("the server does not answer")
        await asyncio.sleep(POLL_SECONDS)


async def described(port: int) -> None:
    """Ask what the server is."""
    async with AsyncClient.from_uri(f"tcp://127.0.0.1:{port}") as client:
        await client.write_event(Describe().event())
        event = await client.read_event()
        assert event is not None  # noqa: S101
        assert Info.is_type(event.type)  # noqa: S101


async def ask(port: int, pcm: np.ndarray) -> None:
    """Send a clip at once and wait for its transcript."""
    async with AsyncClient.from_uri(f"tcp://127.0.0.1:{port}") as client:
        await client.write_event(Transcribe(language="en").event())
        await client.write_event(AudioStart(RATE, 2, 1).event())
        data = pcm.tobytes()
        for start in range(0, len(data), CHUNK_BYTES):
            await client.write_event(AudioChunk(RATE, 2, 1, data[start : start + CHUNK_BYTES]).event())
        await client.write_event(AudioStop().event())
        while (event := await client.read_event()) is not None:
            if Transcript.is_type(event.type):
                return
        raise ConnectionError("no transcript")


if __name__ == "__main__":
    main()
