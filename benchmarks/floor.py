"""The physical floor: the least time in which this machine can hear and answer, whatever the program.

    floor = int8 operations / int8 rate + fp32 operations / fp32 rate + bytes read / bandwidth

Rates are in operations and bytes a second, measured here with the same number of threads: products by ONNX Runtime, the
bandwidth by reading an array larger than all caches. What is counted: the encoder and the keys and values that the
decoder attends to, in eight bits; the encoder's convolutions and attention, in fp32; each weight of the decoder and its
head, read once for each token in eight bits. Left out as small: log-Mel, normalisation, scales of the weights, the
decoder's own arithmetic and attention. A cache that holds all weights of the decoder can beat the bandwidth.
"""

import argparse
import platform
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from wyoming_piwhisper.engine.features import FRAMES_PER_SECOND
from wyoming_piwhisper.engine.onnx_graph import Graph, open_session
from wyoming_piwhisper.engine.whisper_config import WhisperConfig

LENGTHS = {3: 12, 10: 30, 30: 90}
"""Seconds of audio to tokens of the answer."""
GOAL = "at most 2 with 1 thread at 3 s"
TINY_EN = WhisperConfig(51864, 384, 4, 4, 6, 6, 1536, 1536, 80, 1500, 448)
PAD_SECONDS = 0.64
"""Of silence behind the audio, as in the random checkpoint."""
KERNEL = 3
"""Frames that each of the encoder's convolutions sees at once."""
ROWS, SIDE = 1024, 2048
"""The products measured are (ROWS, SIDE) by (SIDE, SIDE)."""
LEAST_BYTES = 1 << 28
CACHES = "/sys/devices/system/cpu/cpu0/cache"
REPEATS = 9


@dataclass(frozen=True)
class Work:
    """What one answer takes; a product and its sum are two operations."""

    int8_operations: float
    fp32_operations: float
    read_bytes: float


@dataclass(frozen=True)
class Rates:
    """What this machine does in a second."""

    int8_operations: float
    fp32_operations: float
    read_bytes: float

    def milliseconds(self, work: Work) -> float:
        """The floor."""
        seconds = work.int8_operations / self.int8_operations + work.fp32_operations / self.fp32_operations
        return 1000 * (seconds + work.read_bytes / self.read_bytes)

    def __str__(self) -> str:
        """As reports name them."""
        products = f"products of {ROWS} x {SIDE} by {SIDE} x {SIDE}"
        int8, fp32 = self.int8_operations / 1e9, self.fp32_operations / 1e9
        return (
            f"int8 {int8:.0f} GOP/s (DynamicQuantizeMatMul) and fp32 {fp32:.0f} GFLOP/s (MatMul), {products}; "
            f"memory read at {self.read_bytes / 1e9:.1f} GB/s"
        )


def work_of(config: WhisperConfig, seconds: float, tokens: int) -> Work:
    """The work of hearing `seconds` seconds, padding included, and answering with `tokens` tokens."""
    frames = round(seconds * FRAMES_PER_SECOND)
    states = -(-frames // 2)
    width = config.d_model
    encoder_weights = config.encoder_layers * (4 * width**2 + 2 * width * config.encoder_ffn_dim)
    cross_weights = config.decoder_layers * 2 * width**2
    first = frames * config.num_mel_bins * width * KERNEL
    second = states * width * width * KERNEL
    attention = config.encoder_layers * 2 * states**2 * width
    decoder_weights = config.decoder_layers * (6 * width**2 + 2 * width * config.decoder_ffn_dim)
    head_weights = config.vocab_size * width
    return Work(
        int8_operations=2 * states * (encoder_weights + cross_weights),
        fp32_operations=2 * (first + second + attention),
        read_bytes=tokens * (decoder_weights + head_weights),
    )


def measured(threads: int) -> Rates:
    """The best rates of some repeats, each with so many threads."""
    operations = 2 * ROWS * SIDE * SIDE
    return Rates(
        operations / _product_seconds(threads, int8=True),
        operations / _product_seconds(threads, int8=False),
        _read_rate(threads),
    )


def _product_seconds(threads: int, *, int8: bool) -> float:
    chance = np.random.default_rng(0)
    weight = chance.normal(size=(SIDE, SIDE)).astype(np.float32)
    graph = Graph()
    states = graph.input("states", (ROWS, SIDE))
    if int8:
        product = graph.many_times(states, weight, np.zeros(SIDE, np.float32))
    else:
        product = graph.node("MatMul", [states, graph.constant(weight)])
    graph.output(product)
    session = open_session(graph.model(), threads)
    feed = {"states": chance.normal(size=(ROWS, SIDE)).astype(np.float32)}
    return _best_seconds(lambda: session.run(None, feed))


def _read_rate(threads: int) -> float:
    """Bytes a second, each thread over its part of an array of at least twice the largest cache."""
    caches = [int(path.read_text().rstrip("K\n")) << 10 for path in Path(CACHES).glob("index*/size")]
    array = np.ones(max(LEAST_BYTES, 2 * max(caches, default=0)) // 8, np.uint64)
    parts = np.array_split(array, threads)
    with ThreadPoolExecutor(threads) as pool:
        seconds = _best_seconds(lambda: list(pool.map(np.bitwise_or.reduce, parts)))
    return array.nbytes / seconds


def _best_seconds(work: Callable[[], object]) -> float:
    best = float("inf")
    for _ in range(REPEATS):
        began = time.perf_counter()
        work()
        best = min(best, time.perf_counter() - began)
    return best


def report(rates: Rates, milliseconds: Mapping[int, float]) -> None:
    """Print the floor for each length of audio, and how far above it an engine is that took `milliseconds`."""
    print(f"\n{rates}\n")
    print(f"| | {' | '.join(f'{seconds} s, {tokens} tokens' for seconds, tokens in LENGTHS.items())} | goal |")
    print(f"|---|{'---|' * len(LENGTHS)}---|")
    floors = {
        seconds: rates.milliseconds(work_of(TINY_EN, min(seconds + PAD_SECONDS, 30.0), tokens))
        for seconds, tokens in LENGTHS.items()
    }
    print(f"| floor | {' | '.join(f'{floor:.1f} ms' for floor in floors.values())} | |")
    if milliseconds:
        times = [
            f"{milliseconds[seconds] / floor:.1f}" if seconds in milliseconds else "-"
            for seconds, floor in floors.items()
        ]
        print(f"| ours onnx, times the floor | {' | '.join(times)} | {GOAL} |")


def main() -> None:
    """Measure the machine and print its floors."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2], help="(default: 1 2)")
    args = parser.parse_args()
    for threads in args.threads:
        print(f"\nCPU {platform.machine()}, {threads} threads, sizes of whisper-tiny.en, pad of {PAD_SECONDS} s")
        report(measured(threads), {})


if __name__ == "__main__":
    main()
