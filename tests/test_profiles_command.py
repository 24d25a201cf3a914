"""`wyoming-piwhisper profiles`: what a person sees and what changes on the disk."""

from pathlib import Path

import pytest
from adapters import Place, base_of, make_place, write_profile
from fakes_tools import COMMIT, serving_hub

from wyoming_piwhisper.cli import main
from wyoming_piwhisper.engine.profile_card import read_card


@pytest.fixture
def place(tmp_path: Path) -> Place:
    made = make_place(tmp_path)
    write_profile(tmp_path / "profiles", base_of(made.model, "model"), made.plain(), "accent", "indian")
    return made


def profiles(place: Place, *arguments: str) -> int:
    return main(["profiles", *arguments, "--asr-model", str(place.model), "--profiles-dir", str(place.profiles)])


def test_profiles_are_listed_shown_and_removed(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    assert profiles(place, "list") == 0
    assert capsys.readouterr().out.startswith("accent-indian  rank 4, ")

    assert profiles(place, "show", "accent-indian") == 0
    shown = capsys.readouterr().out
    assert "base_model: model\n" in shown
    assert "matrices: 32\n" in shown

    assert profiles(place, "remove", "accent-indian") == 0
    assert not (place.profiles / "model" / "accent-indian").exists()
    assert profiles(place, "list") == 0
    assert "train-profiles" in capsys.readouterr().err


def test_verify_tells_what_cannot_be_used(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    assert profiles(place, "verify") == 0
    assert profiles(place, "verify", "accent-indian") == 0
    (place.profiles / "model" / "accent-indian" / "adapter_model.safetensors").write_bytes(b"")
    capsys.readouterr()

    assert profiles(place, "verify") == 1
    captured = capsys.readouterr()
    assert captured.err.startswith("accent-indian: adapter_model.safetensors cannot be read")
    assert captured.out == "0 profiles can be used, 1 cannot\n"
    assert profiles(place, "list") == 0
    assert "accent-indian  not used: adapter_model" in capsys.readouterr().out
    assert profiles(place, "show", "accent-indian") == 1


def test_any_lora_is_added_once_it_is_said_what_it_is_for(
    place: Place, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = place.profiles / "model" / "accent-indian"
    bare = tmp_path / "downloaded"
    source.rename(bare)
    (bare / "profile.yaml").unlink()

    assert profiles(place, "add", str(bare)) == 1
    assert "say what it is for" in capsys.readouterr().err
    assert profiles(place, "add", str(bare), "--trait", "gender", "--value", "female") == 0
    assert [path.name for path in (place.profiles / "model").iterdir()] == ["gender-female"]
    assert profiles(place, "verify") == 0


@pytest.mark.parametrize("value", ["../../escape", "Indian", "a b"])
def test_a_name_that_is_none_is_refused(
    place: Place, tmp_path: Path, value: str, capsys: pytest.CaptureFixture[str]
) -> None:
    source = place.profiles / "model" / "accent-indian"

    assert profiles(place, "add", str(source), "--trait", "accent", "--value", value) == 1
    assert "makes no profile" in capsys.readouterr().err
    assert {path.name for path in tmp_path.iterdir()} == {"model", "profiles"}


def test_what_does_not_fit_is_not_added_and_the_old_one_stays(
    place: Place, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good = place.profiles / "model" / "accent-indian"
    weights = (good / "adapter_model.safetensors").read_bytes()
    bad = tmp_path / "bad"
    bad.mkdir()
    for name in ("adapter_config.json", "profile.yaml"):
        (bad / name).write_bytes((good / name).read_bytes())
    (bad / "adapter_model.safetensors").write_bytes(weights[:-40])

    assert profiles(place, "add", str(bad)) == 1
    assert "cannot be read" in capsys.readouterr().err
    assert (good / "adapter_model.safetensors").read_bytes() == weights
    assert [path.name for path in (place.profiles / "model").iterdir()] == ["accent-indian"]


@pytest.mark.parametrize("action", ["show", "remove", "verify"])
def test_a_profile_that_is_not_there_is_told(place: Place, action: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert profiles(place, action, "accent-martian") == 1
    assert capsys.readouterr().err == ("wyoming-piwhisper: accent-martian: no such profile; there are: accent-indian\n")


def test_a_source_that_is_not_there_is_told(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    assert profiles(place, "add", "nowhere") == 1
    assert capsys.readouterr().err == "wyoming-piwhisper: nowhere: no such folder, and no hub id such as owner/name\n"


def test_an_adapter_is_added_from_the_hub(
    place: Place, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    source = place.profiles / "model" / "accent-indian"
    names = ("adapter_config.json", "adapter_model.safetensors")
    files = {name: (source / name).read_bytes() for name in names} | {"adapter_model.bin": b"pickle"}
    with serving_hub(files=files) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
        assert profiles(place, "add", hub.repo, "--trait", "gender", "--value", "male") == 0
        assert profiles(place, "add", hub.repo) == 1
        assert "has no profile.yaml: say what it is for" in capsys.readouterr().err
        hub.files.pop("adapter_model.safetensors")
        assert profiles(place, "add", hub.repo, "--trait", "gender", "--value", "male") == 1
        assert "only LoRA adapters that PEFT saved as safetensors" in capsys.readouterr().err
        assert not [path for path, _ in hub.requests if path.endswith(".bin")]
    assert read_card(place.profiles / "model" / "gender-male").data == f"{hub.repo} at {COMMIT}"
    assert profiles(place, "verify", "gender-male") == 0
    assert profiles(place, "add", "no hub id") == 1
    assert "no such folder, and no hub id" in capsys.readouterr().err
