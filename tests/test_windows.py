"""Joining and cutting speech into what a model can hear at once."""

from itertools import pairwise

import numpy as np

from wyoming_piwhisper.domain.audio import SAMPLE_RATE
from wyoming_piwhisper.engine.vad import SpeechRegion
from wyoming_piwhisper.engine.windows import windows


def region(start: float, end: float) -> SpeechRegion:
    return SpeechRegion(int(start * SAMPLE_RATE), int(end * SAMPLE_RATE))


def test_no_speech_has_no_windows() -> None:
    assert windows([], np.zeros(SAMPLE_RATE, np.float32), 12) == []


def test_near_regions_are_heard_together_and_far_ones_apart() -> None:
    samples = np.zeros(20 * SAMPLE_RATE, np.float32)

    assert windows([region(0, 2), region(3, 4)], samples, 12) == [region(0, 4)]
    assert windows([region(0, 2), region(5, 6)], samples, 12) == [region(0, 2), region(5, 6)]


def test_regions_are_not_joined_past_the_longest_window() -> None:
    samples = np.zeros(20 * SAMPLE_RATE, np.float32)

    assert windows([region(0, 7), region(8, 14)], samples, 12) == [region(0, 7), region(8, 14)]


def test_long_speech_is_cut_where_it_is_quiet() -> None:
    samples = np.random.default_rng(0).normal(0, 0.1, 20 * SAMPLE_RATE).astype(np.float32)
    samples[int(9 * SAMPLE_RATE) : int(9.4 * SAMPLE_RATE)] = 0

    first, second = windows([region(0, 20)], samples, 12)

    assert 9.0 <= first.end / SAMPLE_RATE <= 9.4
    assert second == SpeechRegion(first.end, 20 * SAMPLE_RATE)


def test_cutting_loses_no_sample() -> None:
    samples = np.random.default_rng(1).normal(0, 0.1, 65 * SAMPLE_RATE).astype(np.float32)

    found = windows([region(1, 64)], samples, 12)

    assert found[0].start == SAMPLE_RATE
    assert found[-1].end == 64 * SAMPLE_RATE
    assert all(before.end == after.start for before, after in pairwise(found))
    assert all(window.samples <= 12 * SAMPLE_RATE for window in found)
