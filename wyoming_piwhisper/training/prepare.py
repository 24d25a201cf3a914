"""Makes the clips that the bundled model is trained on: synthetic speech, recorded speech and noise."""

import json
import random
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import soundfile
from tqdm import tqdm

from wyoming_piwhisper.domain.audio import SAMPLE_RATE, Samples
from wyoming_piwhisper.domain.errors import AudioFormatError
from wyoming_piwhisper.domain.text import normalise_text
from wyoming_piwhisper.engine.features import FRAMES_PER_SECOND
from wyoming_piwhisper.training.clips import ClipStore, ClipWriter, stored_power
from wyoming_piwhisper.training.manifest import ManifestClip, select_clips
from wyoming_piwhisper.training.phonemes import phonemes
from wyoming_piwhisper.training.processes import pool_of
from wyoming_piwhisper.training.sentences import Grammar, Sentence
from wyoming_piwhisper.training.synthesis import Split, Voice, random_voice, synthesise

DONE: Final = "done"
"""File that marks a folder whose clips are complete."""
JOBS_PER_CALL: Final = 64
LONGEST_SECONDS: Final = 14.0
SENTENCE_SPLITS: Final = 20
"""One sentence of so many is for testing, one for watching progress; neither is ever synthesised for training."""
HELD_OUT_SILENCE_SAMPLES: Final = SAMPLE_RATE * 2 // 5
NOISE_CLIPS: Final = 400
NOISE_SECONDS: Final = 8


@dataclass(frozen=True)
class Recording:
    """A recording that training can use."""

    file: Path
    text: str
    dataset: str


def split_of(text: str) -> Split:
    """The split that a synthesised sentence belongs to, by a checksum of its text."""
    splits: dict[int, Split] = {0: "test", 1: "dev"}
    return splits.get(zlib.crc32(text.encode()) % SENTENCE_SPLITS, "train")


def draw_sentences(grammar: Grammar, commands: int, words: int, general: int) -> list[Sentence]:
    """Draw so many distinct commands for training, words and plain sentences."""
    drawn: dict[str, Sentence] = {}
    while len(drawn) < commands:
        sentence = grammar.command()
        if split_of(sentence.text) == "train":
            drawn[sentence.text] = sentence
    return [*drawn.values(), *(grammar.word() for _ in range(words)), *(grammar.general() for _ in range(general))]


def draw_held_out(grammar: Grammar, commands: int, split: Split) -> list[Sentence]:
    """Draw so many of a split's distinct commands of two words or more; training hears single words as words."""
    drawn: dict[str, Sentence] = {}
    while len(drawn) < commands:
        sentence = grammar.command()
        if split_of(sentence.text) == split and " " in sentence.text:
            drawn[sentence.text] = sentence
    return list(drawn.values())


def write_held_out(folder: Path, commands: int, seed: int) -> Path:
    """Speak commands of the test split with its voices into wav files; returns their manifest."""
    folder.mkdir(parents=True, exist_ok=True)
    source = random.Random(seed)
    jobs = [(s.text, random_voice(source, "test")) for s in draw_held_out(Grammar(seed), commands, "test")]
    manifest = folder / "manifest.jsonl"
    with manifest.open("w", encoding="utf-8") as lines:
        for number, ((text, voice), samples) in enumerate(zip(tqdm(jobs, "speaking"), synthesise(jobs), strict=True)):
            name = f"{number:04}.wav"
            soundfile.write(folder / name, np.pad(samples, HELD_OUT_SILENCE_SAMPLES), SAMPLE_RATE)
            row = {"path": name, "text": text, "dataset": "synthetic_commands", "split": "test", "speaker": voice.label}
            lines.write(json.dumps(row) + "\n")
    return manifest


def recordings(manifest: Path, split: str) -> list[Recording]:
    """The manifest's recordings of a split whose text can be trusted, noise among them (empty text).

    Raises:
        SettingsError: the manifest cannot be read.
    """
    return [
        Recording(clip.path, normalise_text(clip.reference or ""), clip.dataset)
        for clip in select_clips(manifest, split=split).clips
        if not _ambiguous(clip)
    ]


def write_synthetic(folder: Path, sentences: Sequence[Sentence], seed: int, split: Split, processes: int) -> None:
    """Synthesise each sentence in a random voice of the split into a clip store."""
    source = random.Random(seed)
    jobs = [(sentence.text, random_voice(source, split)) for sentence in sentences]
    kinds = [sentence.kind for sentence in sentences]
    spoken = phonemes([text for text, _ in jobs])
    with ClipWriter(folder) as writer, pool_of(processes) as pool:
        chunks = [jobs[start : start + JOBS_PER_CALL] for start in range(0, len(jobs), JOBS_PER_CALL)]
        powers = (power for chunk in pool.map(_synthesise_power, chunks) for power in chunk)
        for (text, voice), kind, target, power in tqdm(
            zip(jobs, kinds, spoken, powers, strict=True), "synthesising", len(jobs)
        ):
            writer.add(power, text, target, kind, voice.label)


def write_recordings(folder: Path, rows: Sequence[Recording], processes: int) -> None:
    """Put recordings of at most `LONGEST_SECONDS` into a clip store; one or two words count as `real_word`."""
    spoken = phonemes([row.text or "silence" for row in rows])
    with ClipWriter(folder) as writer, pool_of(processes) as pool:
        powers = pool.map(_recorded_power, rows, chunksize=64)
        for row, target, power in tqdm(zip(rows, spoken, powers, strict=True), "recordings", len(rows)):
            if len(power) > LONGEST_SECONDS * FRAMES_PER_SECOND:
                continue
            if row.text:
                kind = "real_word" if len(row.text.split()) <= 2 else "real"
                writer.add(power, row.text, target, kind, row.dataset)
            else:
                writer.add(power, "", "", "noise", row.dataset)


def write_noise(folder: Path, seed: int) -> None:
    """Put made noise into a clip store: white to brown, hum, fans, clicks, in slow motion of level."""
    generator = np.random.default_rng(seed)
    with ClipWriter(folder) as writer:
        for _ in tqdm(range(NOISE_CLIPS), "noise"):
            writer.add(stored_power(_noise(generator)), "", "", "noise", "made")


def read_recording(path: Path) -> Samples:
    """The samples of a recording: shape (n,), float32 in [-1, 1].

    Raises:
        AudioFormatError: it is not 16 kHz mono.
    """
    samples, rate = soundfile.read(path, dtype="float32")
    if rate != SAMPLE_RATE or samples.ndim != 1:
        raise AudioFormatError(f"{path}: {rate} Hz, {samples.ndim} dimensions; training reads 16 kHz mono")
    found: Samples = samples
    return found


def made_noises(folder: Path, seed: int) -> list[npt.NDArray[np.float16]]:
    """Made noises, each log10 Mel power (frames, mel bins), written to `folder` unless that was done before."""
    if not (folder / DONE).exists():
        write_noise(folder, seed)
        (folder / DONE).touch()
    store = ClipStore(folder)
    return [store.power(clip) for clip in store.clips]


def _ambiguous(clip: ManifestClip) -> bool:
    """Prompts with figures in them, which people read in several ways."""
    return clip.dataset == "alphanumeric" and any(character.isdigit() for character in clip.reference or "")


def _synthesise_power(jobs: Sequence[tuple[str, Voice]]) -> list[npt.NDArray[np.float16]]:
    return [stored_power(samples) for samples in synthesise(jobs)]


def _recorded_power(row: Recording) -> npt.NDArray[np.float16]:
    return stored_power(read_recording(row.file))


def _noise(generator: np.random.Generator) -> Samples:
    count = NOISE_SECONDS * SAMPLE_RATE
    hertz = np.fft.rfftfreq(count, 1 / SAMPLE_RATE)
    colour = np.maximum(hertz, 20.0) ** -generator.uniform(0, 1.2)
    spectrum = colour * generator.normal(size=hertz.size) * np.exp(1j * generator.uniform(0, 2 * np.pi, hertz.size))
    noise = np.fft.irfft(spectrum, count)
    noise *= 0.1 / np.sqrt(np.mean(noise**2))
    seconds = np.arange(count) / SAMPLE_RATE
    kind = generator.integers(4)
    if kind == 1:
        base = generator.choice([50.0, 60.0, 100.0, 120.0]) * generator.uniform(0.98, 1.02)
        noise += sum(generator.uniform(0, 0.1) * np.sin(2 * np.pi * base * n * seconds) for n in range(1, 9))
    elif kind == 2:
        clicks = generator.uniform(size=count) < generator.uniform(1, 12) / SAMPLE_RATE
        decay = np.exp(-np.arange(800) / generator.uniform(20, 300)) * generator.normal(size=800)
        noise = 0.2 * noise + np.convolve(clicks * generator.uniform(0.2, 1, count), decay)[:count]
    noise *= 1 + generator.uniform(0, 0.9) * np.sin(2 * np.pi * generator.uniform(0.05, 2) * seconds)
    scaled: Samples = (noise * 0.3 / np.abs(noise).max()).astype(np.float32)
    return scaled
