"""The trait classifiers: trained, calibrated, measured, written, loaded."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from speakers import utterance, write_speakers

from wyoming_piwhisper.cli import main
from wyoming_piwhisper.domain.classification import (
    balanced_accuracy,
    bootstrap_by_speaker,
    expected_calibration_error,
    macro_f1,
    within_one,
)
from wyoming_piwhisper.domain.errors import ModelFormatError
from wyoming_piwhisper.engine.onnx_graph import open_session
from wyoming_piwhisper.engine.trait_graph import CONVOLUTIONS, trait_graph
from wyoming_piwhisper.engine.trait_models import Calibration, TraitModels
from wyoming_piwhisper.training import prepare
from wyoming_piwhisper.training.manifest import read_clips
from wyoming_piwhisper.training.trait_labels import labels_of, traits_of
from wyoming_piwhisper.training.trait_net import TraitNet

SMALL = ("--crops", "8", "--processes", "1")


@pytest.fixture(autouse=True)
def _little_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prepare, "NOISE_CLIPS", 4)


def test_a_network_has_twelve_convolutions() -> None:
    net = TraitNet(2)

    assert len(net.convolutions) == CONVOLUTIONS == 12


@pytest.mark.parametrize("frames", [40, 77, 300])
def test_the_graph_that_serves_is_the_network_that_was_trained(frames: int) -> None:
    torch.manual_seed(frames)
    net = TraitNet(5).train()
    with torch.no_grad():
        net(torch.randn(8, 80, 64))  # gives the norms something to remember
    net.eval()
    heard = np.random.default_rng(frames).normal(0, 0.5, (1, 80, frames)).astype(np.float32)
    session = open_session(trait_graph({name: tensor.numpy() for name, tensor in net.state_dict().items()}, 80), 1)

    (found,) = session.run(None, {"log_mel": heard})

    with torch.inference_mode():
        np.testing.assert_allclose(found, net(torch.from_numpy(heard)).numpy(), atol=1e-4)


@pytest.mark.usefixtures("one_torch_thread")
def test_gender_is_learned_written_and_told_by_the_engine(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    manifest = write_speakers(tmp_path / "corpus")
    arguments = ["--manifest", str(manifest), "--work", str(tmp_path / "work"), "--output", str(tmp_path / "traits")]

    assert main(["train-traits", *arguments, "--trait", "gender", "accent", "--steps", "30", *SMALL]) == 0
    table = capsys.readouterr().out.splitlines()
    results = json.loads((tmp_path / "traits" / "results.json").read_text())
    models = TraitModels(tmp_path / "traits")
    woman, man = (models.infer(utterance(gender, "us", 3.0, 99)) for gender in ("female", "male"))

    assert len(table) == 2 + 3 * 3
    assert [line["whom"] for line in results[::3]] == ["everybody", "no children", "everybody"]
    assert [(line["trait"], line["seconds"]) for line in results[:3]] == [("gender", 1), ("gender", 2), ("gender", 3)]
    assert results[2]["balanced_accuracy"]["value"] == 1
    assert results[2]["speakers"] == 3
    assert models.labels == {"gender": ("female", "male"), "accent": labels_of("accent")}
    assert woman["gender"].value in {"female", None}
    assert man["gender"].value in {"male", None}
    assert {woman["gender"].value, man["gender"].value} != {None}
    assert {estimate.value for estimate in models.infer(np.zeros(100, np.float32)).values()} == {None}


@pytest.mark.usefixtures("one_torch_thread")
def test_a_data_set_that_is_left_out_is_what_is_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    manifest = write_speakers(tmp_path / "corpus")
    arguments = ["--manifest", str(manifest), "--work", str(tmp_path / "work"), "--output", str(tmp_path / "traits")]
    arguments += ["--trait", "gender", "--steps", "3", *SMALL, "--leave-out", "hum"]

    assert main(["train-traits", *arguments]) == 0

    assert "| gender | everybody | 3 s | 12 | 6 |" in capsys.readouterr().out
    assert not (tmp_path / "traits").exists()


def test_a_manifest_without_traits_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "manifest.jsonl").write_text("")
    arguments = ["--manifest", str(tmp_path / "manifest.jsonl"), "--work", str(tmp_path), "--output", str(tmp_path)]

    assert main(["train-traits", *arguments, "--processes", "1"]) == 2
    assert "no clips in" in capsys.readouterr().err


@pytest.mark.parametrize("damage", ["traits.json", "model.safetensors"])
def test_damaged_classifiers_are_told(tmp_path: Path, damage: str) -> None:
    (tmp_path / "traits.json").write_text('{"traits": {"gender": {}}}')
    (tmp_path / damage).write_text("{")

    with pytest.raises(ModelFormatError, match="the trait classifiers cannot be read"):
        TraitModels(tmp_path)


def test_confidence_falls_with_less_speech_and_below_the_threshold_nothing_is_claimed() -> None:
    calibration = Calibration(("female", "male"), (1.0, 3.0), (4.0, 1.0), 0.8)
    logits = np.array([2.0, 0.0], np.float32)

    long, middle, short = (calibration.estimate(logits, seconds) for seconds in (3.0, 2.0, 0.5))

    assert long.value == "female"
    assert long.confidence == pytest.approx(1 / (1 + np.exp(-2)))
    assert long.confidence > middle.confidence > short.confidence > 0.5
    assert short.value is None


def test_traits_are_read_from_a_manifest() -> None:
    assert traits_of({"age": 9, "gender": "female", "accent_group": "nonnative_chinese"}) == {
        "age": "child",
        "gender": "female",
        "accent": "chinese",
    }
    assert traits_of({"age": "fourties", "age_group": "forties", "gender": "other"}) == {"age": "forties"}
    assert traits_of({"age": "seventies", "age_group": "sixties_plus"}) == {"age": "seventies"}
    assert traits_of({"age": None, "age_group": "twenties", "accent_group": "mixed"}) == {"age": "twenties"}
    assert traits_of({"accent_group": "scottish"}) == {"accent": "scottish"}
    assert traits_of({"accent_group": "A word, or two"}) == traits_of({"accent_group": None}) == {}


def test_clips_without_a_transcript_have_traits_too(tmp_path: Path) -> None:
    line = {"path": "a.wav", "text": None, "dataset": "d", "split": "train", "gender": "male", "age": 31}
    (tmp_path / "manifest.jsonl").write_text(json.dumps(line))

    (clip,) = read_clips(tmp_path / "manifest.jsonl")

    assert (clip.reference, clip.traits, clip.age_years) == (None, {"gender": "male", "age": "thirties"}, 31)


def test_figures_of_classification() -> None:
    truth, found = np.array([0, 0, 0, 1, 2]), np.array([0, 0, 1, 1, 0])

    assert balanced_accuracy(truth, found) == pytest.approx((2 / 3 + 1 + 0) / 3)
    assert macro_f1(truth, found) == pytest.approx((4 / 6 + 2 / 3 + 0) / 3)
    assert within_one(truth, found) == pytest.approx(4 / 5)
    confidences, right = np.array([0.95, 0.95, 0.55, 0.55]), np.array([True, True, True, False])
    assert expected_calibration_error(confidences, right) == pytest.approx(0.05)


def test_speakers_are_drawn_with_all_their_clips() -> None:
    (draw,) = bootstrap_by_speaker(["a", "b", "a"], 1, 0)

    assert sorted(draw.tolist()) in ([0, 0, 2, 2], [0, 1, 2], [1, 1])
