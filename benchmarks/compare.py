"""Our engines and others on the same audio, checkpoint and number of tokens, one after the other in one run.

Each engine lives in a process of its own; they take turns in random order. The checkpoint has the sizes of
whisper-tiny.en and random weights, which says nothing of what is heard. Below each table stands how far ours is above
the physical floor; see `floor.py`.
"""

import argparse
import json
import os
import platform
import random
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from statistics import median, quantiles

import floor
from floor import LENGTHS

PAUSE_SECONDS = 0.04
"""Between two engines, so that the threads of the last come to rest."""
REFERENCE = "faster-whisper int8 beam 1"
ENGINES = (
    "ours onnx",
    "ours torch",
    "ours onnx, 30 s context",
    REFERENCE,
    "faster-whisper int8 beam 5",
    "whisper.cpp q8_0",
    "whisper.cpp q8_0, short context",
    "transformers",
)
NEEDS = {"faster-whisper": "faster_whisper", "whisper.cpp": "pywhispercpp", "transformers": "transformers"}
BUSY = "import os\nwhile os.getppid() > 1: pass"


@dataclass
class Engine:
    """An engine in its process."""

    name: str
    process: "subprocess.Popen[str]"
    milliseconds: dict[int, list[float]] = field(default_factory=dict)
    cpu: dict[int, list[float]] = field(default_factory=dict)
    memory: float = 0.0

    def hear(self, seconds: int, *, counts: bool) -> None:
        """Let it hear once."""
        assert self.process.stdin is not None  # noqa: S101  (made with pipes)
        assert self.process.stdout is not None  # noqa: S101
        print(seconds, LENGTHS[seconds], file=self.process.stdin, flush=True)
        answer = json.loads(self.process.stdout.readline())
        if answer["tokens"] != LENGTHS[seconds]:
            sys.exit(f"{self.name} said {answer['tokens']} tokens, not {LENGTHS[seconds]}")
        self.memory = answer["megabytes"]
        if counts:
            self.milliseconds.setdefault(seconds, []).append(answer["milliseconds"])
            self.cpu.setdefault(seconds, []).append(answer["cpu"])


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2], help="of each engine (default: 1 2)")
    parser.add_argument("--busy", type=int, default=0, help="other processes that keep a core busy (default: 0)")
    parser.add_argument("--rounds", type=int, default=9, help="measurements of each kind (default: 9)")
    parser.add_argument("--seconds", type=int, nargs="+", choices=LENGTHS, default=list(LENGTHS), help="of audio")
    parser.add_argument("--work", type=Path, default=Path("/tmp/wyoming-piwhisper-benchmark"), help="for checkpoints")  # noqa: S108
    args = parser.parse_args()
    checkpoints(args.work)
    for threads in args.threads:
        engines, rates = measure(args, threads)
        report(engines, args, threads)
        ours = engines[0]
        floor.report(rates, {seconds: median(times) for seconds, times in ours.milliseconds.items()})


def checkpoints(work: Path) -> None:
    """Write the checkpoint, and again in the forms of others."""
    from ggml_checkpoint import write_for_whisper_cpp
    from random_checkpoint import END, write_for_faster_whisper, write_random_checkpoint

    folder = write_random_checkpoint(work / "random-tiny")
    if has("faster-whisper"):
        write_for_faster_whisper(folder)
    if has("whisper.cpp"):
        write_for_whisper_cpp(folder, text_tokens=END)


def has(engine: str) -> bool:
    """Whether what an engine needs is installed."""
    return all(find_spec(module) for name, module in NEEDS.items() if engine.startswith(name))


def measure(args: argparse.Namespace, threads: int) -> tuple[list[Engine], floor.Rates]:
    """All engines with so many threads, and what the machine can do meanwhile."""
    order = random.Random(0)  # noqa: S311
    with ExitStack() as stack:
        for _ in range(args.busy):
            stack.callback(subprocess.Popen([sys.executable, "-c", BUSY]).kill)  # noqa: S603
        engines = [start(name, args.work, threads, stack) for name in ENGINES if has(name)]
        for seconds in args.seconds:
            for number in range(args.rounds + 1):
                for engine in order.sample(engines, len(engines)):
                    engine.hear(seconds, counts=number > 0)
                    time.sleep(PAUSE_SECONDS)
        return engines, floor.measured(threads)


def start(name: str, work: Path, threads: int, stack: ExitStack) -> Engine:
    """Start the process of an engine."""
    count = str(threads)
    environment = {**os.environ, "OMP_NUM_THREADS": count, "OPENBLAS_NUM_THREADS": count, "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, Path(__file__).with_name("compared_engines.py"), name, work, count]
    process = subprocess.Popen(  # noqa: S603
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment
    )
    stack.callback(process.kill)
    return Engine(name, process)


def report(engines: Sequence[Engine], args: argparse.Namespace, threads: int) -> None:
    """Print a table; ratios are to the reference of the same run."""
    reference = next((engine for engine in engines if engine.name == REFERENCE), engines[0])
    conditions = f"{args.busy} kept busy, {threads} threads, {args.rounds} rounds"
    print(f"\nCPU {platform.machine()}, {os.cpu_count()} cores, {conditions}\n")
    columns = [f"{seconds} s, {LENGTHS[seconds]} tokens" for seconds in args.seconds]
    print(f"| engine | {' | '.join(columns)} | resident MB |\n|---|{'---|' * len(columns)}---|")
    for engine in engines:
        cells = []
        for seconds in args.seconds:
            times = engine.milliseconds[seconds]
            ratio = median(times) / median(reference.milliseconds[seconds])
            cpu = median(engine.cpu[seconds]) / median(reference.cpu[seconds])
            p95 = quantiles(times, n=20)[-1] if len(times) > 1 else times[0]
            cells.append(f"{median(times):.0f} ms (p95 {p95:.0f}), ratio {ratio:.2f}, CPU {cpu:.2f}")
        print(f"| {engine.name} | {' | '.join(cells)} | {engine.memory:.0f} |")


if __name__ == "__main__":
    main()
