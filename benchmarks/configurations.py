"""What our server takes in each configuration: waiting time, processor, memory and watts, over a real socket.

Clips and client are those of `wire.py`. One server runs after the other, alone, so that its memory and power are its
own; rows were measured at different times. Of the processor 100 % is one core. Watts are those of the processor's
package or of the Jetson's module, whoever used them. Profiles are for home-en: with the random checkpoint `auto` only
tells the traits of the voice.
"""

import argparse
import asyncio
import itertools
import os
import platform
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from power import PowerMeter
from servers import Server, ours, random_weights
from wire import RATE, Clip, read_clips, running, take_turns

RANDOM = "random"
ENGINES = ("onnx", "torch")
COLUMNS = (
    "model, engine, threads, profile",
    "audio-stop to transcript",
    "95th percentile",
    "CPU while a clip streams",
    "server + worker, resident MB",
    "watts",
)


def main() -> None:
    """Measure and print row by row."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("clips", nargs="*", type=Path, help="wav, flac or ogg (default: six sentences by espeak-ng)")
    parser.add_argument("--rounds", type=int, default=3, help="how often each clip is sent (default: 3)")
    parser.add_argument("--models", nargs="+", default=["home-en", RANDOM], help="(default: home-en random)")
    parser.add_argument("--engines", nargs="+", choices=ENGINES, default=installed(), help="(default: all installed)")
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2], help="of the model (default: 1 2)")
    parser.add_argument("--profiles", nargs="+", default=["none", "auto"], help="(default: none auto)")
    args = parser.parse_args()
    clips = read_clips(args.clips)
    conditions = f"load {os.getloadavg()[0]:.1f}; {len(clips)} clips, {args.rounds} rounds"
    print(f"CPU {platform.machine()}, {os.cpu_count()} cores, {conditions}\n")
    print(f"| {' | '.join(COLUMNS)} |\n|{'---|' * len(COLUMNS)}")
    for model, engine, threads, profile in itertools.product(args.models, args.engines, args.threads, args.profiles):
        folder = str(random_weights()) if model == RANDOM else model
        server = ours(engine, folder, threads, profile)
        server.name = f"{model}, {engine}, {threads}, {profile}"
        watts = asyncio.run(measure(server, clips, args.rounds))
        print(row(server, clips, watts), flush=True)


def installed() -> list[str]:
    """The engines that can run here."""
    return [engine for engine in ENGINES if engine == "onnx" or find_spec(engine)]


async def measure(server: Server, clips: Sequence[Clip], rounds: int) -> float | None:
    """Fill in the figures of one server; returns the watts that the machine drew meanwhile."""
    async with running(server):
        await take_turns([server], clips, counts=False)
        with PowerMeter() as meter:
            for _ in range(rounds):
                await take_turns([server], clips, counts=True)
        server.weigh()
        return meter.watts


def row(server: Server, clips: Sequence[Clip], watts: float | None) -> str:
    """A line of the table."""
    rounds = len(server.answers) / len(clips)
    streamed = sum(clip.pcm.size for clip in clips) * rounds / RATE
    cells = [
        server.name,
        f"{np.median(server.waits):.1f} ms",
        f"{np.percentile(server.waits, 95):.1f} ms",
        f"{100 * sum(server.cpu_seconds) / streamed:.1f} %",
        server.resident,
        "-" if watts is None else f"{watts:.1f}",
    ]
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
