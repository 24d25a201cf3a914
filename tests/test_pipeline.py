"""The bundled model from nothing, in miniature."""

import argparse
import json
import random
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import soundfile
import torch

from wyoming_piwhisper.commands import train_home_en as command
from wyoming_piwhisper.domain.audio import SAMPLE_RATE
from wyoming_piwhisper.domain.errors import SettingsError
from wyoming_piwhisper.engine.checkpoint import read_checkpoint
from wyoming_piwhisper.engine.whisper_torch import TorchWhisper
from wyoming_piwhisper.training import pipeline, prepare, synthesis
from wyoming_piwhisper.training.clips import ClipStore
from wyoming_piwhisper.training.home_en import CHECKPOINT
from wyoming_piwhisper.training.pipeline import Plan, train_home_en
from wyoming_piwhisper.training.prepare import draw_held_out, split_of
from wyoming_piwhisper.training.recipe import Recipe
from wyoming_piwhisper.training.sentences import Grammar, Sentence
from wyoming_piwhisper.training.splice import SpokenWord, WordBank

if TYPE_CHECKING:
    from collections.abc import Sequence

UTTERANCES = 60
TINY = Recipe(
    d_model=64, encoder_layers=1, decoder_layers=1, frames_per_batch=800, utterances=UTTERANCES, warmup_steps=4
)
SAID = ("lights on", "lights off", "stop", "what time is it", "turn on the light", "two", "open the door please")
needs_espeak = pytest.mark.skipif(shutil.which("espeak-ng") is None, reason="espeak-ng is not installed")

pytestmark = pytest.mark.usefixtures("one_torch_thread")


class PowerCutError(Exception):
    """Ends a run in the middle."""


class EveryWord(WordBank):
    """Has every word."""

    def __contains__(self, word: str) -> bool:
        return True

    def draw(self, word: str, source: random.Random) -> SpokenWord:
        return SpokenWord(word, "t", np.zeros((20, 80), np.float16))


@pytest.fixture
def miniature(monkeypatch: pytest.MonkeyPatch) -> None:
    """A few of everything, spoken by espeak-ng alone; a model that knows nothing yet finds no words to splice."""

    def voice(source: random.Random, split: synthesis.Split) -> synthesis.Voice:
        while (drawn := synthesis.random_voice(source, split)).engine != "espeak-ng":
            pass
        return drawn

    def held_out(grammar: Grammar, _: int, split: synthesis.Split) -> list[Sentence]:
        return draw_held_out(grammar, 6, split)

    sizes = {"SYNTHETIC_COMMANDS": 40, "SYNTHETIC_WORDS": 10, "SYNTHETIC_GENERAL": 6, "SPLICED_COMMANDS": 30}
    for name, size in (sizes | {"TOKENS": 90, "LEAST_PHONEME_COUNT": 2}).items():
        monkeypatch.setattr(pipeline, name, size)
    monkeypatch.setattr(pipeline, "WATCHED_CLIPS", {"held": 2, "words": 2, "read": 2})
    monkeypatch.setattr(pipeline, "draw_held_out", held_out)
    monkeypatch.setattr(pipeline, "require_programs", lambda: None)
    monkeypatch.setattr(prepare, "random_voice", voice)
    monkeypatch.setattr(prepare, "NOISE_CLIPS", 4)
    monkeypatch.setattr(pipeline, "WordBank", EveryWord)


def write_corpus(folder: Path) -> Path:
    """Wav files of noise bursts that are called recordings, and their manifest."""
    generator = np.random.default_rng(0)
    lines: list[dict[str, str]] = []
    for split, count in (("train", 28), ("dev", 7)):
        for number in range(count):
            text = "" if split == "train" and number % 9 == 8 else SAID[number % len(SAID)]
            name = f"{split}-{number}.wav"
            seconds = 0.4 + 0.2 * len(text.split())
            soundfile.write(folder / name, generator.normal(0, 0.05, int(seconds * SAMPLE_RATE)), SAMPLE_RATE)
            lines.append({"path": name, "text": text, "dataset": "bursts", "split": split})
    (folder / "manifest.jsonl").write_text("\n".join(map(json.dumps, lines)))
    return folder / "manifest.jsonl"


def progress_of(plan: Plan) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (plan.work / "run" / "progress.jsonl").read_text().splitlines()]


@needs_espeak
@pytest.mark.usefixtures("miniature")
def test_a_run_that_was_cut_off_goes_on_where_it_stood_and_makes_a_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = Plan(write_corpus(tmp_path), tmp_path / "work", tmp_path / "model", 2, TINY)
    with monkeypatch.context() as cut:
        cut.setattr(pipeline, "prepare_spliced", _cut_off)
        with pytest.raises(PowerCutError):
            train_home_en(plan)
    (before,) = progress_of(plan)
    # A killed run leaves the file in which its processes met; whatever it holds, the next run must start.
    (plan.work / "run" / "rendezvous").write_bytes(b"stale")
    prepared = {file: file.stat().st_mtime_ns for file in plan.work.glob("*/frames.f16")}

    train_home_en(plan)

    assert pipeline.SPLICE_AT * UTTERANCES <= before["heard"] < UTTERANCES
    steps = [(line["step"], line["heard"]) for line in progress_of(plan)]
    assert steps[1] == (before["step"], before["heard"])
    assert steps == sorted(steps)
    assert steps[-1][1] >= UTTERANCES
    assert all(file.stat().st_mtime_ns == written for file, written in prepared.items())
    _check_stores(plan.work)
    _check_model(plan)


def _cut_off(_: Plan) -> None:
    raise PowerCutError


def _check_stores(work: Path) -> None:
    synthetic, held = ClipStore(work / "synthetic").clips, ClipStore(work / "held").clips
    heard = {clip.text for clip in synthetic if clip.kind == "command"}
    assert len(heard) == 40
    assert {split_of(text) for text in heard} == {"train"}
    assert {split_of(clip.text) for clip in held} == {"dev"}
    assert not {clip.text for clip in synthetic} & {clip.text for clip in held}
    assert not {clip.source for clip in synthetic} & {clip.source for clip in held}
    spliced = ClipStore(work / "spliced").clips
    assert {split_of(clip.text) for clip in spliced} == {"train"}
    assert [clip.kind for clip in spliced] == ["spliced"] * 30


def _check_model(plan: Plan) -> None:
    checkpoint = read_checkpoint(plan.output)
    session = TorchWhisper.load(checkpoint, torch.device("cpu")).encode(np.zeros((80, 100), np.float32))
    assert np.isfinite(session.advance(checkpoint.rules.prompt("en"))).all()
    state = torch.load(plan.work / "run" / CHECKPOINT, weights_only=True)
    average = state["average"]["whisper.model.encoder.conv1.weight"]
    assert not torch.equal(average, state["objective"]["whisper.model.encoder.conv1.weight"])


def test_missing_synthesisers_are_named_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")

    with pytest.raises(SettingsError, match="apt-get install espeak-ng flite festival"):
        train_home_en(Plan(tmp_path / "manifest.jsonl", tmp_path / "work", tmp_path / "model", 1, TINY))
    assert list(tmp_path.iterdir()) == []


def test_a_manifest_that_is_not_there_is_a_settings_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline, "require_programs", lambda: None)

    with pytest.raises(SettingsError, match="nowhere"):
        train_home_en(Plan(tmp_path / "nowhere.jsonl", tmp_path / "work", tmp_path / "model", 1, TINY))


def test_the_command_hands_its_arguments_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    plans: list[Plan] = []
    monkeypatch.setattr(pipeline, "train_home_en", plans.append)
    parser = argparse.ArgumentParser()
    command.add_parser(parser.add_subparsers())
    paths: Sequence[str] = ("--manifest", "m.jsonl", "--work", "w", "--output", str(tmp_path))

    status = command.run(
        parser.parse_args(["train-home-en", *paths, "--utterances", "9", "--seed", "4", "--processes", "3"])
    )

    assert status == 0
    assert plans == [Plan(Path("m.jsonl"), Path("w"), tmp_path, 3, Recipe(utterances=9, seed=4), None)]
    assert str(tmp_path) in capsys.readouterr().out
