"""A made corpus whose speakers differ in what a network can hear: pitch for gender, brightness for accent."""

import json
from pathlib import Path

import numpy as np
import soundfile

from wyoming_piwhisper.domain.audio import SAMPLE_RATE, Samples

TEXTS = ("turn on the kitchen light", "open the garage door", "what time is it")
HERTZ = {"male": 110.0, "female": 220.0}
BRIGHTNESS = {"india": 0.4, "us": 0.9}


def utterance(gender: str, accent: str, seconds: float, seed: int) -> Samples:
    """A buzz in syllables: shape (n,), float32, 16 kHz."""
    generator = np.random.default_rng(seed)
    times = np.arange(int(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    hertz = HERTZ[gender] * generator.uniform(0.95, 1.05)
    buzz = sum(BRIGHTNESS[accent] ** n * np.sin(2 * np.pi * hertz * n * times) for n in range(1, 30))
    syllables = 0.55 + 0.45 * np.sin(2 * np.pi * 4 * times)
    sound = buzz * syllables + generator.normal(0, 0.02, times.size)
    scaled: Samples = (0.3 * sound / np.abs(sound).max()).astype(np.float32)
    return scaled


def write_speakers(folder: Path, speakers: int = 24) -> Path:
    """Write two clips of each speaker and their manifest; every sixth speaker is for dev, every seventh for test."""
    folder.mkdir(exist_ok=True)
    lines = []
    for number in range(speakers):
        gender, accent = list(HERTZ)[number % 2], list(BRIGHTNESS)[number // 2 % 2]
        split = "dev" if number % 6 == 5 else "test" if number % 7 == 6 else "train"
        for clip in range(2):
            name = f"{number}-{clip}.wav"
            soundfile.write(folder / name, utterance(gender, accent, 3.2, 10 * number + clip), SAMPLE_RATE)
            lines.append(
                {
                    "path": name,
                    "text": TEXTS[(number + clip) % len(TEXTS)],
                    "dataset": "buzz" if number % 4 else "hum",
                    "split": split,
                    "speaker": f"s{number}",
                    "gender": gender,
                    "accent_group": accent,
                    "age": 8 + number if number % 3 else None,
                    "age_group": "child",
                }
            )
    (folder / "manifest.jsonl").write_text("\n".join(map(json.dumps, lines)))
    return folder / "manifest.jsonl"
