"""What is told of a speaker, what is inferred, and which profiles follow."""

import pytest

from wyoming_piwhisper.domain.errors import SettingsError
from wyoming_piwhisper.domain.profiles import Choice, ProfileKey, choose_profiles, trait_of, weights_of
from wyoming_piwhisper.domain.settings import ProfileSettings, SpeakerSettings
from wyoming_piwhisper.domain.traits import (
    AGE_STRATA,
    KnownTraits,
    SpeakerTraits,
    TraitEstimate,
    age_stratum,
    speaker_traits,
    told,
)

AVAILABLE = {"age-child", "accent-indian", "gender-female", "gender-male", "one-for-all"}


@pytest.mark.parametrize(
    ("age", "stratum"),
    [
        *(("0", "child"), ("12", "child"), ("13", "teens"), ("19", "teens"), ("20", "twenties"), ("79", "seventies")),
        *(("80", "eighties"), ("99", "eighties"), ("150", "eighties"), ("forties", "forties")),
    ],
)
def test_an_age_in_years_belongs_to_a_stratum(age: str, stratum: str) -> None:
    assert age_stratum(age) == stratum


def test_there_are_nine_strata_of_age() -> None:
    assert len(AGE_STRATA) == 9


@pytest.mark.parametrize("age", ["-3", "151", "old", "3.5", "٣٤٥"])
def test_what_is_no_age_is_told(age: str) -> None:
    with pytest.raises(SettingsError, match="age: "):
        told("age", age)


@pytest.mark.parametrize(("typed", "value"), [("unknown", None), ("", None), (" Indian ", "indian"), ("a_b", "a_b")])
def test_an_accent_as_it_is_typed(typed: str, value: str | None) -> None:
    assert told("accent", typed) == value


@pytest.mark.parametrize("typed", ["../etc", "a-b", "a b", "a/b", "a+b"])
def test_an_accent_that_could_name_no_profile_is_refused(typed: str) -> None:
    with pytest.raises(SettingsError, match="accent: "):
        told("accent", typed)


def test_what_was_told_beats_what_the_voice_suggests() -> None:
    inferred: SpeakerTraits = {"age": TraitEstimate("thirties", 0.7), "gender": TraitEstimate(None, 0.5)}

    traits = speaker_traits(KnownTraits(age="child", accent="indian"), inferred)

    assert traits == {
        "age": TraitEstimate("child", 1.0, known=True),
        "gender": TraitEstimate(None, 0.5),
        "accent": TraitEstimate("indian", 1.0, known=True),
    }


@pytest.mark.parametrize(
    ("choice", "told_traits", "key"),
    [
        ("auto", KnownTraits(), "one-for-all"),
        ("auto", KnownTraits(gender="female"), "gender-female"),
        ("auto", KnownTraits(age="child", gender="male", accent="indian"), "age-child+gender-male+accent-indian"),
        ("auto", KnownTraits(age="fifties", accent="indian"), "accent-indian"),
        ("none", KnownTraits(age="child"), "base"),
        ("base", KnownTraits(age="child"), "base"),
        ("one-for-all", KnownTraits(age="child"), "one-for-all"),
        ("accent-indian+age-child", KnownTraits(), "age-child+accent-indian"),
        ("accent-martian", KnownTraits(age="child"), "one-for-all"),
    ],
)
def test_a_speaker_gets_the_profiles_that_are_called_for_and_there(
    choice: str, told_traits: KnownTraits, key: str
) -> None:
    assert str(choose_profiles(Choice.parse(choice), told_traits.estimates(), AVAILABLE)) == key


def test_a_profile_comes_with_the_one_that_it_was_trained_over() -> None:
    female = KnownTraits(gender="female").estimates()

    def key(choice: str, over: set[str]) -> str:
        return str(choose_profiles(Choice.parse(choice), female, AVAILABLE, over))

    assert key("auto", {"gender-female"}) == "gender-female+one-for-all"
    assert key("auto", {"accent-indian"}) == "gender-female"
    assert key("accent-indian+age-child", {"accent-indian"}) == "age-child+accent-indian+one-for-all"
    assert key("none", {"gender-female"}) == "base"


def test_without_a_profile_for_all_the_base_stands_in() -> None:
    available = AVAILABLE - {"one-for-all"}

    assert choose_profiles(Choice(), {}, available) == ProfileKey()
    assert choose_profiles(Choice.parse("accent-martian"), {}, available) == ProfileKey()


def test_an_unclear_trait_calls_for_no_profile() -> None:
    unsure: SpeakerTraits = {"gender": TraitEstimate(None, 0.55)}

    assert str(choose_profiles(Choice(), unsure, AVAILABLE)) == "one-for-all"


def test_a_key_is_the_same_in_whatever_order_it_is_written() -> None:
    one, other = ProfileKey.parse("gender-male+accent-indian"), ProfileKey.parse("accent-indian+gender-male")

    assert one == other
    assert str(one) == "gender-male+accent-indian"
    assert ProfileKey.parse("base") == ProfileKey()


@pytest.mark.parametrize("text", ["", "indian", "accent-", "accent-In", "mood-calm", "accent-a+accent-b", "../x"])
def test_what_is_no_key_is_told(text: str) -> None:
    with pytest.raises(SettingsError, match="profile: "):
        ProfileKey.parse(text)


def test_each_profile_counts_as_much_as_its_trait() -> None:
    weights = ProfileSettings(age_weight=0.25, accent_weight=0.5).trait_weights

    assert weights_of(ProfileKey.parse("age-child+gender-male+accent-indian"), weights) == (0.25, 1.0, 0.5)
    assert weights_of(ProfileKey.parse("one-for-all"), weights) == (1.0,)
    assert trait_of("one-for-all") is None


def test_settings_of_the_speaker_name_the_wrong_key() -> None:
    assert SpeakerSettings(age="34", gender="Female").known == KnownTraits("thirties", "female", None)
    with pytest.raises(SettingsError, match=r"^speaker\.age: '200'"):
        SpeakerSettings(age="200")
    with pytest.raises(SettingsError, match=r"^speaker\.gender: 'femal' is neither unknown nor female nor male"):
        SpeakerSettings(gender="femal")
    with pytest.raises(SettingsError, match=r"^speaker\.profile: 'best'"):
        SpeakerSettings(profile="best")
    with pytest.raises(SettingsError, match=r"^profiles\.prewarm: "):
        ProfileSettings(prewarm="accent-indian, nobody")
    with pytest.raises(SettingsError, match=r"^profiles\.cache_mb: -1"):
        ProfileSettings(cache_mb=-1)


def test_a_trait_that_cannot_be_inferred_is_told() -> None:
    assert SpeakerSettings(infer="accent,age").inferred == ("age", "accent")
    assert SpeakerSettings(infer="").inferred == ()
    with pytest.raises(SettingsError, match=r"^speaker\.infer: 'mood' is none of age, gender, accent"):
        SpeakerSettings(infer="age, mood")
