"""Profiles as folders: what is used, what is refused and why."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from adapters import base_of, make_place, write_profile
from safetensors.torch import load_file, save_file

from wyoming_piwhisper.domain.errors import ProfileError
from wyoming_piwhisper.engine.lora_file import read_lora_file
from wyoming_piwhisper.engine.profile_card import fingerprint, read_card, write_card
from wyoming_piwhisper.engine.profile_library import BaseModel, ProfileLibrary, check_profile

WEIGHTS = "adapter_model.safetensors"
CONFIG = "adapter_config.json"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, BaseModel]:
    """A folder with one good profile, and its base model."""
    folder = tmp_path_factory.mktemp("profiles")
    place = make_place(folder)
    base = base_of(folder / "model", "someone/tiny")
    write_profile(folder / "profiles", base, place.plain(), "accent", "indian")
    return folder / "profiles", base


@pytest.fixture
def good(made: tuple[Path, BaseModel], tmp_path: Path) -> tuple[Path, BaseModel]:
    """A copy of the good profile's folder that a test may damage."""
    root, base = made
    shutil.copytree(root, tmp_path / "profiles")
    return tmp_path / "profiles" / "someone--tiny" / "accent-indian", base


def test_a_good_profile_is_found(good: tuple[Path, BaseModel]) -> None:
    folder, base = good
    library = ProfileLibrary([folder.parent.parent], base)

    assert list(library.profiles) == ["accent-indian"]
    assert library.refused == {}
    assert library.profiles["accent-indian"].lora.rank == 4
    assert library.profiles["accent-indian"].card.base_model == "someone/tiny"


def edit_config(**changes: object) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        path = folder / CONFIG
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    return edit


def edit_weights(change: Callable[[dict[str, torch.Tensor]], None]) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        tensors = load_file(folder / WEIGHTS)
        change(tensors)
        save_file(tensors, folder / WEIGHTS)

    return edit


def drop_a_half(tensors: dict[str, torch.Tensor]) -> None:
    del tensors[next(key for key in tensors if ".lora_A." in key)]


def other_shape(tensors: dict[str, torch.Tensor]) -> None:
    key = next(key for key in tensors if ".lora_A." in key)
    tensors[key] = torch.zeros(4, 63)


def no_such_matrix(tensors: dict[str, torch.Tensor]) -> None:
    tensors["base_model.model.model.encoder.layers.9.fc1.lora_A.weight"] = torch.zeros(4, 64)


def a_convolution(tensors: dict[str, torch.Tensor]) -> None:
    tensors["base_model.model.model.encoder.conv1.lora_A.weight"] = torch.zeros(4, 64)


def a_whole_matrix(tensors: dict[str, torch.Tensor]) -> None:
    tensors["base_model.model.model.encoder.conv1.weight"] = torch.zeros(4, 64)


def no_number(tensors: dict[str, torch.Tensor]) -> None:
    next(tensor for key, tensor in tensors.items() if ".lora_A." in key)[0, 0] = torch.nan


def in_bfloat16(edit: Callable[[dict[str, torch.Tensor]], None]) -> Callable[[dict[str, torch.Tensor]], None]:
    def edit_in_bfloat16(tensors: dict[str, torch.Tensor]) -> None:
        tensors.update({key: tensor.bfloat16() for key, tensor in tensors.items()})
        edit(tensors)

    return edit_in_bfloat16


def whole_numbers(tensors: dict[str, torch.Tensor]) -> None:
    tensors.update({key: tensor.int() for key, tensor in tensors.items()})


def test_half_precision_is_read(good: tuple[Path, BaseModel]) -> None:
    folder, base = good
    edit_weights(in_bfloat16(lambda _: None))(folder)

    assert ProfileLibrary([folder.parent.parent], base).refused == {}


def as_pickle(folder: Path) -> None:
    (folder / WEIGHTS).rename(folder / "adapter_model.bin")


def edit_card(**changes: str) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        path = folder / "profile.yaml"
        path.write_text("\n".join([*path.read_text().splitlines(), *(f"{k}: {v}" for k, v in changes.items())]))

    return edit


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda folder: (folder / "profile.yaml").unlink(), r"profile\.yaml cannot be read"),
        (lambda folder: (folder / "profile.yaml").write_text("- a\n"), r"profile\.yaml holds no mapping"),
        (lambda folder: (folder / "profile.yaml").write_text("{a: ["), r"profile\.yaml cannot be read"),
        (lambda folder: (folder / "profile.yaml").write_text("trait: age\n"), "lacks value, base_model, base_finger"),
        (edit_card(value="chinese"), "describes accent-chinese"),
        (edit_card(base_fingerprint="00ff"), "fingerprint 00ff, not for someone/tiny"),
        (lambda folder: (folder / CONFIG).unlink(), r"adapter_config\.json cannot be read"),
        (lambda folder: (folder / CONFIG).write_text("[]"), "holds no JSON object"),
        (edit_config(peft_type="IA3"), "peft_type is 'IA3'"),
        (edit_config(use_dora=True), "use_dora"),
        (edit_config(bias="all"), "bias is 'all'"),
        (edit_config(modules_to_save=["proj_out"]), "modules_to_save"),
        (edit_config(lora_alpha="much"), "lora_alpha is 'much'"),
        (edit_config(alpha_pattern={"(": 3}), r"adapter_config\.json: "),
        (lambda folder: (folder / WEIGHTS).unlink(), "is missing"),
        (as_pickle, "can run code"),
        (lambda folder: (folder / WEIGHTS).write_bytes(b""), f"{WEIGHTS} cannot be read"),
        (lambda folder: (folder / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes()[:-9]), "cannot be read"),
        (edit_weights(dict.clear), "holds no LoRA matrices"),
        (edit_weights(drop_a_half), "has only lora_B"),
        (edit_weights(other_shape), r"lora_A \(4, 63\)"),
        (edit_weights(no_such_matrix), r"the base model has no model\.encoder\.layers\.9\.fc1\.weight"),
        (edit_weights(a_convolution), "of the base model is no matrix"),
        (edit_weights(a_whole_matrix), "is no LoRA matrix"),
        (edit_weights(no_number), r"lora_A\.weight holds values that are no finite numbers"),
        (edit_weights(in_bfloat16(no_number)), "no finite numbers"),
        (edit_weights(whole_numbers), "is of type I32, not one of F32, F16, BF16"),
    ],
)
def test_what_cannot_be_used_is_refused_with_a_reason_and_told_once(
    good: tuple[Path, BaseModel],
    damage: Callable[[Path], None],
    reason: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    folder, base = good
    damage(folder)

    library = ProfileLibrary([folder.parent.parent], base)
    library.refresh()

    assert library.profiles == {}
    with pytest.raises(ProfileError, match=reason) as refusal:
        check_profile(folder, base)
    assert "\n" not in str(refusal.value)
    assert library.refused["accent-indian"].reason == str(refusal.value)
    assert len(caplog.records) == 1


def test_a_repaired_profile_is_used(good: tuple[Path, BaseModel]) -> None:
    folder, base = good
    content = (folder / "profile.yaml").read_text()
    (folder / "profile.yaml").write_text("trait: age\n")
    library = ProfileLibrary([folder.parent.parent], base)

    (folder / "profile.yaml").write_text(content)
    library.refresh()

    assert list(library.profiles) == ["accent-indian"]
    assert library.refused == {}


def test_the_first_folder_wins_and_missing_ones_do_no_harm(good: tuple[Path, BaseModel], tmp_path: Path) -> None:
    folder, base = good
    own = tmp_path / "own" / "someone--tiny" / "accent-indian"
    shutil.copytree(folder, own)
    half_written = tmp_path / "own" / "someone--tiny" / "gender-male.part"
    shutil.copytree(folder, half_written)

    library = ProfileLibrary([tmp_path / "nowhere", tmp_path / "own", folder.parent.parent], base)

    assert [profile.folder for profile in library.profiles.values()] == [own]
    assert library.refused == {}


def test_an_unchanged_profile_stays_the_same_object(good: tuple[Path, BaseModel]) -> None:
    folder, base = good
    library = ProfileLibrary([folder.parent.parent], base)
    before = library.profiles["accent-indian"]

    library.refresh()

    assert library.profiles["accent-indian"] is before


def test_scaling_follows_the_options_of_peft(good: tuple[Path, BaseModel]) -> None:
    folder, base = good
    edit_config(alpha_pattern={"layers.0.fc1": 2}, use_rslora=True)(folder)

    scalings = read_lora_file(folder, base.shapes).scalings

    assert scalings["model.encoder.layers.0.fc1.weight"] == 2 / 2
    assert scalings["model.encoder.layers.1.fc1.weight"] == 8 / 2


def test_a_profile_made_over_the_one_for_all_needs_just_that_one(tmp_path: Path) -> None:
    place = make_place(tmp_path)
    common = place.add("all", "all", 1)
    place.add("accent", "indian", 2, over=fingerprint(common / WEIGHTS))
    place.add("gender", "male", 3)
    library = ProfileLibrary([place.profiles], place.base)
    assert set(library.profiles) == {"one-for-all", "accent-indian", "gender-male"}

    place.add("all", "all", 4)
    library.refresh()
    assert set(library.profiles) == {"one-for-all", "gender-male"}
    assert "train it again" in library.refused["accent-indian"].reason

    shutil.rmtree(common)
    library.refresh()
    assert "there is none that can be used" in library.refused["accent-indian"].reason

    place.add("all", "all", 1)
    library.refresh()
    assert set(library.profiles) == {"one-for-all", "accent-indian", "gender-male"}


def test_a_card_reads_back_as_it_was_written(good: tuple[Path, BaseModel]) -> None:
    folder, _ = good
    card = read_card(folder)
    write_card(folder, card)

    assert read_card(folder) == card
