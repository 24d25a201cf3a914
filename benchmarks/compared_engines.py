"""The process of one of the engines that `compare.py` lays side by side.

Arguments: the engine, the folder of the checkpoints, threads. Each line read asks to hear so many seconds and to answer
with so many tokens; each line printed says what that took.
"""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil

Hear = Callable[[int, int], int]
"""Hears so many seconds and says so many tokens; returns how many it said."""


def main() -> None:
    """Answer each line."""
    name, work, threads = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
    hear = opened(name, work, threads)
    for line in sys.stdin:
        seconds, wanted = map(int, line.split())
        began, cpu = time.perf_counter(), time.process_time()
        tokens = hear(seconds, wanted)
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
    if name.startswith("whisper.cpp"):
        return whisper_cpp(work / "random-tiny", threads, short="short" in name)
    return transformers(work / "random-tiny", threads)


def noise(seconds: int) -> np.ndarray:
    """The same audio for all: shape (n,), float32, 16 kHz."""
    return np.random.default_rng(seconds).normal(0, 0.1, seconds * 16_000).astype(np.float32)


def ours(folder: Path, threads: int, engine: str, *, full: bool) -> Hear:
    """One of our engines, from samples to tokens."""
    from wyoming_piwhisper.engine.backends import Backend, load_model
    from wyoming_piwhisper.engine.checkpoint import read_checkpoint
    from wyoming_piwhisper.engine.features import log_mel

    checkpoint = read_checkpoint(folder)
    model = load_model(checkpoint, Backend(engine, "cpu"), threads)

    def hear(seconds: int, wanted: int) -> int:
        pad = 30.0 - seconds if full else min(checkpoint.context.pad_seconds or 0.0, 30.0 - seconds)
        session = model.encode(log_mel(noise(seconds), 80, int(pad * 16_000)))
        logits = session.advance(checkpoint.rules.prompt("en"))
        tokens: list[int] = []
        while len(tokens) < wanted:
            tokens.append(int(logits[-1].argmax()))
            if len(tokens) < wanted:
                logits = session.advance(tokens[-1:])
        return len(tokens)

    return hear


def faster_whisper(folder: Path, threads: int, beam: int) -> Hear:
    """faster-whisper as it is used, but for the length of the answer."""
    from faster_whisper import WhisperModel

    model = WhisperModel(str(folder), device="cpu", compute_type="int8", cpu_threads=threads)

    def hear(seconds: int, wanted: int) -> int:
        # CTranslate2 ends an answer after half of the longest length; two tokens are the prompt.
        segments, _ = model.transcribe(
            noise(seconds),
            language="en",
            beam_size=beam,
            temperature=0,
            without_timestamps=True,
            max_new_tokens=2 * wanted - 2,
            condition_on_previous_text=False,
            suppress_tokens=[],
            no_speech_threshold=None,
            log_prob_threshold=None,
            compression_ratio_threshold=None,
        )
        return sum(len(segment.tokens) for segment in segments)

    return hear


def whisper_cpp(folder: Path, threads: int, *, short: bool) -> Hear:
    """whisper.cpp; its encoder is cut short as ours, or fills up to 30 s, as it does of itself."""
    from pywhispercpp.model import Model

    context = json.loads((folder / "config.json").read_text())["wyoming_piwhisper"]["encoder_context"]
    model = Model(
        f"{folder}-q8_0.bin",
        redirect_whispercpp_logs_to=None,
        n_threads=threads,
        language="en",
        print_progress=False,
        no_timestamps=True,
        single_segment=True,
        temperature_inc=0.0,
        entropy_thold=0.0,
    )

    def hear(seconds: int, wanted: int) -> int:
        states = min(1500, int(50 * (seconds + context["pad_seconds"]))) if short else 0
        # It stops after one token more than it is told.
        segments = model.transcribe(noise(seconds), max_tokens=wanted - 1, audio_ctx=states)
        return sum(len(segment.text.split()) for segment in segments)

    return hear


def transformers(folder: Path, threads: int) -> Hear:
    """`generate` of transformers."""
    import torch
    from transformers import WhisperFeatureExtractor, WhisperForConditionalGeneration

    torch.set_num_threads(threads)
    model = WhisperForConditionalGeneration.from_pretrained(folder).eval()
    extract = WhisperFeatureExtractor()

    @torch.inference_mode()
    def hear(seconds: int, wanted: int) -> int:
        features = extract(noise(seconds), sampling_rate=16_000, return_tensors="pt").input_features
        prompt = torch.tensor([[50_257, 50_362]])
        length = {"max_new_tokens": wanted, "min_new_tokens": wanted}
        said = model.generate(features, decoder_input_ids=prompt, do_sample=False, num_beams=1, **length)
        return min(wanted, int(said.shape[1]))

    return hear


if __name__ == "__main__":
    main()
