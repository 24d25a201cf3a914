"""Log-Mel against Whisper's own feature extraction, as transformers has it."""

import numpy as np
import pytest
from transformers import WhisperFeatureExtractor

from wyoming_piwhisper.domain.audio import SAMPLE_RATE
from wyoming_piwhisper.engine.features import HOP_SAMPLES, MelStream, log_mel, mel_power


@pytest.mark.parametrize("mel_bins", [80, 128])
@pytest.mark.parametrize("seconds", [0.5, 3.0])
def test_equals_the_reference_on_thirty_seconds(mel_bins: int, seconds: float) -> None:
    count = int(seconds * SAMPLE_RATE)
    samples = np.random.default_rng(0).normal(0, 0.1, count).astype(np.float32)
    reference = WhisperFeatureExtractor(feature_size=mel_bins)
    expected = reference(samples, sampling_rate=SAMPLE_RATE, return_tensors="np").input_features[0]

    found = log_mel(samples, mel_bins, 30 * SAMPLE_RATE - count)

    assert found.shape == (mel_bins, 3000)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_digital_silence_is_flat_and_finite() -> None:
    found = log_mel(np.zeros(SAMPLE_RATE, np.float32))

    assert np.all(found == found[0, 0])


@pytest.mark.parametrize("count", [0, 1, 159, 160, 199, 200, 400])
def test_clips_shorter_than_a_window_have_their_frames(count: int) -> None:
    assert mel_power(np.ones(count, np.float32)).shape == (80, count // 160)


@pytest.mark.parametrize("chunk", [1, 37, 160, 480, 1024, 100_000])
def test_a_stream_computes_what_the_whole_would(chunk: int) -> None:
    seconds = 0.2 if chunk == 1 else 1.7
    samples = np.random.default_rng(chunk).normal(0, 0.2, int(seconds * SAMPLE_RATE) + 77).astype(np.float32)
    stream = MelStream()
    for start in range(0, samples.size, chunk):
        stream.feed(samples[start : start + chunk])
    frames = samples.size // HOP_SAMPLES
    whole = mel_power(np.pad(samples, (0, 4000)))[:, :frames]

    np.testing.assert_allclose(stream.power(0, frames), whole, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(stream.power(5, 11), whole[:, 5:11], rtol=1e-4, atol=1e-6)
    assert stream.power(frames + 3, frames + 5).max() == 0


def test_a_stream_of_next_to_nothing_is_silence() -> None:
    stream = MelStream()
    stream.feed(np.zeros(10, np.float32))

    assert stream.power(0, 3).shape == (80, 3)
    assert not stream.power(0, 3).any()
