"""How well words were recognised: edit distance, error rates, and how far chance could move them."""

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import numpy.typing as npt

from wyoming_piwhisper.domain.text import normalise_text

RESAMPLES: Final = 1_000
"""Bootstrap samples; the 2.5 % and 97.5 % points then rest on 25 samples each side."""
CONFIDENCE: Final = 0.95
FEWEST_SPEAKERS: Final = 10
"""Below so many speakers, drawing speakers says more about the draw than about the recogniser; utterances are drawn."""

_EDIT: Final = 1 << 24
"""Cost of an insertion or deletion. A substitution costs one more, so that of the alignments with the fewest errors
the one that keeps most words right is counted, and the total tells the errors and the substitutions apart."""
_CHUNK: Final = 64
"""Bootstrap samples drawn at once: bounds the memory to 64 int64 counts an utterance."""

_Ints = npt.NDArray[np.int64]
_Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class EditCounts:
    """What turns a hypothesis into its reference."""

    substitutions: int = 0
    insertions: int = 0
    deletions: int = 0
    reference_length: int = 0
    """Words or characters of the reference."""

    @property
    def errors(self) -> int:
        """Substitutions, insertions and deletions together."""
        return self.substitutions + self.insertions + self.deletions

    def __add__(self, other: "EditCounts") -> "EditCounts":
        """Return the counts of both texts together."""
        return EditCounts(
            self.substitutions + other.substitutions,
            self.insertions + other.insertions,
            self.deletions + other.deletions,
            self.reference_length + other.reference_length,
        )


@dataclass(frozen=True)
class UtteranceScore:
    """One utterance against its reference, both normalised."""

    words: EditCounts
    characters: EditCounts
    """Characters with single spaces between words."""
    speaker: str | None = None

    @property
    def is_exact(self) -> bool:
        """Whether every word is right."""
        return self.words.errors == 0


@dataclass(frozen=True)
class Rate:
    """A ratio over many utterances with its bootstrap interval; NaN where there is nothing to divide by."""

    value: float
    low: float
    high: float
    unit: Literal["speakers", "utterances"]
    """What was drawn for the interval."""


@dataclass(frozen=True)
class CorpusScore:
    """Many utterances together; each rate is a sum of errors over a sum of lengths, not a mean of rates."""

    utterances: int
    words: EditCounts
    characters: EditCounts
    word_error_rate: Rate
    character_error_rate: Rate
    sentence_accuracy: Rate
    """Share of utterances in which every word is right, in [0, 1]."""


def count_edits(reference: Sequence[Hashable], hypothesis: Sequence[Hashable]) -> EditCounts:
    """Align two sequences with the fewest errors and count them; among equals most elements stay matched."""
    start, end = _common_ends(reference, hypothesis)
    ref, hyp = reference[start : len(reference) - end], hypothesis[start : len(hypothesis) - end]
    codes: dict[Hashable, int] = {}
    ref_codes = [codes.setdefault(item, len(codes)) for item in ref]
    hyp_codes = np.array([codes.setdefault(item, len(codes)) for item in hyp], dtype=np.int64)
    errors, substitutions = divmod(_alignment_cost(ref_codes, hyp_codes), _EDIT)
    # Insertions less deletions is the difference in length, whatever the alignment.
    insertions = (errors - substitutions + len(hyp) - len(ref)) // 2
    return EditCounts(substitutions, insertions, errors - substitutions - insertions, len(reference))


def score_utterance(reference: str, hypothesis: str, speaker: str | None = None) -> UtteranceScore:
    """Normalise both texts and count their word and character errors."""
    ref, hyp = normalise_text(reference), normalise_text(hypothesis)
    return UtteranceScore(count_edits(ref.split(), hyp.split()), count_edits(ref, hyp), speaker)


def score_corpus(scores: Sequence[UtteranceScore], *, seed: int = 0) -> CorpusScore:
    """Sum up utterances. The intervals depend on `seed` and on the order of `scores` alone."""
    speakers = [score.speaker for score in scores]
    word_lengths = [score.words.reference_length for score in scores]
    character_lengths = [score.characters.reference_length for score in scores]
    return CorpusScore(
        utterances=len(scores),
        words=sum((score.words for score in scores), EditCounts()),
        characters=sum((score.characters for score in scores), EditCounts()),
        word_error_rate=bootstrap_rate([s.words.errors for s in scores], word_lengths, speakers, seed=seed),
        character_error_rate=bootstrap_rate(
            [s.characters.errors for s in scores], character_lengths, speakers, seed=seed
        ),
        sentence_accuracy=bootstrap_rate([s.is_exact for s in scores], [1] * len(scores), speakers, seed=seed),
    )


def bootstrap_rate(
    numerators: Sequence[float], denominators: Sequence[float], speakers: Sequence[str | None], *, seed: int = 0
) -> Rate:
    """Return sum(numerators) / sum(denominators) with its 95 % interval by the percentile method.

    Speakers are drawn with all their utterances, since those of one person fail together; an utterance of an unknown
    speaker is drawn by itself. With fewer than `FEWEST_SPEAKERS` known ones all utterances are. Method: M. Bisani and
    H. Ney, "Bootstrap estimates for confidence intervals in ASR performance evaluation", ICASSP 2004.

    Args:
        numerators: one value an utterance, such as its word errors.
        denominators: one value an utterance, such as its reference words; not negative.
        speakers: one name an utterance, None where unknown.
        seed: the same seed draws the same samples.

    Raises:
        ValueError: the three differ in length.
    """
    if not len(numerators) == len(denominators) == len(speakers):
        raise ValueError(f"{len(numerators)} numerators, {len(denominators)} denominators, {len(speakers)} speakers")
    by_speaker = len({speaker for speaker in speakers if speaker is not None}) >= FEWEST_SPEAKERS
    top, bottom = np.asarray(numerators, dtype=np.float64), np.asarray(denominators, dtype=np.float64)
    if by_speaker:
        units: dict[str | int, int] = {}
        of_unit = [units.setdefault(i if name is None else name, len(units)) for i, name in enumerate(speakers)]
        top, bottom = _sums(top, of_unit), _sums(bottom, of_unit)
    total = float(bottom.sum())
    low, high = _percentile_interval(top, bottom, np.random.default_rng(seed)) if total > 0 else (math.nan, math.nan)
    value = float(top.sum()) / total if total > 0 else math.nan
    return Rate(value, low, high, "speakers" if by_speaker else "utterances")


def _percentile_interval(top: _Floats, bottom: _Floats, rng: np.random.Generator) -> tuple[float, float]:
    """Return the bounds of the ratio of sums over `RESAMPLES` draws of len(top) units with replacement."""
    rates: list[_Floats] = []
    for first in range(0, RESAMPLES, _CHUNK):
        draws = min(_CHUNK, RESAMPLES - first)
        counts = rng.multinomial(len(top), np.full(len(top), 1 / len(top)), size=draws)
        lengths = counts @ bottom
        rates.append((counts @ top)[lengths > 0] / lengths[lengths > 0])
    tail = 100 * (1 - CONFIDENCE) / 2
    low, high = np.percentile(np.concatenate(rates), [tail, 100 - tail])
    return float(low), float(high)


def _sums(values: _Floats, groups: Sequence[int]) -> _Floats:
    """Return the sum of `values` in each group."""
    return np.bincount(groups, weights=values).astype(np.float64, copy=False)


def _common_ends(reference: Sequence[Hashable], hypothesis: Sequence[Hashable]) -> tuple[int, int]:
    """Return how many elements agree at the start, and at the end of what then remains."""
    shorter = min(len(reference), len(hypothesis))
    start = 0
    while start < shorter and reference[start] == hypothesis[start]:
        start += 1
    end = 0
    while end < shorter - start and reference[-1 - end] == hypothesis[-1 - end]:
        end += 1
    return start, end


def _alignment_cost(reference: Sequence[int], hypothesis: _Ints) -> int:
    """Return the least cost of turning one sequence of codes into the other, row by row of the edit matrix."""
    ramp = np.arange(len(hypothesis) + 1, dtype=np.int64) * _EDIT
    row = ramp.copy()
    for code in reference:
        step = row + _EDIT
        step[1:] = np.minimum(step[1:], row[:-1] + np.where(hypothesis == code, 0, _EDIT + 1))
        # An insertion moves along the row: the least of all earlier cells plus the way from there.
        row = np.minimum.accumulate(step - ramp) + ramp
    return int(row[-1])
