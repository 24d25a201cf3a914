"""How soon the end of a command is found, and how often too soon, beside detectors that only count silence.

Clips are fed as they are spoken, in frames of 30 ms, with their own quietest sounds behind them. The end of speech is
told from their loudness, by a rule that shares nothing with the speech gate. A command is cut off early where it was
taken for over and 0.1 s of speech or more followed. Computing takes no time here; `wire.py` measures that.
"""

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
from tqdm import tqdm

from wyoming_piwhisper.domain.engine_plan import EnginePlan
from wyoming_piwhisper.domain.settings import AsrSettings
from wyoming_piwhisper.domain.transcription import RecognitionOptions
from wyoming_piwhisper.engine.loading import load_engine
from wyoming_piwhisper.engine.utterance import RecognizedUtterance

RATE = 16_000
FRAME = 480
SILENCE_SECONDS = 2.5
SETS = {"picovoice_speech_to_intent": 80, "smart_home_tests": 32, "picovoice_wake_words": 48, "speech_commands": 40}
"""Data sets of commands and how many clips of each are heard; 200 in all on the test split."""
CUT_SECONDS = 0.1
FIXED_SECONDS = (0.25, 0.5, 0.7, 1.0)
"""Silences that other detectors wait; 0.7 is Home Assistant's usual one and 0.25 its quickest."""
MODEL = Path(__file__).parent.parent / "wyoming_piwhisper" / "models" / "home-en"


@dataclass
class Clip:
    """A clip and when its end was found, in seconds."""

    dataset: str
    speech_end: float
    found: dict[str, float]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--manifest", type=Path, required=True, help="JSON lines: path, dataset, split")
    parser.add_argument("--split", default="test", help="of the manifest (default: test)")
    parser.add_argument("--datasets", nargs="+", metavar="NAME", help="all clips of these instead of 200 commands")
    parser.add_argument("--model", type=Path, default=MODEL, help="folder of the model (default: the bundled one)")
    args = parser.parse_args()
    engine = load_engine(EnginePlan(args.model, asr=AsrSettings(threads=1)))
    clips = []
    for path, dataset in tqdm(chosen(args), unit="clip"):
        samples, _ = soundfile.read(path, dtype="float32")
        utterance = engine.open(RecognitionOptions("en", "none"))
        assert isinstance(utterance, RecognizedUtterance)  # noqa: S101  (its gate is looked at)
        clips.append(Clip(dataset, speech_end(samples), hear(utterance, with_silence(samples))))
    report(clips, args)


def chosen(args: argparse.Namespace) -> list[tuple[Path, str]]:
    """Files and their data sets."""
    rows = [json.loads(line) for line in args.manifest.read_text(encoding="utf-8").splitlines()]
    counts = dict.fromkeys(args.datasets, len(rows)) if args.datasets else SETS
    found = []
    for dataset, count in counts.items():
        paths = sorted(row["path"] for row in rows if (row["dataset"], row["split"]) == (dataset, args.split))
        found += [(args.manifest.parent / path, dataset) for path in paths[:count]]
    return found


def speech_end(samples: np.ndarray) -> float:
    """Where speech ends: the last 20 ms with most around it within 30 dB of the loudest and 6 dB above the floor."""
    frames = samples[: samples.size // 320 * 320].reshape(-1, 320)
    level = 10 * np.log10(np.square(frames).mean(1) + 1e-10)
    loud, floor = np.quantile(level, (0.95, 0.05))
    is_loud = level > max(loud - 30, floor + 6 if loud - floor > 12 else loud - 6)
    around = np.convolve(is_loud, np.ones(5), "same") >= 3
    heard = np.flatnonzero(is_loud & around)
    return 0.02 * (heard[-1] + 1) if heard.size else 0.0


def with_silence(samples: np.ndarray) -> np.ndarray:
    """The clip and then its own quietest sounds, drawn at random."""
    frames = samples[: samples.size // 160 * 160].reshape(-1, 160)
    quietest = np.argsort(np.square(frames).mean(1))[: max(10, len(frames) // 10)]
    drawn = np.random.default_rng(0).choice(quietest, int(SILENCE_SECONDS * 100))
    whole: np.ndarray = np.concatenate([samples, frames[drawn].reshape(-1)])
    return whole


def hear(utterance: RecognizedUtterance, samples: np.ndarray) -> dict[str, float]:
    """When each detector takes the clip for over."""
    gate = utterance._gate  # noqa: SLF001
    silent: dict[str, Callable[[], bool]] = {
        f"{seconds:g} s of silence": lambda seconds=seconds: bool(gate.regions()) and gate.silence_seconds >= seconds
        for seconds in FIXED_SECONDS
    }
    found: dict[str, float] = {}
    for start in range(0, samples.size, FRAME):
        utterance.feed(samples[start : start + FRAME])
        while utterance.think():
            pass
        now = min(samples.size, start + FRAME) / RATE
        for name, is_over in silent.items():
            if name not in found and is_over():
                found[name] = now
        if "ours" not in found and utterance.endpoint() is not None:
            found["ours"] = now
    return {name: found.get(name, samples.size / RATE) for name in ("ours", *silent)}


def report(clips: Sequence[Clip], args: argparse.Namespace) -> None:
    """Print a table."""
    print(f"{args.model.name}, split {args.split}, {len(clips)} clips; seed 0\n")
    names = list(clips[0].found)
    print(f"| data set | clips | {' | '.join(names)} |\n|---|---|{'---|' * len(names)}")
    for dataset in (*dict.fromkeys(clip.dataset for clip in clips), "all"):
        own = [clip for clip in clips if dataset in (clip.dataset, "all")]
        cells = []
        for name in names:
            waits = np.array([clip.found[name] - clip.speech_end for clip in own])
            early = waits < -CUT_SECONDS
            late = 1000 * np.median(waits[~early]) if not early.all() else np.nan
            cells.append(f"{100 * early.mean():.1f} % early, else after {late:.0f} ms")
        print(f"| {dataset} | {len(own)} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
