import numpy as np
import pytest

from wyoming_piwhisper.domain.errors import AudioFormatError
from wyoming_piwhisper.edge.pcm import PcmConverter, PcmFormat


def encoded(samples: np.ndarray, width: int) -> bytes:
    """Interleaved little-endian PCM of `samples` in [-1, 1)."""
    whole = np.floor(samples.ravel() * 2.0 ** (8 * width - 1)).astype("<i8")
    return whole.view(np.uint8).reshape(-1, 8)[:, :width].tobytes()


def tone(rate: int, hz: float = 440.0, seconds: float = 1.0) -> np.ndarray:
    return 0.5 * np.sin(2 * np.pi * hz * np.arange(int(rate * seconds)) / rate)


def converted(pcm_format: PcmFormat, pcm: bytes, chunk_bytes: int) -> np.ndarray:
    converter = PcmConverter(pcm_format)
    parts = [converter.convert(pcm[at : at + chunk_bytes]) for at in range(0, len(pcm), chunk_bytes)]
    return np.concatenate([*parts, converter.flush()])


@pytest.mark.parametrize("rate", [8_000, 11_025, 16_000, 22_050, 44_100, 48_000])
@pytest.mark.parametrize("width", [2, 3, 4])
@pytest.mark.parametrize("channels", [1, 2])
def test_any_format_becomes_16_khz_mono(rate: int, width: int, channels: int) -> None:
    sound = np.repeat(tone(rate)[:, np.newaxis], channels, axis=1)
    heard = converted(PcmFormat(rate, width, channels), encoded(sound, width), chunk_bytes=1001)
    assert heard.dtype == np.float32
    assert abs(len(heard) - 16_000) <= 1
    middle = slice(1_000, 15_000)
    assert np.allclose(heard[middle], tone(16_000)[middle], atol=2e-3)


@pytest.mark.parametrize("width", [2, 3, 4])
def test_full_scale_is_exact(width: int) -> None:
    samples = np.array([-1.0, -0.5, 0.0, 0.5, 1 - 2.0**-15])
    assert PcmConverter(PcmFormat(16_000, width, 1)).convert(encoded(samples, width)).tolist() == samples.tolist()


def test_channels_are_averaged_not_summed() -> None:
    stereo = np.array([[0.6, 0.6], [0.5, -0.5], [-1.0, 0.0]])
    heard = PcmConverter(PcmFormat(16_000, 2, 2)).convert(encoded(stereo, 2))
    assert np.allclose(heard, [0.6, 0.0, -0.5], atol=1e-4)


@pytest.mark.parametrize("chunk_bytes", [1, 2, 3, 5, 7, 320])
def test_frames_may_be_cut_anywhere(chunk_bytes: int) -> None:
    pcm_format = PcmFormat(16_000, 3, 2)
    pcm = encoded(np.random.default_rng(1).uniform(-1, 1, (100, 2)), 3)
    whole = converted(pcm_format, pcm, len(pcm))
    assert len(whole) == 100
    assert np.array_equal(converted(pcm_format, pcm, chunk_bytes), whole)


def test_an_incomplete_last_frame_is_dropped() -> None:
    assert len(converted(PcmFormat(16_000, 2, 1), b"\0" * 321, 100)) == 160


def test_chunks_resample_to_the_same_as_the_whole() -> None:
    pcm = encoded(tone(44_100), 2)
    pcm_format = PcmFormat(44_100, 2, 1)
    assert np.allclose(converted(pcm_format, pcm, 882), converted(pcm_format, pcm, len(pcm)), atol=1e-6)


def test_resampled_full_scale_stays_in_range() -> None:
    square = np.where(np.arange(48_000) // 50 % 2, -1.0, 1 - 2.0**-15)
    assert np.abs(converted(PcmFormat(48_000, 2, 1), encoded(square, 2), 960)).max() <= 1.0


@pytest.mark.parametrize("pcm", [b"", b"\0"])
@pytest.mark.parametrize("rate", [16_000, 48_000])
def test_next_to_nothing_is_no_samples(pcm: bytes, rate: int) -> None:
    converter = PcmConverter(PcmFormat(rate, 2, 1))
    assert converter.convert(pcm).shape == (0,)
    assert converter.flush().shape == (0,)


@pytest.mark.parametrize(
    ("rate", "width", "channels"),
    [
        (7_999, 2, 1),
        (48_001, 2, 1),
        (0, 2, 1),
        (-16_000, 2, 1),
        (16_000, 1, 1),
        (16_000, 8, 1),
        (16_000, 2, 0),
        (16_000, 2, 3),
        (16_000.0, 2, 1),
        ("16000", 2, 1),
        (None, 2, 1),
        (16_000, True, 1),
        (16_000, 2, True),
        (16_000, [2], 1),
    ],
)
def test_other_formats_are_refused(rate: int, width: int, channels: int) -> None:
    with pytest.raises(AudioFormatError):
        PcmFormat(rate, width, channels)
