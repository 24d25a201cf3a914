"""A profile trained end to end on a few clips, and taken in by a recogniser that is running."""

from pathlib import Path

import pytest
from adapters import Place, base_of, make_place
from speakers import TEXTS, utterance, write_speakers

from wyoming_piwhisper.cli import main
from wyoming_piwhisper.domain.engine_plan import EnginePlan
from wyoming_piwhisper.domain.settings import ProfileSettings
from wyoming_piwhisper.domain.transcription import RecognitionOptions, Transcription
from wyoming_piwhisper.engine.interface import Engine
from wyoming_piwhisper.engine.loading import load_engine
from wyoming_piwhisper.engine.profile_card import fingerprint, read_card
from wyoming_piwhisper.engine.profile_library import check_profile
from wyoming_piwhisper.training import prepare

WAITING = ProfileSettings(not_ready="wait")


@pytest.fixture(autouse=True)
def _little_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prepare, "NOISE_CLIPS", 4)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return make_place(tmp_path)


def train(place: Place, manifest: Path, command: str, *options: str) -> int:
    arguments = ["--manifest", str(manifest), "--work", str(place.model.parent / "work"), "--processes", "1"]
    arguments += ["--output", str(place.profiles), "--asr-model", str(place.model), "--rank", "2"]
    return main([command, *arguments, *options])


def heard(engine: Engine, profile: str) -> Transcription:
    opened = engine.open(RecognitionOptions("en", profile))
    opened.feed(utterance("female", "india", 2.0, 5))
    return opened.finish()


@pytest.mark.usefixtures("one_torch_thread")
def test_a_trained_profile_serves_without_a_restart_and_changes_no_other(place: Place, tmp_path: Path) -> None:
    manifest = write_speakers(tmp_path / "corpus", 12)
    engine = load_engine(EnginePlan(place.model, "model", (place.profiles,), profiles=WAITING))
    assert train(place, manifest, "train-profile", "--trait", "accent", "--value", "indian", "--steps", "2") == 0
    before = {profile: heard(engine, profile) for profile in ("none", "accent-indian")}

    assert train(place, manifest, "train-profile", "--trait", "gender", "--value", "female", "--steps", "2") == 0

    assert heard(engine, "gender-female+accent-indian").profile == "gender-female+accent-indian"
    for profile, old in before.items():
        new = heard(engine, profile)
        assert (new.text, new.average_log_probability) == (old.text, old.average_log_probability)
    assert before["accent-indian"].average_log_probability != before["none"].average_log_probability


@pytest.mark.usefixtures("one_torch_thread")
def test_a_profile_learns_what_its_group_says(place: Place, tmp_path: Path) -> None:
    manifest = write_speakers(tmp_path / "corpus", 12)
    engine = load_engine(EnginePlan(place.model, "model", (place.profiles,), profiles=WAITING))
    options = ("--trait", "gender", "--value", "female", "--steps", "20", "--learning-rate", "0.02")

    assert train(place, manifest, "train-profile", *options) == 0

    words = {word for text in TEXTS for word in text.split()}
    assert not words & set(heard(engine, "none").text.split())
    assert len(words & set(heard(engine, "gender-female").text.split())) >= 2


@pytest.mark.usefixtures("one_torch_thread")
def test_a_library_has_a_profile_for_each_large_group_that_it_helps(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wyoming_piwhisper.training.profile_pipeline.LEAST_SPEAKERS", 4)
    monkeypatch.setattr("wyoming_piwhisper.training.profile_pipeline.LEAST_MINUTES", 0.3)
    manifest = write_speakers(tmp_path / "corpus", 14)

    options = ("--steps", "10", "--learning-rate", "0.01")
    assert train(place, manifest, "train-profiles", *options) == 0

    folder = place.profiles / "model"
    base = base_of(place.model, "model")
    names = {path.name for path in folder.iterdir()}
    assert {"gender-female", "one-for-all"} <= names
    assert {"accent-chinese", "age-fifties"}.isdisjoint(names), "too few speakers"
    assert "gender-male" not in names, "no man in the development split"
    ranks = {path.name: check_profile(path, base)[1].rank for path in folder.iterdir()}
    assert (ranks["gender-female"], ranks["one-for-all"]) == (2, 6)
    assert read_card(folder / "one-for-all").trait == "all"
    assert "from" in read_card(folder / "gender-female").effect
    assert read_card(folder / "gender-female").over == fingerprint(folder / "one-for-all" / "adapter_model.safetensors")
    written = {path: path.stat().st_mtime_ns for path in folder.glob("*/adapter_model.safetensors")}
    assert train(place, manifest, "train-profiles", *options) == 0
    assert {path: path.stat().st_mtime_ns for path in written} == written


def test_a_group_without_speakers_is_told(place: Place, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    manifest = write_speakers(tmp_path / "corpus", 4)

    assert train(place, manifest, "train-profile", "--trait", "accent", "--value", "martian") == 2
    assert "accent-martian; values there: american, indian" in capsys.readouterr().err
    assert train(place, manifest, "train-profile", "--trait", "accent") == 2
    assert "--value: missing" in capsys.readouterr().err
