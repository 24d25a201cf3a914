"""How well a classifier tells classes apart, and how honest its confidence is."""

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

CALIBRATION_BINS: Final = 10

_Ints = npt.NDArray[np.int64]
_Floats = npt.NDArray[np.float64]


def balanced_accuracy(truth: _Ints, found: _Ints) -> float:
    """Mean recall over the classes that occur in `truth`, in [0, 1]; NaN without any."""
    recalls = [float(np.mean(found[truth == label] == label)) for label in np.unique(truth)]
    return float(np.mean(recalls)) if recalls else float("nan")


def macro_f1(truth: _Ints, found: _Ints) -> float:
    """Mean F1 over the classes that occur in `truth`, in [0, 1]; NaN without any."""
    scores = []
    for label in np.unique(truth):
        right = int(np.sum((truth == label) & (found == label)))
        claimed, there = int(np.sum(found == label)), int(np.sum(truth == label))
        scores.append(2 * right / (claimed + there))
    return float(np.mean(scores)) if scores else float("nan")


def within_one(truth: _Ints, found: _Ints) -> float:
    """Share of answers at most one class off, for classes in order, in [0, 1]; NaN without any."""
    return float(np.mean(np.abs(truth - found) <= 1)) if truth.size else float("nan")


def expected_calibration_error(confidences: _Floats, right: npt.NDArray[np.bool_]) -> float:
    """Mean distance of confidence from accuracy over ten bins of equal width, weighted by size, in [0, 1].

    Source: Naeini, Cooper and Hauskrecht, "Obtaining well calibrated probabilities using Bayesian binning", 2015.
    """
    if not confidences.size:
        return float("nan")
    bins = np.minimum((confidences * CALIBRATION_BINS).astype(np.int64), CALIBRATION_BINS - 1)
    gaps = [
        float(np.sum(bins == number) * abs(confidences[bins == number].mean() - right[bins == number].mean()))
        for number in np.unique(bins)
    ]
    return sum(gaps) / confidences.size


def bootstrap_by_speaker(speakers: Sequence[str], samples: int, seed: int) -> list[_Ints]:
    """Indexes of the clips of `samples` draws of speakers with replacement; each speaker brings all their clips."""
    names = sorted(set(speakers))
    of_speaker = {name: np.flatnonzero(np.array(speakers) == name) for name in names}
    generator = np.random.default_rng(seed)
    return [
        np.concatenate([of_speaker[names[number]] for number in generator.integers(len(names), size=len(names))])
        for _ in range(samples)
    ]
