"""Profiles merged into models: the same as PEFT's result, never in place, bounded in memory."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from adapters import WEIGHTS, Place, give_effect, make_place, plain_model, with_adapter
from peft import LoraConfig

from wyoming_piwhisper.domain.errors import OutOfMemoryError, ProfileError
from wyoming_piwhisper.domain.profiles import Choice, ProfileKey
from wyoming_piwhisper.domain.traits import KnownTraits
from wyoming_piwhisper.engine.decoding import DecoderSession, SpeechModel
from wyoming_piwhisper.engine.features import Spectrogram
from wyoming_piwhisper.engine.lora_file import read_lora_file
from wyoming_piwhisper.engine.merged_models import MergedModels
from wyoming_piwhisper.engine.merging_torch import Merger, merge
from wyoming_piwhisper.engine.profile_card import fingerprint
from wyoming_piwhisper.engine.profile_library import ProfileLibrary
from wyoming_piwhisper.engine.whisper_torch import TorchWhisper

HEARD: Spectrogram = np.random.default_rng(0).normal(0, 0.5, (80, 120)).astype(np.float32)
VALUES = ("indian", "chinese", "american", "england")


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return make_place(tmp_path)


def said(model: SpeechModel) -> np.ndarray[Any, Any]:
    logits: np.ndarray[Any, Any] = model.encode(HEARD).advance([1, 2, 3])
    return logits


@pytest.mark.parametrize(
    "options", [{}, {"use_rslora": True}, {"alpha_pattern": {"fc1": 3}, "rank_pattern": {"decoder.layers.1.fc2": 2}}]
)
def test_three_merged_profiles_equal_the_result_of_peft(place: Place, options: dict[str, Any]) -> None:
    weights = [1.0, 0.5, 1.25]
    plain = options == {}
    adapted = with_adapter(place.plain(), 1, "one", **options)
    for number, name in enumerate(("two", "three"), 2):
        # PEFT refuses to add up adapters with patterns; two of them are enough to see that each is read right.
        adapted.add_adapter(name, LoraConfig(r=2 * number, lora_alpha=number, target_modules=["q_proj", "fc1"]))
    give_effect(adapted)
    adapted.save_pretrained(str(place.profiles))
    names = ["one", "two", "three"] if plain else ["one"]
    files = [read_lora_file(place.profiles / name, place.base.shapes) for name in names]

    ours = merge(place.state, list(zip(files, weights, strict=False)))

    if plain:
        adapted.add_weighted_adapter(names, weights, "all", combination_type="cat")
    merged = adapted.base_model
    merged.merge_adapter(["all"] if plain else ["one"])
    theirs = {key.replace(".base_layer", ""): value for key, value in merged.model.state_dict().items()}
    assert len(ours) == 32
    for name, weight in ours.items():
        torch.testing.assert_close(weight, theirs[name], atol=1e-5, rtol=1e-5)
        assert not torch.equal(weight, place.state[name])


def test_a_merged_model_is_new_and_shares_what_did_not_change(place: Place) -> None:
    place.add("accent", "indian", 1)
    models = place.models()
    before = said(models.base)

    found = models.fetch(ProfileKey.parse("accent-indian"))

    assert str(found.key) == "accent-indian"
    assert not np.array_equal(said(found.model), before)
    np.testing.assert_array_equal(said(models.base), before)
    assert 0 < models.cached_bytes < models.base.own_bytes


def test_a_merge_that_was_prepared_is_the_same_and_leaves_the_last_one_alone(place: Place) -> None:
    folders = [place.add("accent", "indian", 1), place.add("gender", "male", 2)]
    files = [read_lora_file(folder, place.base.shapes) for folder in folders]
    merger = Merger(place.state)
    expected = merge(place.state, [(files[0], 0.5)])

    merger.prepare(set(files[0].scalings) | set(files[1].scalings))
    merged = merger.merge([(files[0], 0.5)])
    merger.prepare(list(files[0].scalings))
    merger.merge([(files[1], 1.0)])

    assert merged.keys() == expected.keys()
    assert all(torch.equal(merged[matrix], expected[matrix]) for matrix in merged)


def test_the_same_key_again_is_a_hit_and_the_same_model(place: Place) -> None:
    place.add("accent", "indian", 1)
    place.add("gender", "male", 2)
    models = place.models()
    key = ProfileKey.parse("gender-male+accent-indian")

    first = models.fetch(key)
    again = models.fetch(key)

    assert first.model is again.model
    assert (first.was_cached, again.was_cached) == (False, True)
    assert (models.counts.hits, models.counts.misses, models.counts.evictions) == (1, 1, 0)
    assert models.fetch(ProfileKey()).model is models.base
    assert (models.counts.hits, models.counts.misses) == (1, 1)


def test_the_bound_holds_while_more_profiles_than_fit_are_cycled_through(place: Place) -> None:
    for seed, value in enumerate(VALUES):
        place.add("accent", value, seed)
    one = place.models()
    one.fetch(ProfileKey.parse("accent-indian"))
    limit = 2 * one.cached_bytes + 1
    models = place.models(limit)

    for value in VALUES * 3:
        models.fetch(ProfileKey.parse(f"accent-{value}"))
        assert models.cached_bytes <= limit

    assert [str(key) for key in models.cached()] == ["accent-american", "accent-england"]
    assert (models.counts.misses, models.counts.evictions) == (12, 10)


def test_the_least_recently_used_goes_first(place: Place) -> None:
    for seed, value in enumerate(VALUES):
        place.add("accent", value, seed)
    keys = [ProfileKey.parse(f"accent-{value}") for value in VALUES]
    one = place.models()
    one.fetch(keys[0])
    models = place.models(2 * one.cached_bytes)

    for number in (0, 1, 0, 2):
        models.fetch(keys[number])

    assert list(models.cached()) == [keys[0], keys[2]]


def test_a_profile_added_later_serves_and_changes_no_other(place: Place) -> None:
    place.add("accent", "indian", 1)
    models = place.models()
    known = KnownTraits(gender="female", accent="indian").estimates()
    assert str(models.choose(Choice(), known)) == "accent-indian"
    before = said(models.fetch(ProfileKey.parse("accent-indian")).model)

    place.add("gender", "female", 2)

    assert str(models.choose(Choice(), known)) == "gender-female+accent-indian"
    np.testing.assert_array_equal(said(models.fetch(ProfileKey.parse("accent-indian")).model), before)


def test_a_profile_made_over_the_one_for_all_is_merged_with_it(place: Place) -> None:
    common = place.add("all", "all", 1)
    place.add("accent", "indian", 2, over=fingerprint(common / "adapter_model.safetensors"))
    models = place.models()

    key = models.choose(Choice(), KnownTraits(accent="indian").estimates())
    found = models.fetch(key)

    assert str(found.key) == "accent-indian+one-for-all"
    folders = [place.profiles / "tiny" / name for name in key.names]
    changed = merge(place.state, [(read_lora_file(folder, place.base.shapes), 1.0) for folder in folders])
    expected = TorchWhisper(plain_model(place.config, place.state | changed), 0)
    np.testing.assert_allclose(said(found.model), said(expected), atol=1e-5)


def test_a_profile_that_was_trained_again_is_merged_again(place: Place) -> None:
    place.add("accent", "indian", 1)
    models = place.models()
    key = models.choose(Choice.parse("accent-indian"), {})
    before = said(models.fetch(key).model)

    place.add("accent", "indian", 2)

    key = models.choose(Choice.parse("accent-indian"), {})
    assert not np.array_equal(said(models.fetch(key).model), before)


def test_values_that_are_no_numbers_put_a_profile_aside_and_the_others_serve(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    place.add("gender", "male", 1)
    weights = place.add("accent", "indian", 2) / "adapter_model.safetensors"
    models = place.models()
    known = KnownTraits(gender="male", accent="indian").estimates()
    before = weights.stat()
    weights.write_bytes(b"?" * before.st_size)
    os.utime(weights, ns=(before.st_atime_ns, before.st_mtime_ns))

    found = models.fetch(models.choose(Choice(), known))

    assert str(found.key) == "gender-male"
    assert str(models.choose(Choice(), known)) == "gender-male"
    assert sum("cannot be read" in record.message for record in caplog.records) == 1


def test_a_file_that_vanishes_between_the_look_and_the_merge_costs_only_itself(place: Place) -> None:
    folder = place.add("accent", "indian", 1)
    models = place.models()
    key = models.choose(Choice.parse("accent-indian"), {})
    (folder / "adapter_model.safetensors").unlink()

    found = models.fetch(key)

    assert found.model is models.base
    assert found.key == ProfileKey()


class ShortOfMemory:
    """A base model whose device has room for `room` merged models."""

    longest_answer = 448
    own_bytes = 10
    adaptable = None

    def __init__(self, room: int) -> None:
        self.room = room
        self.releases = 0

    def merged(self, adapters: object) -> "ShortOfMemory":
        if self.room <= 0:
            raise OutOfMemoryError("no room")
        self.room -= 1
        return ShortOfMemory(0)

    def prepare_merge(self, matrices: object) -> None:
        pass

    def release_memory(self) -> None:
        self.releases += 1
        self.room += 1 if self.releases == 1 else 0

    def encode(self, log_mel: Spectrogram) -> DecoderSession:
        raise NotImplementedError


def test_short_of_memory_others_are_let_go_and_then_the_base_answers(place: Place) -> None:
    for seed, value in enumerate(VALUES[:3]):
        place.add("accent", value, seed)
    keys = [ProfileKey.parse(f"accent-{value}") for value in VALUES[:3]]
    base = ShortOfMemory(1)
    models = MergedModels(base, ProfileLibrary([place.profiles], place.base), WEIGHTS, 1000)

    models.fetch(keys[0])
    second = models.fetch(keys[1])
    assert (second.key, list(models.cached())) == (keys[1], [keys[1]])
    third = models.fetch(keys[2])

    assert third.model is base
    assert (third.key, third.was_cached) == (ProfileKey(), False)


def test_what_cannot_be_read_is_told(place: Place) -> None:
    folder = place.add("accent", "indian", 1)
    lora = read_lora_file(folder, place.base.shapes)
    (folder / "adapter_model.safetensors").write_bytes(b"short")

    with pytest.raises(ProfileError, match=r"adapter_model\.safetensors cannot be read"):
        merge(place.state, [(lora, 1.0)])
