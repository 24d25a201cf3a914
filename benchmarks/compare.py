"""Our engines and others on the same audio, checkpoint and number of tokens, one after the other in one run.

Each engine lives in a process of its own; they take turns in random order. The checkpoint has the sizes of
whisper-tiny.en and random weights, which says nothing of what is heard.
"""

import argparse
import json
import os
import platform
import random
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

LENGTHS = {3: 12, 10: 30, 30: 90}
"""Seconds of audio to tokens of the answer."""
PAUSE_SECONDS = 0.04
"""Between two engines, so that the threads of the last come to rest."""
REFERENCE = "faster-whisper int8 beam 1"
ENGINES = (
    "ours onnx",
    "ours torch",
    "ours onnx, 30 s context",
    REFERENCE,
    "faster-whisper int8 beam 5",
    "transformers",
)
NEEDS = {"faster-whisper": "faster_whisper", "transformers": "transformers"}
BUSY = "import os\nwhile os.getppid() > 1: pass"

Hear = Callable[[int], int]
"""Hears so many seconds; returns the tokens of the answer."""


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
        print(seconds, file=self.process.stdin, flush=True)
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
    parser.add_argument("--engine", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.engine:
        serve(args.engine, args.work, args.threads[0])
        return
    checkpoints(args.work)
    for threads in args.threads:
        engines = measure(args, threads)
        report(engines, args, threads)


def checkpoints(work: Path) -> None:
    """Write the checkpoint, and again in the form of faster-whisper."""
    from random_checkpoint import write_random_checkpoint

    folder = write_random_checkpoint(work / "random-tiny")
    converted = work / "random-tiny-int8"
    if has("faster-whisper") and not (converted / "model.bin").exists():
        from ctranslate2.converters import TransformersConverter

        files = ["tokenizer.json", "preprocessor_config.json"]
        TransformersConverter(str(folder), copy_files=files).convert(str(converted), quantization="int8", force=True)


def has(engine: str) -> bool:
    """Whether what an engine needs is installed."""
    return all(find_spec(module) for name, module in NEEDS.items() if engine.startswith(name))


def measure(args: argparse.Namespace, threads: int) -> list[Engine]:
    """All engines with so many threads."""
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
        return engines


def start(name: str, work: Path, threads: int, stack: ExitStack) -> Engine:
    """Start the process of an engine."""
    count = str(threads)
    environment = {**os.environ, "OMP_NUM_THREADS": count, "OPENBLAS_NUM_THREADS": count, "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, __file__, "--engine", name, "--work", str(work), "--threads", count]
    process = subprocess.Popen(  # noqa: S603
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment
    )
    stack.callback(process.kill)
    return Engine(name, process)


def serve(name: str, work: Path, threads: int) -> None:
    """Be the process of an engine: read seconds, print what it took."""
    import psutil

    hear = opened(name, work, threads)
    for line in sys.stdin:
        began, cpu = time.perf_counter(), time.process_time()
        tokens = hear(int(line))
        figures = {
            "milliseconds": 1000 * (time.perf_counter() - began),
            "cpu": 1000 * (time.process_time() - cpu),
            "tokens": tokens,
            "megabytes": psutil.Process().memory_info().rss / 1e6,
        }
        print(json.dumps(figures), flush=True)


def opened(name: str, work: Path, threads: int) -> Hear:
    """Load an engine."""
    if name.startswith("ours"):
        return ours(work / "random-tiny", threads, name.split()[1].rstrip(","), full="30 s" in name)
    if name.startswith("faster-whisper"):
        return faster_whisper(work / "random-tiny-int8", threads, int(name.rsplit(maxsplit=1)[-1]))
    return transformers(work / "random-tiny", threads)


def noise(seconds: int) -> "np.ndarray":  # noqa: F821
    """The same audio for all: shape (n,), float32, 16 kHz."""
    import numpy as np

    return np.random.default_rng(seconds).normal(0, 0.1, seconds * 16_000).astype(np.float32)


def ours(folder: Path, threads: int, engine: str, *, full: bool) -> Hear:
    """One of our engines, from samples to tokens."""
    from wyoming_piwhisper.engine.backends import Backend, load_model
    from wyoming_piwhisper.engine.checkpoint import read_checkpoint
    from wyoming_piwhisper.engine.features import log_mel

    checkpoint = read_checkpoint(folder)
    model = load_model(checkpoint, Backend(engine, "cpu"), threads)

    def hear(seconds: int) -> int:
        pad = 30.0 - seconds if full else min(checkpoint.context.pad_seconds or 0.0, 30.0 - seconds)
        session = model.encode(log_mel(noise(seconds), 80, int(pad * 16_000)))
        logits = session.advance(checkpoint.rules.prompt("en"))
        tokens: list[int] = []
        while len(tokens) < LENGTHS[seconds]:
            tokens.append(int(logits[-1].argmax()))
            if len(tokens) < LENGTHS[seconds]:
                logits = session.advance(tokens[-1:])
        return len(tokens)

    return hear


def faster_whisper(folder: Path, threads: int, beam: int) -> Hear:
    """faster-whisper as it is used, but for the length of the answer."""
    from faster_whisper import WhisperModel

    model = WhisperModel(str(folder), device="cpu", compute_type="int8", cpu_threads=threads)

    def hear(seconds: int) -> int:
        # CTranslate2 ends an answer after half of the longest length; two tokens are the prompt.
        segments, _ = model.transcribe(
            noise(seconds),
            language="en",
            beam_size=beam,
            temperature=0,
            without_timestamps=True,
            max_new_tokens=2 * LENGTHS[seconds] - 2,
            condition_on_previous_text=False,
            suppress_tokens=[],
            no_speech_threshold=None,
            log_prob_threshold=None,
            compression_ratio_threshold=None,
        )
        return sum(len(segment.tokens) for segment in segments)

    return hear


def transformers(folder: Path, threads: int) -> Hear:
    """`generate` of transformers."""
    import torch
    from transformers import WhisperFeatureExtractor, WhisperForConditionalGeneration

    torch.set_num_threads(threads)
    model = WhisperForConditionalGeneration.from_pretrained(folder).eval()
    extract = WhisperFeatureExtractor()

    @torch.inference_mode()
    def hear(seconds: int) -> int:
        features = extract(noise(seconds), sampling_rate=16_000, return_tensors="pt").input_features
        count = LENGTHS[seconds]
        prompt = torch.tensor([[50_257, 50_362]])
        said = model.generate(
            features, decoder_input_ids=prompt, max_new_tokens=count, min_new_tokens=count, do_sample=False, num_beams=1
        )
        return min(count, int(said.shape[1]))

    return hear


def report(engines: Sequence[Engine], args: argparse.Namespace, threads: int) -> None:
    """Print a table; ratios are to the reference of the same run."""
    from statistics import median, quantiles

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
