"""How well an engine hears: clips in, one report per data set and one for all together out."""

import math
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from wyoming_piwhisper.domain.audio import Samples, seconds_of
from wyoming_piwhisper.domain.profiles import BASE
from wyoming_piwhisper.domain.scoring import CorpusScore, Rate, bootstrap_rate, score_corpus, score_utterance
from wyoming_piwhisper.domain.text import normalise_text
from wyoming_piwhisper.domain.traits import Trait
from wyoming_piwhisper.domain.transcription import RecognitionOptions
from wyoming_piwhisper.engine.interface import Engine

OVERALL: Final = "all"
"""Name of the report on all data sets together."""


@dataclass(frozen=True)
class Clip:
    """Audio and what is said in it."""

    name: str
    samples: Samples
    """Shape (n,), float32 in [-1, 1], 16 kHz mono."""
    reference: str
    """What is said; empty for noise in which nobody speaks."""
    dataset: str
    speaker: str | None
    traits: Mapping[Trait, str] = field(default_factory=dict)
    """What is known of the speaker."""


@dataclass(frozen=True)
class ClipResult:
    """What an engine heard in a clip."""

    name: str
    reference: str
    hypothesis: str
    dataset: str
    speaker: str | None
    audio_seconds: float
    wall_seconds: float
    traits: dict[Trait, str] = field(default_factory=dict)
    """What is known of the speaker."""
    profile: str = BASE
    """Key of the profiles in the model that answered."""


@dataclass(frozen=True)
class SetReport:
    """Figures of one data set."""

    dataset: str
    score: CorpusScore
    """Over the clips in which somebody speaks."""
    real_time_factor: Rate
    """Wall-clock seconds per second of audio, over all clips."""
    noise_clips: int
    false_alarm_rate: Rate
    """Share of the noise clips in which words were heard, in [0, 1]; NaN without noise clips."""
    audio_seconds: float


def recognise(engine: Engine, clips: Iterable[Clip], options: RecognitionOptions) -> Iterator[ClipResult]:
    """Hear one clip after the other, each fed whole; the time that reading a clip takes does not count.

    Raises:
        InferenceError: the model failed on a clip.
    """
    for clip in clips:
        yield hear(engine, clip, options)


def hear(engine: Engine, clip: Clip, options: RecognitionOptions) -> ClipResult:
    """Hear one clip, fed whole.

    Raises:
        InferenceError: the model failed on it.
    """
    began = time.perf_counter()
    utterance = engine.open(options)
    utterance.feed(clip.samples)
    transcription = utterance.finish()
    return ClipResult(
        name=clip.name,
        reference=clip.reference,
        hypothesis=transcription.text,
        dataset=clip.dataset,
        speaker=clip.speaker,
        audio_seconds=seconds_of(len(clip.samples)),
        wall_seconds=time.perf_counter() - began,
        traits=dict(clip.traits),
        profile=transcription.profile,
    )


def summarise(results: Sequence[ClipResult], *, seed: int = 0) -> list[SetReport]:
    """Return a report per data set in alphabetical order, then, where there are several, one named `OVERALL`."""
    datasets = sorted({result.dataset for result in results})
    reports = [_report(name, [r for r in results if r.dataset == name], seed) for name in datasets]
    if len(datasets) > 1:
        reports.append(_report(OVERALL, results, seed))
    return reports


def _report(dataset: str, results: Sequence[ClipResult], seed: int) -> SetReport:
    spoken = [result for result in results if normalise_text(result.reference)]
    noise = [result for result in results if not normalise_text(result.reference)]
    return SetReport(
        dataset=dataset,
        score=score_corpus([score_utterance(r.reference, r.hypothesis, r.speaker) for r in spoken], seed=seed),
        real_time_factor=bootstrap_rate(
            [r.wall_seconds for r in results],
            [r.audio_seconds for r in results],
            [r.speaker for r in results],
            seed=seed,
        ),
        noise_clips=len(noise),
        false_alarm_rate=bootstrap_rate(
            [bool(normalise_text(r.hypothesis)) for r in noise], [1] * len(noise), [r.speaker for r in noise], seed=seed
        ),
        audio_seconds=math.fsum(r.audio_seconds for r in results),
    )
