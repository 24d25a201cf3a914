"""What growing audio costs the naive way, and what it costs ours.

Somebody speaks and pauses every 5 s; all that was said so far is heard again at each pause, and the table shows the
milliseconds of all these hearings together. The naive way fills the encoder up to 30 s and for each token runs the
whole decoder over all tokens so far and all states of the encoder. Beside it the same with caches, which shows what
they alone bring; and ours, with caches, a short context and eight bits, once without drafts and once with the words
heard at the pause before as a draft that is right. The work of ours in pauses is counted, though nobody waits for it.
All say 3 tokens a second, with random weights of the sizes of whisper-tiny.en, and take turns.
"""

import argparse
import os
import platform
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np
import torch
from random_checkpoint import write_random_checkpoint

from wyoming_piwhisper.domain.audio import SAMPLE_RATE, Samples
from wyoming_piwhisper.engine.checkpoint import WINDOW_SECONDS, Checkpoint, read_checkpoint
from wyoming_piwhisper.engine.decoding import SpeechModel
from wyoming_piwhisper.engine.features import Spectrogram, log_mel
from wyoming_piwhisper.engine.whisper_model import Whisper
from wyoming_piwhisper.engine.whisper_onnx import OnnxWhisper
from wyoming_piwhisper.engine.whisper_torch import TorchWhisper, load_whisper

LENGTHS = (2, 5, 10, 20, 30)
"""Seconds of audio."""
PAUSE_EVERY = 5
TOKENS_A_SECOND = 3
WORK = Path(tempfile.gettempdir()) / "wyoming-piwhisper-benchmark"
"""For the checkpoint."""
NAIVE, CACHED = "naive: torch, no caches", "torch with caches"
OURS, OURS_WITH_DRAFTS = "ours, no drafts", "ours, right drafts"

Hear = Callable[[Samples, int, int], int]
"""Hears samples and says so many tokens, of which the first so many were said before; returns how many it said."""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=1, help="of each way (default: 1)")
    parser.add_argument("--rounds", type=int, default=3, help="measurements of each kind (default: 3)")
    parser.add_argument(
        "--seconds", type=int, nargs="+", default=list(LENGTHS), help="of audio (default: 2 5 10 20 30)"
    )
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    ways = opened(read_checkpoint(write_random_checkpoint(WORK / "random-tiny")), args.threads)
    print(f"CPU {platform.machine()}, {os.cpu_count()} cores, {args.threads} threads, {args.rounds} rounds\n")
    print(f"| audio | hearings | {' | '.join(ways)} | naive / ours without |\n|---|---|{'---|' * len(ways)}---|")
    for seconds in args.seconds:
        print(row(seconds, measure(ways, seconds, args.rounds)), flush=True)


def opened(checkpoint: Checkpoint, threads: int) -> dict[str, Hear]:
    """All ways over the same weights."""
    whisper = load_whisper(checkpoint).eval()
    onnx = OnnxWhisper.load(checkpoint, threads)
    reference = TorchWhisper(whisper, 0)
    prompt = checkpoint.rules.prompt("en")
    pad = int((checkpoint.context.pad_seconds or 0.0) * SAMPLE_RATE)

    def filled(samples: Samples) -> Spectrogram:
        return log_mel(samples, checkpoint.mel_bins, int(WINDOW_SECONDS * SAMPLE_RATE) - samples.size)

    def short(samples: Samples) -> Spectrogram:
        room = int(WINDOW_SECONDS * SAMPLE_RATE) - samples.size
        return log_mel(samples, checkpoint.mel_bins, min(pad, room))

    return {
        NAIVE: lambda samples, wanted, _: uncached(whisper, filled(samples), prompt, wanted),
        CACHED: lambda samples, wanted, _: cached(reference, filled(samples), prompt, wanted),
        OURS: lambda samples, wanted, _: cached(onnx, short(samples), prompt, wanted),
        OURS_WITH_DRAFTS: lambda samples, wanted, before: cached(onnx, short(samples), prompt, wanted, before),
    }


@torch.inference_mode()
def uncached(whisper: Whisper, spectrogram: Spectrogram, prompt: list[int], wanted: int) -> int:
    """Encode once; then everything anew for each token."""
    states = whisper.encode(torch.from_numpy(spectrogram)[None])
    tokens = list(prompt)
    while len(tokens) < len(prompt) + wanted:
        logits = whisper.decode(torch.tensor([tokens]), whisper.cross_keys_values(states))
        tokens.append(int(logits[0, -1].argmax()))
    return len(tokens) - len(prompt)


def cached(model: SpeechModel, spectrogram: Spectrogram, prompt: list[int], wanted: int, drafted: int = 0) -> int:
    """Encode once; then a draft of so many tokens at once, and the others one at a time."""
    session = model.encode(spectrogram)
    tokens = [0] * drafted
    tokens.append(int(session.advance([*prompt, *tokens])[-1].argmax()))
    while len(tokens) < wanted:
        tokens.append(int(session.advance(tokens[-1:])[-1].argmax()))
    return len(tokens)


def measure(ways: dict[str, Hear], seconds: int, rounds: int) -> dict[str, float]:
    """Milliseconds of each way until all is heard: medians of some rounds after one for warming up."""
    samples = np.random.default_rng(0).normal(0, 0.1, seconds * SAMPLE_RATE).astype(np.float32)
    found: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds + 1):
        for name, hear in ways.items():
            began = time.perf_counter()
            said = 0
            for pause in pauses(seconds):
                said = hear(samples[: pause * SAMPLE_RATE], TOKENS_A_SECOND * pause, said)
            if number:
                found[name].append(1000 * (time.perf_counter() - began))
    return {name: median(times) for name, times in found.items()}


def pauses(seconds: int) -> list[int]:
    """The seconds at which all so far is heard."""
    return [*range(PAUSE_EVERY, seconds, PAUSE_EVERY), seconds]


def row(seconds: int, milliseconds: dict[str, float]) -> str:
    """A line of the table."""
    cells = " | ".join(f"{time:.0f} ms" for time in milliseconds.values())
    ratio = milliseconds[NAIVE] / milliseconds[OURS]
    return f"| {seconds} s | {len(pauses(seconds))} | {cells} | {ratio:.0f} |"


if __name__ == "__main__":
    main()
