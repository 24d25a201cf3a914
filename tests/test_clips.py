"""Clip stores: what is written comes back."""

from pathlib import Path

import numpy as np
import numpy.typing as npt

from wyoming_piwhisper.domain.audio import SAMPLE_RATE
from wyoming_piwhisper.engine.features import log_mel
from wyoming_piwhisper.training.clips import MEL_BINS, ClipStore, ClipWriter, stored_power


def power(frames: int, seed: int) -> npt.NDArray[np.float16]:
    return np.random.default_rng(seed).uniform(-9, 1, (frames, MEL_BINS)).astype(np.float16)


def test_clips_come_back_as_written(tmp_path: Path) -> None:
    powers = [power(frames, frames) for frames in (7, 1, 30)]
    with ClipWriter(tmp_path / "store") as writer:
        for number, written in enumerate(powers):
            writer.add(written, f"clip {number}", "k l I p", "command", "flite:slt")

    store = ClipStore(tmp_path / "store")

    assert [clip.text for clip in store.clips] == ["clip 0", "clip 1", "clip 2"]
    assert [clip.frames for clip in store.clips] == [7, 1, 30]
    assert {(clip.phonemes, clip.kind, clip.source) for clip in store.clips} == {("k l I p", "command", "flite:slt")}
    for clip, written in zip(store.clips, powers, strict=True):
        np.testing.assert_array_equal(store.power(clip), written)


def test_a_new_writer_begins_again(tmp_path: Path) -> None:
    for text in ("first", "second"):
        with ClipWriter(tmp_path) as writer:
            writer.add(power(5, 0), text, "", "word", "made")

    store = ClipStore(tmp_path)

    assert [clip.text for clip in store.clips] == ["second"]
    assert store.clips[0].first_frame == 0


def test_a_store_without_clips_can_be_read(tmp_path: Path) -> None:
    with ClipWriter(tmp_path):
        pass

    assert ClipStore(tmp_path).clips == []


def test_stored_power_is_what_the_encoder_hears_before_compression() -> None:
    samples = np.random.default_rng(0).normal(0, 0.1, SAMPLE_RATE).astype(np.float32)

    stored = stored_power(samples)

    assert stored.shape == (100, MEL_BINS)
    assert stored.dtype == np.float16
    np.testing.assert_allclose((stored.astype(np.float32).T + 4) / 4, log_mel(samples), atol=2e-3)


def test_silence_is_stored_finite() -> None:
    stored = stored_power(np.zeros(1600, np.float32))

    np.testing.assert_allclose(stored.astype(np.float32), -10)
