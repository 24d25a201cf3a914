"""How evenly a recogniser serves groups of speakers.

Source of the two measures over word error rates: Nassereldine et al., "PI-Whisper", 2024. Small groups say little, so
each group's own rate and size stand beside them.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from wyoming_piwhisper.domain.scoring import Rate, UtteranceScore, bootstrap_rate


@dataclass(frozen=True)
class GroupRate:
    """Word error rate of one group of speakers."""

    group: str
    utterances: int
    speakers: int
    """Known ones."""
    word_error_rate: Rate


@dataclass(frozen=True)
class Fairness:
    """Groups by one trait and the two measures over them."""

    groups: tuple[GroupRate, ...]
    statistical_parity_difference: float
    """SPD: largest less smallest word error rate of a group; NaN with fewer than two groups."""
    disparate_impact_ratio: float
    """DIR: largest over smallest; it also falls when the best group gets worse. NaN with fewer than two groups."""


def group_rates(scores: Mapping[str, Sequence[UtteranceScore]], *, seed: int = 0) -> tuple[GroupRate, ...]:
    """The word error rate of each group, in the order of the mapping."""
    return tuple(_rate(group, utterances, seed) for group, utterances in scores.items())


def fairness(groups: Sequence[GroupRate], fewest_speakers: int = 1) -> Fairness:
    """Measure how far the groups lie apart; those with fewer speakers are listed and left out of the measures."""
    rates = [group.word_error_rate.value for group in groups if group.speakers >= fewest_speakers]
    if len(rates) < 2:
        return Fairness(tuple(groups), math.nan, math.nan)
    least, largest = min(rates), max(rates)
    return Fairness(tuple(groups), largest - least, largest / least if least > 0 else math.inf)


def _rate(group: str, scores: Sequence[UtteranceScore], seed: int) -> GroupRate:
    speakers = [score.speaker for score in scores]
    rate = bootstrap_rate(
        [score.words.errors for score in scores],
        [score.words.reference_length for score in scores],
        speakers,
        seed=seed,
    )
    return GroupRate(group, len(scores), len({speaker for speaker in speakers if speaker is not None}), rate)
