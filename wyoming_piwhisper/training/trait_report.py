"""Calibrates trait classifiers and says how good they are, at 1, 2 and 3 s of speech."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch

from wyoming_piwhisper.domain.classification import (
    balanced_accuracy,
    bootstrap_by_speaker,
    expected_calibration_error,
    macro_f1,
    within_one,
)
from wyoming_piwhisper.domain.traits import AGE_STRATA, Trait
from wyoming_piwhisper.engine.features import FRAMES_PER_SECOND
from wyoming_piwhisper.engine.trait_models import Calibration
from wyoming_piwhisper.training.augment import compress
from wyoming_piwhisper.training.trait_clips import TraitClip, TraitClips
from wyoming_piwhisper.training.trait_labels import labels_of
from wyoming_piwhisper.training.trait_net import TraitNet

SECONDS: Final = (1.0, 2.0, 3.0)
TEMPERATURES: Final = np.geomspace(0.3, 12, 120)
TARGET_ACCURACY: Final[dict[Trait, float]] = {"gender": 0.95, "accent": 0.8, "age": 0.6}
"""What calibration clips must reach above the threshold; a wrong profile costs more than none."""
THRESHOLDS: Final = np.arange(0.3, 0.96, 0.025)
LEAST_ANSWERED: Final = 0.1
STRATUM_YEARS: Final = np.array([8.0, 16.0, 25.0, 35.0, 45.0, 55.0, 65.0, 75.0, 85.0])
"""Middle of each stratum of age."""
BOOTSTRAP_SAMPLES: Final = 500
EVERYBODY: Final = "everybody"
NO_CHILDREN: Final = "no children"

_Floats = npt.NDArray[np.float64]
_Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Heard:
    """What a classifier made of clips of one length."""

    clips: Sequence[TraitClip]
    truth: _Ints
    logits: _Floats
    """(clips, labels)."""


@dataclass(frozen=True)
class Figure:
    """A value and its 95 % bootstrap interval over speakers."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class TraitFigures:
    """One trait at one length of speech."""

    trait: Trait
    whom: str
    """`everybody` or `no children`."""
    seconds: float
    clips: int
    speakers: int
    speakers_by_label: dict[str, int]
    balanced_accuracy: Figure
    macro_f1: Figure
    within_one_stratum: Figure | None
    """Ages only."""
    mean_absolute_error_years: Figure | None
    """Ages only; of the expected age, against years where they are known and the middle of the stratum elsewhere."""
    calibration_error: Figure
    """ECE, ten bins."""
    answered: Figure
    """Share of clips above the threshold."""
    accuracy_when_answered: Figure

    def as_json(self) -> dict[str, Any]:
        """All of it, ready to be written."""
        return asdict(self)


@torch.inference_mode()
def hear(net: TraitNet, trait: Trait, clips: TraitClips, chosen: Sequence[TraitClip], seconds: float) -> Heard:
    """Classify the first `seconds` of the clips that have so much speech."""
    frames = round(seconds * FRAMES_PER_SECOND)
    labels = labels_of(trait)
    long_enough = [clip for clip in chosen if clip.clip.frames >= frames]
    logits = np.zeros((len(long_enough), len(labels)))
    for index, clip in enumerate(long_enough):
        power = torch.from_numpy(clips.power(clip)[:frames].astype(np.float32)).T[None]
        logits[index] = net(compress(torch.pow(10.0, power)))[0].numpy()
    truth = np.array([labels.index(clip.traits[trait]) for clip in long_enough], dtype=np.int64)
    return Heard(long_enough, truth, logits)


def calibrate(trait: Trait, heard: Sequence[Heard]) -> Calibration:
    """Fit a temperature for each of `SECONDS` and one threshold."""
    temperatures = [_temperature(one) for one in heard]
    confidences, right = [], []
    for one, temperature in zip(heard, temperatures, strict=True):
        probabilities = softmax(one.logits / temperature)
        confidences.append(probabilities.max(axis=1))
        right.append(probabilities.argmax(axis=1) == one.truth)
    threshold = _threshold(np.concatenate(confidences), np.concatenate(right), TARGET_ACCURACY[trait])
    return Calibration(labels_of(trait), SECONDS, tuple(temperatures), threshold)


def figures(
    trait: Trait, seconds: float, heard: Heard, calibration: Calibration, seed: int, whom: str = EVERYBODY
) -> TraitFigures:
    """Say how good the classifier is on the clips `heard`, whose speakers are `whom`."""
    temperature = float(np.interp(seconds, calibration.seconds, calibration.temperatures))
    probabilities = softmax(heard.logits / temperature)
    confidence, found = probabilities.max(axis=1), probabilities.argmax(axis=1)
    answered = confidence >= calibration.threshold
    speakers = [clip.speaker for clip in heard.clips]
    draws = bootstrap_by_speaker(speakers, BOOTSTRAP_SAMPLES, seed) if speakers else []

    def figure(measure: Callable[[_Ints], float]) -> Figure:
        drawn = np.array([measure(draw) for draw in draws])
        low, high = np.nanpercentile(drawn, [2.5, 97.5]) if np.isfinite(drawn).any() else (np.nan, np.nan)
        return Figure(measure(np.arange(len(speakers))), float(low), float(high))

    is_age = trait == "age"
    errors = _errors_in_years(heard, probabilities) if is_age else np.zeros(0)
    by_label = {
        label: len({clip.speaker for clip, truth in zip(heard.clips, heard.truth, strict=True) if truth == number})
        for number, label in enumerate(calibration.labels)
    }
    return TraitFigures(
        trait=trait,
        whom=whom,
        seconds=seconds,
        clips=len(speakers),
        speakers=len(set(speakers)),
        speakers_by_label={label: count for label, count in by_label.items() if count},
        balanced_accuracy=figure(lambda drawn: balanced_accuracy(heard.truth[drawn], found[drawn])),
        macro_f1=figure(lambda drawn: macro_f1(heard.truth[drawn], found[drawn])),
        within_one_stratum=figure(lambda drawn: within_one(heard.truth[drawn], found[drawn])) if is_age else None,
        mean_absolute_error_years=figure(lambda drawn: float(np.mean(errors[drawn]))) if is_age else None,
        calibration_error=figure(
            lambda drawn: expected_calibration_error(confidence[drawn], found[drawn] == heard.truth[drawn])
        ),
        answered=figure(lambda drawn: float(np.mean(answered[drawn]))),
        accuracy_when_answered=figure(lambda drawn: _mean((found == heard.truth)[drawn][answered[drawn]])),
    )


def softmax(logits: _Floats) -> _Floats:
    """Probabilities (clips, labels)."""
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    probabilities: _Floats = shifted / shifted.sum(axis=1, keepdims=True)
    return probabilities


def _temperature(heard: Heard) -> float:
    losses = [
        -np.log(softmax(heard.logits / temperature)[np.arange(len(heard.truth)), heard.truth]).mean()
        for temperature in TEMPERATURES
    ]
    return float(TEMPERATURES[int(np.argmin(losses))])


def _threshold(confidence: _Floats, right: npt.NDArray[np.bool_], target: float) -> float:
    """The lowest threshold above which the target is reached, with some clips left."""
    for threshold in THRESHOLDS:
        answered = confidence >= threshold
        if answered.mean() >= LEAST_ANSWERED and right[answered].mean() >= target:
            return float(threshold)
    return float(THRESHOLDS[-1])


def _errors_in_years(heard: Heard, probabilities: _Floats) -> _Floats:
    expected = probabilities @ STRATUM_YEARS
    years = [
        STRATUM_YEARS[AGE_STRATA.index(clip.traits["age"])] if clip.age_years is None else clip.age_years
        for clip in heard.clips
    ]
    errors: _Floats = np.abs(expected - np.array(years, dtype=np.float64))
    return errors


def _mean(values: npt.NDArray[np.bool_]) -> float:
    return float(values.mean()) if values.size else float("nan")
