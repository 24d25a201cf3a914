"""The speech gate on made audio: noise bursts stand for voices where only timing matters."""

import numpy as np
import pytest

from wyoming_piwhisper.domain.audio import SAMPLE_RATE, Samples
from wyoming_piwhisper.domain.settings import VadSettings
from wyoming_piwhisper.engine.vad import SpeechGate, SpeechRegion

SETTINGS = VadSettings()


def silence(seconds: float) -> Samples:
    return np.zeros(int(seconds * SAMPLE_RATE), np.float32)


def voice(seconds: float) -> Samples:
    """A buzz with three formants and a syllable rhythm, which webrtcvad takes for speech."""
    time = np.arange(int(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    harmonics = np.arange(1, 30)[:, None] * 120.0
    gains = sum(np.exp(-(((harmonics - formant) / 150.0) ** 2)) for formant in (600, 1300, 2500)) + 0.02
    buzz = (gains * np.sin(2 * np.pi * harmonics * time)).sum(0) * (1.2 + np.sin(2 * np.pi * 4 * time))
    return (0.3 * buzz / np.abs(buzz).max()).astype(np.float32)


def regions_of(samples: Samples, *, chunk: int = 512) -> list[SpeechRegion]:
    gate = SpeechGate(SETTINGS)
    for start in range(0, samples.size, chunk):
        gate.feed(samples[start : start + chunk])
    return gate.regions()


def test_silence_opens_nothing() -> None:
    assert regions_of(silence(3)) == []


def test_a_click_opens_nothing() -> None:
    samples = silence(2)
    samples[16_000:16_040] = 0.9

    assert regions_of(samples) == []


def test_speech_is_found_with_padding_on_both_sides() -> None:
    samples = np.concatenate([silence(1), voice(1), silence(1.5)])

    (region,) = regions_of(samples)

    assert 0.5 * SAMPLE_RATE <= region.start <= 1.0 * SAMPLE_RATE
    assert 2.0 * SAMPLE_RATE <= region.end <= 2.7 * SAMPLE_RATE


def test_a_short_pause_does_not_close_the_gate_and_a_long_one_does() -> None:
    short = np.concatenate([voice(0.8), silence(0.4), voice(0.8), silence(1)])
    long = np.concatenate([voice(0.8), silence(2), voice(0.8), silence(1)])

    assert len(regions_of(short)) == 1
    assert len(regions_of(long)) == 2


@pytest.mark.parametrize("chunk", [1, 160, 1024, 40_000])
def test_chunks_of_any_size_give_the_same_regions(chunk: int) -> None:
    samples = np.concatenate([silence(0.3), voice(0.5), silence(0.2)])

    assert regions_of(samples, chunk=chunk) == regions_of(samples, chunk=samples.size)


def test_a_region_ends_with_the_audio() -> None:
    (region,) = regions_of(voice(1.01))

    assert region.end <= int(1.01 * SAMPLE_RATE)


def test_nothing_fed_gives_nothing() -> None:
    assert SpeechGate(SETTINGS).regions() == []
