"""Rooms, microphones and noises on Mel power."""

import numpy as np
import numpy.typing as npt
import pytest
import torch

from wyoming_piwhisper.engine import features
from wyoming_piwhisper.training import augment
from wyoming_piwhisper.training.augment import LONGEST_LEAD_FRAMES, LONGEST_TAIL_FRAMES, SPEED, Augmenter, compress

Power = npt.NDArray[np.float16]

pytestmark = pytest.mark.usefixtures("one_torch_thread")


@pytest.fixture
def only_warping(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out everything that is put on a clip after it was placed in time and frequency."""
    for name in ("_reverberate", "_colour", "_add_noise", "_mask"):
        monkeypatch.setattr(Augmenter, name, lambda _, power: power)


def power(frames: int, seed: int = 0) -> Power:
    return np.random.default_rng(seed).uniform(-6, 1, (frames, 80)).astype(np.float16)


def noises() -> list[Power]:
    return [power(20, 100), power(700, 101)]


def test_a_batch_has_the_shape_that_the_encoder_takes() -> None:
    clips = [power(40), power(90, 1), power(3, 2)]

    batch = Augmenter(noises(), 1)(clips)

    assert batch.dtype == torch.float32
    assert batch.shape[:2] == (3, 80)
    assert 90 / SPEED[1] - 1 <= batch.shape[2] <= 90 / SPEED[0] + LONGEST_LEAD_FRAMES + LONGEST_TAIL_FRAMES
    assert torch.isfinite(batch).all()
    assert ((batch.amax(dim=(1, 2)) - batch.amin(dim=(1, 2))) <= features.DYNAMIC_RANGE / 4 + 1e-5).all()


def test_a_seed_decides_and_each_call_differs() -> None:
    clips = [power(60), power(80, 1)]
    first, again, other = Augmenter(noises(), 1), Augmenter(noises(), 1), Augmenter(noises(), 2)
    torch.manual_seed(1)
    one = first(clips)
    torch.manual_seed(2)

    assert torch.equal(one, again(clips))
    following = first(clips)
    assert following.shape != one.shape or not torch.equal(following, one)
    different = other(clips)
    assert different.shape != one.shape or not torch.equal(different, one)


def test_clips_and_noises_stay_as_they_were() -> None:
    clips, heard = [power(60), power(80, 1)], noises()
    copies = [array.copy() for array in (*clips, *heard)]
    for array in (*clips, *heard):
        array.flags.writeable = False

    for seed in range(10):
        Augmenter(heard, seed)(clips)

    for array, copy in zip((*clips, *heard), copies, strict=True):
        np.testing.assert_array_equal(array, copy)


def test_silence_stays_finite() -> None:
    silence = np.full((50, 80), augment.FLOOR, np.float16)

    for seed in range(10):
        assert torch.isfinite(Augmenter([silence], seed)([silence, power(20), silence])).all()


@pytest.mark.usefixtures("only_warping")
def test_own_speed_and_tract_leave_a_clip_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(augment, "SPEED", (1.0, 1.0))
    monkeypatch.setattr(augment, "TRACT", (1.0, 1.0))
    monkeypatch.setattr(augment, "LONGEST_LEAD_FRAMES", 0)
    monkeypatch.setattr(augment, "LONGEST_TAIL_FRAMES", 0)
    long, short = power(70), power(30, 1)

    batch = Augmenter(noises(), 1)([long, short])

    assert batch.shape == (2, 80, 70)
    expected = features.compress(np.power(10, long.T.astype(np.float32)))
    np.testing.assert_allclose(batch[0].numpy(), expected, atol=2e-3)
    padded = np.pad(short.T.astype(np.float32), ((0, 0), (0, 40)), constant_values=augment.FLOOR)
    np.testing.assert_allclose(batch[1].numpy(), features.compress(np.power(10, padded)), atol=2e-3)


@pytest.mark.usefixtures("only_warping")
@pytest.mark.parametrize(("speed", "frames"), [(0.9, 100), (1.15, 79)])
def test_speed_changes_the_length(monkeypatch: pytest.MonkeyPatch, speed: float, frames: int) -> None:
    monkeypatch.setattr(augment, "SPEED", (speed, speed))
    monkeypatch.setattr(augment, "LONGEST_TAIL_FRAMES", 30)
    monkeypatch.setattr(augment, "LONGEST_LEAD_FRAMES", 0)

    batch = Augmenter(noises(), 1)([np.zeros((int(frames * speed), 80), np.float16)])

    assert (batch[0, 40] > 0.9).sum() == pytest.approx(frames, abs=2)


@pytest.mark.usefixtures("only_warping")
def test_a_tract_moves_a_band_up_or_down_by_its_factor(monkeypatch: pytest.MonkeyPatch) -> None:
    peaks = []
    for tract in (0.87, 1.0, 1.15):
        monkeypatch.setattr(augment, "TRACT", (tract, tract))
        clip = np.full((60, 80), -6, np.float16)
        clip[:, 55] = 0
        peaks.append(int(Augmenter(noises(), 1)([clip])[0].mean(1).argmax()))

    octave = 80 * 2 / 3 / 3  # bins from 1 to 2 kHz: the upper two thirds span three octaves
    assert peaks[1] == 55
    assert peaks[0] - peaks[1] == pytest.approx(-np.log2(0.87) * octave, abs=1)
    assert peaks[2] - peaks[1] == pytest.approx(-np.log2(1.15) * octave, abs=1)


def test_compression_is_the_engines() -> None:
    linear = np.power(10, power(40).T.astype(np.float32))
    linear[:, 5] = 0

    np.testing.assert_allclose(
        compress(torch.from_numpy(linear)[None])[0].numpy(), features.compress(linear), atol=1e-5
    )
