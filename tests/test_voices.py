"""From a voice to its model, on the way of an utterance."""

from pathlib import Path

import numpy as np
import pytest
from adapters import Place, base_of, make_place, write_profile
from checkpoints import write_checkpoint
from test_vad import silence, voice

from wyoming_piwhisper.domain.audio import SAMPLE_RATE, Samples
from wyoming_piwhisper.domain.engine_plan import EnginePlan
from wyoming_piwhisper.domain.errors import OutOfMemoryError
from wyoming_piwhisper.domain.settings import ProfileSettings, SpeakerSettings, VadSettings
from wyoming_piwhisper.domain.traits import KnownTraits, Trait, TraitEstimate
from wyoming_piwhisper.domain.transcription import RecognitionOptions, Transcription
from wyoming_piwhisper.engine.checkpoint import read_checkpoint
from wyoming_piwhisper.engine.decoding import DecoderSession
from wyoming_piwhisper.engine.features import Spectrogram
from wyoming_piwhisper.engine.loading import load_engine
from wyoming_piwhisper.engine.recognizer import Recognizer
from wyoming_piwhisper.engine.voices import Voices

AN_INDIAN_WOMAN: dict[Trait, TraitEstimate] = {
    "gender": TraitEstimate("female", 0.97),
    "accent": TraitEstimate("indian", 0.8),
    "age": TraitEstimate(None, 0.3),
}


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return make_place(tmp_path)


class Ear:
    """A classifier that hears the same in every voice and keeps what it was given."""

    def __init__(self) -> None:
        self.heard: list[int] = []

    def infer(self, speech: Samples) -> dict[Trait, TraitEstimate]:
        self.heard.append(speech.size)
        return dict(AN_INDIAN_WOMAN)


def recogniser_of(place: Place, ear: Ear | None) -> Recognizer:
    models = place.models()
    return Recognizer(models.base, read_checkpoint(place.model), VadSettings(), Voices(models, ear))


def recognise(recognizer: Recognizer, samples: Samples, options: RecognitionOptions | None = None) -> Transcription:
    utterance = recognizer.open(options or RecognitionOptions("en"))
    for start in range(0, samples.size, 1600):
        utterance.feed(samples[start : start + 1600])
    return utterance.finish()


def test_a_voice_is_heard_by_the_model_of_its_traits(place: Place) -> None:
    place.add("accent", "indian", 1)
    place.add("gender", "female", 2)
    recognizer = recogniser_of(place, Ear())

    first, again = (recognise(recognizer, voice(1.5)) for _ in range(2))

    assert first.profile == again.profile == "gender-female+accent-indian"
    assert (first.profile_was_cached, again.profile_was_cached) == (False, True)
    assert first.traits == AN_INDIAN_WOMAN
    assert first.text == again.text != recognise(recognizer, voice(1.5), RecognitionOptions("en", "none")).text
    assert {"traits", "merge"} < set(first.stage_seconds)


def test_only_the_traits_that_are_to_be_inferred_are(place: Place) -> None:
    place.add("accent", "indian", 1)
    place.add("gender", "female", 2)
    models, ear = place.models(), Ear()

    def heard(*inferred: Trait) -> Transcription:
        voices = Voices(models, ear, inferred)
        return recognise(Recognizer(models.base, read_checkpoint(place.model), VadSettings(), voices), voice(1.5))

    assert heard("age", "gender").profile == "gender-female"
    assert heard("age", "gender").traits.keys() == {"age", "gender"}
    assert len(ear.heard) == 2
    assert heard().profile == "base"
    assert len(ear.heard) == 2


def test_what_is_known_beats_what_is_heard(place: Place) -> None:
    place.add("accent", "indian", 1)
    place.add("accent", "chinese", 2)
    recognizer = recogniser_of(place, Ear())

    told = recognise(recognizer, voice(1.5), RecognitionOptions("en", known=KnownTraits(accent="chinese")))

    assert told.profile == "accent-chinese"
    assert told.traits["accent"] == TraitEstimate("chinese", 1.0, known=True)
    assert told.traits["gender"] == TraitEstimate("female", 0.97)


@pytest.mark.parametrize(
    ("options", "profile", "looks"),
    [
        (RecognitionOptions("en"), "accent-indian", 1),
        (RecognitionOptions("en", "none"), "base", 0),
        (RecognitionOptions("en", "accent-indian"), "accent-indian", 0),
        (RecognitionOptions("en", known=KnownTraits("child", "male", "indian")), "accent-indian", 0),
    ],
)
def test_the_voice_is_only_looked_into_where_that_matters(
    place: Place, options: RecognitionOptions, profile: str, looks: int
) -> None:
    place.add("accent", "indian", 1)
    ear = Ear()

    assert recognise(recogniser_of(place, ear), voice(1.5), options).profile == profile
    assert len(ear.heard) == looks


def test_traits_are_told_while_the_person_still_talks(place: Place) -> None:
    ear = Ear()
    utterance = recogniser_of(place, ear).open(RecognitionOptions("en"))
    samples = voice(6)

    for start in range(0, 5 * SAMPLE_RATE, 1600):
        utterance.feed(samples[start : start + 1600])

    assert len(ear.heard) == 1
    assert 3 * SAMPLE_RATE <= ear.heard[0] <= 3.4 * SAMPLE_RATE
    utterance.finish()
    assert len(ear.heard) == 1


def test_nobody_is_listened_to_in_silence(place: Place) -> None:
    ear = Ear()

    result = recognise(recogniser_of(place, ear), silence(2))

    assert (result.text, result.profile, result.traits, ear.heard) == ("", "base", {}, [])


def test_without_classifiers_what_is_told_is_all_there_is(place: Place) -> None:
    place.add("accent", "indian", 1)
    recognizer = recogniser_of(place, None)

    assert recognise(recognizer, voice(1)).profile == "base"
    told = recognise(recognizer, voice(1), RecognitionOptions("en", known=KnownTraits(accent="indian")))
    assert told.profile == "accent-indian"


def test_a_device_short_of_memory_answers_with_the_base_model(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    place.add("accent", "indian", 1)
    models = place.models()
    recognizer = Recognizer(models.base, read_checkpoint(place.model), VadSettings(), Voices(models, Ear()))
    expected = recognise(recognizer, voice(1.5), RecognitionOptions("en", "none"))
    healthy = type(models.base).encode

    def encode(model: object, log_mel: Spectrogram) -> DecoderSession:
        if model is not models.base:
            raise OutOfMemoryError("no room for the encoder")
        session: DecoderSession = healthy(models.base, log_mel)
        return session

    monkeypatch.setattr(type(models.base), "encode", encode)
    result = recognise(recognizer, voice(1.5))

    assert (result.text, result.profile) == (expected.text, "base")
    assert models.cached() == {}


def test_an_engine_finds_the_profiles_of_its_model_and_warms_those_it_is_told(
    tmp_path: Path, place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    place.add("accent", "indian", 1)
    plan = EnginePlan(
        place.model,
        "tiny",
        (tmp_path / "nowhere", place.profiles),
        profiles=ProfileSettings(prewarm="accent-indian"),
    )
    caplog.set_level("INFO")

    utterance = load_engine(plan).open(RecognitionOptions("en", "accent-indian"))
    utterance.feed(voice(1))

    result = utterance.finish()
    assert (result.profile, result.profile_was_cached) == ("accent-indian", True)
    assert "1 profiles at hand, 0 refused" in caplog.text


@pytest.mark.parametrize(
    ("speaker", "warned"),
    [
        (SpeakerSettings(profile="accent-indian"), False),
        (SpeakerSettings(accent="indian", gender="male"), False),
        (SpeakerSettings(profile="accent-indian+gender-male"), True),
    ],
)
def test_the_model_of_whoever_usually_speaks_is_merged_at_the_start(
    place: Place, caplog: pytest.LogCaptureFixture, speaker: SpeakerSettings, warned: bool
) -> None:
    place.add("accent", "indian", 1)
    caplog.set_level("INFO")

    engine = load_engine(EnginePlan(place.model, "tiny", (place.profiles,), speaker=speaker))

    assert ("A profile of speaker.profile is not there" in caplog.text) is warned
    assert "Merged models: 1 in 0." in caplog.text
    assert "indian" not in caplog.text
    utterance = engine.open(RecognitionOptions("en", speaker.profile, speaker.known))
    utterance.feed(voice(1))
    result = utterance.finish()
    assert (result.profile, result.profile_was_cached) == ("accent-indian", True)


def test_profiles_of_another_base_model_are_not_used(tmp_path: Path, place: Place) -> None:
    write_checkpoint(tmp_path / "other", seed=1)
    other = base_of(tmp_path / "other")
    assert other.fingerprint != place.base.fingerprint
    folder = place.add("accent", "indian", 1)
    models = Place(tmp_path / "other", place.profiles, other, place.state, place.config).models()

    assert models.cached() == {}
    assert folder.is_dir()
    utterance = Recognizer(models.base, read_checkpoint(tmp_path / "other"), VadSettings(), Voices(models, Ear())).open(
        RecognitionOptions("en")
    )
    utterance.feed(np.asarray(voice(1), np.float32))
    assert utterance.finish().profile == "base"


def test_a_profile_that_is_added_serves_without_a_restart_and_the_others_say_the_same(place: Place) -> None:
    place.add("accent", "indian", 1)
    recognizer = recogniser_of(place, Ear())
    indian = RecognitionOptions("en", "accent-indian")
    before = (
        recognise(recognizer, voice(1.5), indian),
        recognise(recognizer, voice(1.5), RecognitionOptions("en", "none")),
    )

    write_profile(place.profiles, place.base, place.plain(), "gender", "female", 5)

    assert recognise(recognizer, voice(1.5)).profile == "gender-female+accent-indian"
    after = (
        recognise(recognizer, voice(1.5), indian),
        recognise(recognizer, voice(1.5), RecognitionOptions("en", "none")),
    )
    for old, new in zip(before, after, strict=True):
        assert (old.text, old.average_log_probability) == (new.text, new.average_log_probability)
