"""Synthetic voices: which are drawn, and what the synthesisers make of them."""

import random
import shutil
from collections import Counter

import numpy as np
import pytest

from wyoming_piwhisper.domain.audio import SAMPLE_RATE
from wyoming_piwhisper.domain.errors import SettingsError
from wyoming_piwhisper.training.phonemes import phonemes
from wyoming_piwhisper.training.synthesis import (
    ESPEAK_DIALECTS,
    FESTIVAL_VOICES,
    PROGRAMS,
    TEST_ESPEAK_DIALECTS,
    TEST_FESTIVAL_VOICES,
    VARIANTS,
    Split,
    Voice,
    random_voice,
    require_programs,
    synthesise,
)

SPLITS: tuple[Split, ...] = ("train", "dev", "test")
MISSING = {program for program in PROGRAMS if shutil.which(program) is None}
needs_espeak = pytest.mark.skipif("espeak-ng" in MISSING, reason="espeak-ng is not installed")
needs_flite = pytest.mark.skipif("flite" in MISSING, reason="flite is not installed")
needs_festival = pytest.mark.skipif("festival" in MISSING, reason="festival is not installed")


def drawn(seed: int, split: Split, count: int = 3000) -> list[Voice]:
    source = random.Random(seed)
    return [random_voice(source, split) for _ in range(count)]


def test_a_seed_decides_the_voices() -> None:
    assert drawn(1, "train") == drawn(1, "train")
    assert drawn(1, "train") != drawn(2, "train")


def test_no_voice_belongs_to_two_splits() -> None:
    heard, watched, tested = ({voice.label for voice in drawn(1, split)} for split in SPLITS)

    assert not heard & watched
    assert not heard & tested
    assert not watched & tested
    assert not any(label.startswith("flite:") for label in tested)
    assert not set(FESTIVAL_VOICES) & set(TEST_FESTIVAL_VOICES)
    assert not set(ESPEAK_DIALECTS) & set(TEST_ESPEAK_DIALECTS)
    variants = [variant for split in SPLITS for variant in VARIANTS[split]]
    assert len(set(variants)) == len(variants)


def test_training_hears_all_engines_at_moderate_settings() -> None:
    voices = drawn(5, "train")

    assert set(Counter(voice.engine for voice in voices)) == set(PROGRAMS)
    assert all(0.85 <= voice.rate <= 1.2 and 0.8 <= voice.pitch <= 1.3 for voice in voices)
    assert all(0.85 <= voice.tract <= 1.22 for voice in voices)


def test_missing_programs_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")

    with pytest.raises(SettingsError, match="espeak-ng, flite, festival: apt-get install"):
        require_programs()


@pytest.mark.parametrize(
    ("engine", "name"),
    [
        pytest.param("espeak-ng", "en-us+f2", marks=needs_espeak),
        pytest.param("espeak-ng", "en-gb-x-gbcwmd+Mike", marks=needs_espeak),
        pytest.param("flite", "slt", marks=needs_flite),
        pytest.param("festival", "kal_diphone", marks=needs_festival),
    ],
)
def test_speech_is_trimmed_levelled_and_of_plausible_length(engine: str, name: str) -> None:
    (samples,) = synthesise([("turn on mary's kitchen light", Voice(engine, name, 1.0, 1.0, 1.0))])

    assert samples.dtype == np.float32
    assert samples.ndim == 1
    assert 0.8 * SAMPLE_RATE < samples.size < 4 * SAMPLE_RATE
    assert np.abs(samples).max() == pytest.approx(0.5, abs=1e-3)
    loud = np.flatnonzero(np.abs(samples) > 0.02 * 0.5)
    assert loud[0] <= SAMPLE_RATE // 20
    assert samples.size - loud[-1] <= SAMPLE_RATE // 20 + 1


@needs_espeak
def test_answers_come_in_the_order_of_the_jobs_and_rate_and_tract_shorten_them() -> None:
    text = "what is the temperature in the living room"
    plain = Voice("espeak-ng", "en-us+m1", 1.0, 1.0, 1.0)
    fast = Voice("espeak-ng", "en-us+m1", 1.2, 1.0, 1.0)
    small = Voice("espeak-ng", "en-us+m1", 1.0, 1.0, 1.2)

    first, faster, smaller, again, short = synthesise(
        [(text, plain), (text, fast), (text, small), (text, plain), ("stop", plain)]
    )

    assert faster.size < first.size
    assert smaller.size == pytest.approx(first.size / 1.2, rel=0.05)
    assert short.size < first.size / 2
    np.testing.assert_array_equal(first, again)


@needs_espeak
def test_phonemes_are_spelled_without_stress_or_length() -> None:
    light, alike, empty = phonemes(["light", "lights on", "silence"])

    assert light.split()[0] == "l"
    assert light.split()[-1] == "t"
    assert alike.startswith(light)
    assert all(not set("',:;|#!%=-_") & set(line) for line in (light, alike, empty))
    assert phonemes([]) == []


@needs_espeak
def test_phonemes_answer_each_line_by_itself() -> None:
    texts = ["what's the time", "set a five minute timer", "i'm home", "one hundred percent", "t v"] * 3

    together = phonemes(texts)

    assert together == [phonemes([text])[0] for text in texts[:5]] * 3
