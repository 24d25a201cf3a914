"""The clips to train on: what is drawn, kept out and written."""

import argparse
import json
import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import soundfile

from wyoming_piwhisper.commands import speak_held_out
from wyoming_piwhisper.domain.audio import SAMPLE_RATE
from wyoming_piwhisper.domain.errors import AudioFormatError, SettingsError
from wyoming_piwhisper.training import prepare, synthesis
from wyoming_piwhisper.training.clips import ClipStore
from wyoming_piwhisper.training.manifest import select_clips
from wyoming_piwhisper.training.prepare import (
    draw_held_out,
    draw_sentences,
    recordings,
    split_of,
    write_held_out,
    write_noise,
    write_recordings,
    write_synthetic,
)
from wyoming_piwhisper.training.sentences import Grammar, Sentence

needs_espeak = pytest.mark.skipif(shutil.which("espeak-ng") is None, reason="espeak-ng is not installed")


@pytest.fixture
def espeak_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Voices of other synthesisers, which may be missing, are replaced."""
    draw = synthesis.random_voice

    def voice(source: object, split: synthesis.Split) -> synthesis.Voice:
        while (drawn := draw(source, split)).engine != "espeak-ng":  # type: ignore[arg-type]
            pass
        return drawn

    monkeypatch.setattr(prepare, "random_voice", voice)


def write_manifest(folder: Path, rows: Sequence[tuple[str, str, float, str]]) -> Path:
    """Rows of data set, text, seconds, split."""
    lines = []
    for number, (dataset, text, seconds, split) in enumerate(rows):
        tone = 0.1 * np.sin(np.arange(int(seconds * SAMPLE_RATE)) * 0.05)
        soundfile.write(folder / f"{number}.wav", tone, SAMPLE_RATE)
        lines.append(json.dumps({"path": f"{number}.wav", "text": text, "dataset": dataset, "split": split}))
    (folder / "manifest.jsonl").write_text("\n".join(lines))
    return folder / "manifest.jsonl"


@pytest.mark.parametrize("split", ["dev", "test"])
def test_training_never_draws_a_held_out_command(split: synthesis.Split) -> None:
    heard = [s for s in draw_sentences(Grammar(1), 4000, 50, 60) if s.kind == "command"]
    kept = draw_held_out(Grammar(2), 150, split)

    assert len({sentence.text for sentence in heard}) == len(heard) == 4000
    assert {split_of(sentence.text) for sentence in heard} == {"train"}
    assert {split_of(sentence.text) for sentence in kept} == {split}
    assert len({sentence.text for sentence in kept}) == 150


def test_single_words_are_not_held_out_because_training_hears_them_as_words() -> None:
    words = {sentence.text for sentence in draw_sentences(Grammar(1), 0, 2000, 0)}
    kept = {sentence.text for sentence in draw_held_out(Grammar(3), 300, "test")}

    assert any(split_of(word) == "test" for word in words)
    assert not words & kept


def test_a_twentieth_is_for_testing_and_a_twentieth_for_watching() -> None:
    grammar = Grammar(9)
    texts = {grammar.command().text for _ in range(6000)}

    shares = {split: count / len(texts) for split, count in Counter(map(split_of, texts)).items()}
    assert shares == pytest.approx({"train": 18 / 20, "dev": 1 / 20, "test": 1 / 20}, abs=0.012)


def test_draws_are_decided_by_the_seed_and_have_the_kinds_asked_for() -> None:
    first, again = (draw_sentences(Grammar(4), 20, 5, 7) for _ in range(2))

    assert first == again
    assert [sentence.kind for sentence in first] == ["command"] * 20 + ["word"] * 5 + ["general"] * 7


def test_recordings_are_normalised_and_ambiguous_prompts_left_out(tmp_path: Path) -> None:
    manifest = write_manifest(
        tmp_path,
        [
            ("commands", "Set it to 50%", 0.1, "train"),
            ("alphanumeric", "A 7 B", 0.1, "train"),
            ("alphanumeric", "A B", 0.1, "train"),
            ("noise", "", 0.1, "train"),
            ("commands", "stop", 0.1, "dev"),
        ],
    )

    assert [row.text for row in recordings(manifest, "train")] == ["set it to fifty percent", "a b", ""]
    assert [row.text for row in recordings(manifest, "dev")] == ["stop"]


@needs_espeak
def test_recordings_are_sorted_by_kind_and_long_ones_dropped(tmp_path: Path) -> None:
    manifest = write_manifest(
        tmp_path,
        [
            ("read", "turn on the light", 0.5, "train"),
            ("words", "stop it", 0.3, "train"),
            ("noise", "", 0.4, "train"),
            ("read", "a sentence without an end", 14.5, "train"),
        ],
    )

    write_recordings(tmp_path / "store", recordings(manifest, "train"), processes=1)
    clips = ClipStore(tmp_path / "store").clips

    assert [(clip.text, clip.kind, clip.source) for clip in clips] == [
        ("turn on the light", "real", "read"),
        ("stop it", "real_word", "words"),
        ("", "noise", "noise"),
    ]
    assert [clip.frames for clip in clips] == [50, 30, 40]
    assert [bool(clip.phonemes) for clip in clips] == [True, True, False]


@needs_espeak
def test_recordings_of_another_rate_are_refused_by_name(tmp_path: Path) -> None:
    manifest = write_manifest(tmp_path, [("read", "stop", 0.5, "train")])
    soundfile.write(tmp_path / "0.wav", np.zeros(8000), 8000)

    with pytest.raises(AudioFormatError, match=r"0\.wav: 8000 Hz"):
        write_recordings(tmp_path / "store", recordings(manifest, "train"), processes=1)


@needs_espeak
@pytest.mark.usefixtures("espeak_only")
def test_synthetic_clips_follow_the_sentences_whatever_the_number_of_processes(tmp_path: Path) -> None:
    sentences = [Sentence("stop", "word"), Sentence("turn on the light", "command"), Sentence("it is late", "general")]

    for name, processes in (("one", 1), ("two", 2)):
        write_synthetic(tmp_path / name, sentences, 3, "train", processes)
    one, two = ClipStore(tmp_path / "one"), ClipStore(tmp_path / "two")

    assert [Sentence(clip.text, clip.kind) for clip in one.clips] == sentences
    assert one.clips == two.clips
    assert all(clip.source.startswith("espeak-ng:") and clip.phonemes and clip.frames > 20 for clip in one.clips)
    np.testing.assert_array_equal(one.power(one.clips[1]), two.power(two.clips[1]))


@needs_espeak
@pytest.mark.usefixtures("espeak_only")
def test_the_held_out_test_set_is_a_manifest_that_evaluation_reads(tmp_path: Path) -> None:
    manifest = write_held_out(tmp_path / "set", 4, 7)
    clips = select_clips(manifest, split="test").clips

    assert len(clips) == 4
    for clip in clips:
        samples, rate = soundfile.read(clip.path)
        assert rate == SAMPLE_RATE
        assert not samples[: SAMPLE_RATE // 3].any()
        assert clip.reference is not None
        assert split_of(clip.reference) == "test"
        assert clip.dataset == "synthetic_commands"


def test_speaking_held_out_commands_says_which_synthesisers_are_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")

    with pytest.raises(SettingsError, match="apt-get install espeak-ng"):
        speak_held_out.run(argparse.Namespace(folder=tmp_path, commands=1, seed=1))


def test_noise_is_finite_loud_enough_and_decided_by_the_seed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prepare, "NOISE_CLIPS", 8)
    for name, seed in (("first", 1), ("again", 1), ("other", 2)):
        write_noise(tmp_path / name, seed)
    first, again, other = (ClipStore(tmp_path / name) for name in ("first", "again", "other"))

    assert {(clip.text, clip.kind, clip.frames) for clip in first.clips} == {("", "noise", 800)}
    for clip in first.clips:
        assert np.isfinite(first.power(clip)).all()
        assert first.power(clip).max() > -4
        np.testing.assert_array_equal(first.power(clip), again.power(clip))
    assert not np.array_equal(first.power(first.clips[0]), other.power(other.clips[0]))
