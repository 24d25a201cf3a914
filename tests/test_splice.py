"""Words cut from clips and put together again, with a model whose hearing is made by hand."""

import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor

from wyoming_piwhisper.training import splice
from wyoming_piwhisper.training.clips import ClipStore, ClipWriter
from wyoming_piwhisper.training.objective import Objective, Targets
from wyoming_piwhisper.training.recipe import Recipe
from wyoming_piwhisper.training.sentences import Sentence
from wyoming_piwhisper.training.splice import LEVEL_SPREAD, SPEECH_LEVEL, SpokenWord, WordBank, cut_words, write_spliced
from wyoming_piwhisper.training.tokenizer import train_tokenizer

SPELLED = {"lights": "l t s", "off": "0 f", "on": "0 n", "up": "V p"}
INVENTORY = ["l", "t", "s", "0", "f", "n"]
PATH = [0] * 5 + [1, 1, 2, 2, 3, 3] + [0] * 6 + [4, 4, 5, 5] + [0] * 9
"""Encoder states in which "lights off" is heard: lights from 5, off from 17."""


class HandMade(Objective):
    """Hears `PATH` whatever is said."""

    def phoneme_log_probabilities(self, states: Tensor) -> Tensor:
        probabilities = torch.full((1, states.shape[1], len(INVENTORY) + 1), 0.02)
        probabilities[0, torch.arange(len(PATH)), torch.tensor(PATH)] = 0.88
        return probabilities.log()


@pytest.fixture
def targets() -> Targets:
    return Targets(train_tokenizer(["lights on", "lights off"], 40), INVENTORY)


@pytest.fixture
def objective(monkeypatch: pytest.MonkeyPatch) -> Objective:
    def spell(words: Sequence[str]) -> list[str]:
        return [SPELLED[word] for word in words]

    monkeypatch.setattr(splice, "phonemes", spell)
    return HandMade(Recipe(d_model=64, encoder_layers=1, decoder_layers=1).config(50), len(INVENTORY), 0.7)


def one_clip(folder: Path, text: str) -> ClipStore:
    power = np.repeat(np.arange(2 * len(PATH))[:, None] / 16 - 4, 80, 1).astype(np.float16)
    with ClipWriter(folder) as writer:
        writer.add(power, text, "", "real", "made")
    return ClipStore(folder)


def spoken(word: str, frames: int = 20, level: float = 0.0) -> SpokenWord:
    power: npt.NDArray[np.float16] = np.full((frames, 80), level, np.float16)
    return SpokenWord(word, SPELLED[word], power)


def bank(*words: SpokenWord) -> WordBank:
    made = WordBank()
    for word in words:
        made.add(word)
    return made


def test_words_are_cut_where_they_are_heard(tmp_path: Path, objective: Objective, targets: Targets) -> None:
    store = one_clip(tmp_path, "lights off")

    lights, off = cut_words(objective, targets, store, store.clips)

    whole = store.power(store.clips[0])
    assert (lights.word, lights.phonemes, off.word) == ("lights", "l t s", "off")
    np.testing.assert_array_equal(lights.power, whole[2 * 1 : 2 * 14])
    np.testing.assert_array_equal(off.power, whole[2 * 14 : 2 * 25])


def test_words_that_are_not_heard_are_left_out(tmp_path: Path, objective: Objective, targets: Targets) -> None:
    store = one_clip(tmp_path, "lights on")

    found = [word.word for word in cut_words(objective, targets, store, store.clips)]

    assert found == ["lights"]


def test_a_word_without_known_phonemes_spoils_only_its_clip(
    tmp_path: Path, objective: Objective, targets: Targets
) -> None:
    store = one_clip(tmp_path, "lights up")

    assert list(cut_words(objective, targets, store, store.clips)) == []


def test_sentences_are_put_together_from_words_that_somebody_says(tmp_path: Path) -> None:
    recorded, synthetic = bank(spoken("lights", 20), spoken("on", 10, -3)), bank(spoken("off", 15))
    sentences = [Sentence(text, "command") for text in ("lights on", "lights off", "lights up", "off on off")]
    with ClipWriter(tmp_path) as writer:
        written = write_spliced(writer, sentences, recorded, synthetic, 1)

    store = ClipStore(tmp_path)

    assert written == len(store.clips) == 3
    assert [(clip.text, clip.phonemes, clip.frames) for clip in store.clips] == [
        ("lights on", "l t s 0 n", 30),
        ("lights off", "l t s 0 f", 35),
        ("off on off", "0 f 0 n 0 f", 40),
    ]
    assert {clip.kind for clip in store.clips} == {"spliced"}
    for clip in store.clips:
        levels = store.power(clip).astype(np.float32).mean(1)
        assert np.abs(levels - SPEECH_LEVEL).max() < 5 * LEVEL_SPREAD


def test_a_seed_decides_the_splices(tmp_path: Path) -> None:
    recorded = bank(*(spoken("on", frames) for frames in range(10, 40)))

    def frames(seed: int) -> list[int]:
        with ClipWriter(tmp_path) as writer:
            write_spliced(writer, [Sentence("on on on", "command")] * 5, recorded, WordBank(), seed)
        return [clip.frames for clip in ClipStore(tmp_path).clips]

    assert frames(1) == frames(1)
    assert frames(1) != frames(2)


def test_recorded_words_are_preferred(tmp_path: Path) -> None:
    recorded, synthetic = bank(spoken("on", 10)), bank(spoken("on", 90))
    with ClipWriter(tmp_path) as writer:
        write_spliced(writer, [Sentence("on", "command")] * 300, recorded, synthetic, 1)

    share = np.mean([clip.frames == 10 for clip in ClipStore(tmp_path).clips])

    assert share == pytest.approx(splice.RECORDED_SHARE, abs=0.08)


def test_a_bank_counts_spellings_and_draws_among_their_ways() -> None:
    words = bank(spoken("on", 1), spoken("on", 2), spoken("off", 3))

    assert len(words) == 2
    assert "on" in words
    assert "up" not in words
    assert {words.draw("on", random.Random(seed)).power.shape[0] for seed in range(20)} == {1, 2}
    with pytest.raises(KeyError):
        words.draw("up", random.Random(0))
