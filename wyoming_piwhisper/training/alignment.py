"""When each word of a clip is said, from a model that spells phonemes: the likeliest CTC path through its text.

Source: Kürzinger et al., "CTC-Segmentation of Large Corpora", 2020, reduced to one known text a clip.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

BLANK: Final = 0
EDGE_STATES: Final = 4
"""Encoder states (20 ms each) that a word may reach into the silence beside it."""


@dataclass(frozen=True)
class WordSpan:
    """A word and the encoder states in which it is said."""

    word: str
    first: int
    end: int
    """One past the last state."""
    log_probability: float
    """Mean over the word's phonemes of the likeliest frame of each, at most 0."""


def align_words(log_probabilities: npt.NDArray[np.float32], words: list[tuple[str, list[int]]]) -> list[WordSpan]:
    """Find each word's place.

    Args:
        log_probabilities: of the phonemes, 0 being the blank: shape (states, phonemes + 1), float32.
        words: each word with its phonemes' numbers, in order.

    Returns:
        One span a word, without overlap; empty when a word has no phonemes or there are less than two states for each.
    """
    targets = [number for _, numbers in words for number in numbers]
    if not all(numbers for _, numbers in words) or not targets or len(targets) * 2 > len(log_probabilities):
        return []
    first, last = _phoneme_frames(log_probabilities, targets)
    scores = np.array([log_probabilities[a : b + 1, t].max() for a, b, t in zip(first, last, targets, strict=True)])
    ends = np.cumsum([len(numbers) for _, numbers in words])
    starts = ends - [len(numbers) for _, numbers in words]
    spans, before = [], 0
    for index, (word, _) in enumerate(words):
        after = first[ends[index]] if index + 1 < len(words) else len(log_probabilities)
        end = min(last[ends[index] - 1] + 1 + EDGE_STATES, (last[ends[index] - 1] + 1 + after) // 2)
        start = max(first[starts[index]] - EDGE_STATES, before)
        spans.append(WordSpan(word, int(start), int(end), float(scores[starts[index] : ends[index]].mean())))
        before = int(end)
    return spans


def _phoneme_frames(
    log_probabilities: npt.NDArray[np.float32], targets: list[int]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """First and last state of each target on the likeliest path (Viterbi over targets with blanks between)."""
    labels = np.full(2 * len(targets) + 1, BLANK)
    labels[1::2] = targets
    may_skip = np.zeros(len(labels), bool)
    may_skip[3::2] = labels[3::2] != labels[1:-2:2]
    emitted = log_probabilities[:, labels]
    score = np.full(len(labels), -np.inf, np.float32)
    score[:2] = emitted[0, :2]
    steps = np.zeros(emitted.shape, np.int8)
    for frame in range(1, len(emitted)):
        one = np.concatenate([[-np.inf], score[:-1]])
        two = np.where(may_skip, np.concatenate([[-np.inf, -np.inf], score[:-2]]), -np.inf)
        options = np.stack([score, one, two])
        steps[frame] = options.argmax(0)
        score = (options.max(0) + emitted[frame]).astype(np.float32)
    position = len(labels) - 1 if score[-1] >= score[-2] else len(labels) - 2
    path = np.empty(len(emitted), np.int64)
    for frame in range(len(emitted) - 1, -1, -1):
        path[frame] = position
        position -= int(steps[frame, position])
    states = 2 * np.arange(len(targets)) + 1
    return np.searchsorted(path, states, "left"), np.searchsorted(path, states, "right") - 1
