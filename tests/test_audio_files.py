import os
from pathlib import Path

import numpy as np
import pytest
import soundfile

from wyoming_piwhisper.domain.errors import AudioFormatError
from wyoming_piwhisper.edge.audio_files import read_audio


def tone(rate: int, hz: float = 440.0, seconds: float = 0.5) -> np.ndarray:
    return 0.5 * np.sin(2 * np.pi * hz * np.arange(int(rate * seconds)) / rate)


@pytest.mark.parametrize(
    ("name", "form", "subtype"),
    [
        ("tone.wav", "WAV", "PCM_16"),
        ("tone24.wav", "WAV", "PCM_24"),
        ("tone.flac", "FLAC", "PCM_16"),
        ("tone.ogg", "OGG", "VORBIS"),
        ("opus.ogg", "OGG", "OPUS"),
    ],
)
@pytest.mark.parametrize("rate", [8_000, 16_000, 48_000])
def test_every_container_and_rate_is_the_same_tone(
    tmp_path: Path, name: str, form: str, subtype: str, rate: int
) -> None:
    soundfile.write(tmp_path / name, tone(rate), rate, format=form, subtype=subtype)
    samples = read_audio(tmp_path / name)
    assert samples.dtype == np.float32
    assert samples.shape == (8_000,)
    spectrum = np.abs(np.fft.rfft(samples))
    assert np.argmax(spectrum) * 16_000 / len(samples) == pytest.approx(440, abs=2)
    assert np.abs(samples[1_000:-1_000]).max() == pytest.approx(0.5, abs=0.05)


def test_channels_are_averaged(tmp_path: Path) -> None:
    both = np.stack([np.full(160, 0.5), np.full(160, 0.25)], axis=1)
    soundfile.write(tmp_path / "stereo.wav", both, 16_000, subtype="FLOAT")
    assert read_audio(tmp_path / "stereo.wav") == pytest.approx(np.full(160, 0.375))


def test_loud_files_stay_in_range(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "loud.wav", 3.0 * tone(44_100), 44_100, subtype="FLOAT")
    samples = read_audio(tmp_path / "loud.wav")
    assert samples.max() == 1.0
    assert samples.min() == -1.0


def test_an_empty_file_has_no_samples(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "empty.wav", np.zeros(0), 44_100)
    assert read_audio(tmp_path / "empty.wav").shape == (0,)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(AudioFormatError, match=r"nowhere\.wav: no such file"):
        read_audio(tmp_path / "nowhere.wav")


def test_a_file_that_is_no_audio_is_named(tmp_path: Path) -> None:
    (tmp_path / "letter.wav").write_text("dear all")
    with pytest.raises(AudioFormatError, match=r"letter\.wav: Format not recognised"):
        read_audio(tmp_path / "letter.wav")


def test_a_folder_is_no_audio(tmp_path: Path) -> None:
    with pytest.raises(AudioFormatError, match=tmp_path.name):
        read_audio(tmp_path)


def test_samples_that_are_no_numbers_are_refused(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "nan.wav", np.array([0.0, np.nan]), 16_000, subtype="FLOAT")
    with pytest.raises(AudioFormatError, match=r"nan\.wav"):
        read_audio(tmp_path / "nan.wav")


def test_samples_without_a_header_are_refused(tmp_path: Path) -> None:
    (tmp_path / "tone.raw").write_bytes(bytes(3200))
    with pytest.raises(AudioFormatError, match=r"tone\.raw"):
        read_audio(tmp_path / "tone.raw")


def test_a_name_need_not_be_text(tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(b"\xff.wav")
    soundfile.write(os.fsencode(path), tone(16_000), 16_000, format="WAV")
    assert len(read_audio(path)) == 8_000


def test_a_rate_that_no_speech_has_is_refused(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "slow.wav", np.zeros(100, np.float32), 1)

    with pytest.raises(AudioFormatError, match=r"slow\.wav: 1 samples a second"):
        read_audio(tmp_path / "slow.wav")
