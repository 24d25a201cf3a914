"""Models merged in the background, and what hears until they are ready."""

import argparse
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from adapters import WEIGHTS, Place, make_place
from conftest import Corpus
from fakes import WAIT_SECONDS
from test_vad import voice

from wyoming_piwhisper.commands.recogniser import load_recogniser
from wyoming_piwhisper.domain.engine_plan import EnginePlan
from wyoming_piwhisper.domain.errors import OutOfMemoryError, ProfileError
from wyoming_piwhisper.domain.profiles import ProfileKey
from wyoming_piwhisper.domain.settings import VadSettings
from wyoming_piwhisper.domain.transcription import RecognitionOptions, Transcription
from wyoming_piwhisper.edge.audio_files import read_audio
from wyoming_piwhisper.edge.settings_file import RECOGNISER_SECTIONS, add_options
from wyoming_piwhisper.engine.checkpoint import read_checkpoint
from wyoming_piwhisper.engine.decoding import DecoderSession
from wyoming_piwhisper.engine.features import Spectrogram
from wyoming_piwhisper.engine.loading import load_engine
from wyoming_piwhisper.engine.merged_models import MergedModels
from wyoming_piwhisper.engine.profile_library import BaseModel, ProfileLibrary
from wyoming_piwhisper.engine.recognizer import Recognizer
from wyoming_piwhisper.engine.voices import Voices
from wyoming_piwhisper.engine.whisper_onnx import OnnxWhisper

ROOT = Path(__file__).parent.parent
INDIAN = ProfileKey.parse("accent-indian")


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return make_place(tmp_path)


class FakeModel:
    """A model that only counts its bytes."""

    longest_answer = 448
    own_bytes = 10

    def merged(self, adapters: object) -> "FakeModel":
        raise NotImplementedError

    def adaptable(self) -> "FakeAdaptable":
        raise NotImplementedError

    def prepare_merge(self, matrices: object) -> None:
        pass

    def release_memory(self) -> None:
        pass

    def encode(self, log_mel: Spectrogram) -> DecoderSession:
        raise NotImplementedError


class FakeAdaptable:
    """Brings a new model for each request."""

    def adapted(self, adapters: object) -> FakeModel:
        return FakeModel()


class SlowToMerge(FakeModel):
    """A base whose work in the background waits until it is let go."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
        self.may_open = threading.Event()
        self.may_merge = threading.Event()
        self.merges = 0
        self.threads: set[int] = set()

    def adaptable(self) -> FakeAdaptable:
        self.may_open.wait(WAIT_SECONDS)
        return FakeAdaptable()

    def merged(self, adapters: object) -> FakeModel:
        self.merges += 1
        self.threads.add(threading.get_ident())
        self.may_merge.wait(WAIT_SECONDS)
        if self.error is not None:
            raise self.error
        return FakeModel()


def until(condition: Callable[[], bool]) -> None:
    """Ask again and again; what is waited for comes from another thread."""
    while not condition():
        pass


def models_of(place: Place, base: FakeModel, limit_bytes: int = 1000) -> MergedModels:
    library = ProfileLibrary([place.profiles], place.base)
    models = MergedModels(base, library, WEIGHTS, limit_bytes, waits=False)
    models.prepare()
    return models


def test_the_best_that_is_at_hand_hears_until_a_model_is_merged_once(place: Place) -> None:
    place.add("accent", "indian", 1)
    base = SlowToMerge()
    models = models_of(place, base)

    first = models.fetch(INDIAN)
    base.may_open.set()
    until(lambda: models.fetch(INDIAN).model is not base)
    second = models.fetch(INDIAN)
    assert models.ready(INDIAN) is None
    base.may_merge.set()
    until(lambda: models.ready(INDIAN) is not None)
    third = models.fetch(INDIAN)

    assert (first.model, first.key, first.was_cached, first.stands_in) == (base, ProfileKey(), False, True)
    assert (second.key, second.was_cached, second.stands_in) == (INDIAN, False, True)
    assert (third.key, third.was_cached, third.stands_in) == (INDIAN, True, False)
    assert models.fetch(INDIAN).model is third.model is not second.model
    assert base.merges == 1
    assert threading.get_ident() not in base.threads
    assert models.cached() == {INDIAN: 10}


def test_what_is_merged_in_the_background_keeps_within_the_bound(place: Place) -> None:
    keys = [ProfileKey.parse(f"accent-{value}") for value in ("indian", "chinese", "american")]
    for seed, key in enumerate(keys):
        place.add("accent", key.names[0].removeprefix("accent-"), seed)
    base = SlowToMerge()
    base.may_open.set()
    base.may_merge.set()
    models = models_of(place, base, limit_bytes=20)

    for key in keys:
        models.fetch(key)
    until(lambda: models.ready(keys[2]) is not None)

    assert list(models.cached()) == keys[1:]
    assert models.counts.evictions == 1


def test_what_could_not_be_kept_is_not_merged(place: Place) -> None:
    place.add("accent", "indian", 1)
    base = SlowToMerge()
    base.may_open.set()
    models = models_of(place, base, limit_bytes=9)

    until(lambda: models.fetch(INDIAN).model is not base)

    assert models.fetch(INDIAN).key == INDIAN
    assert base.merges == 0


def test_models_wanted_at_the_start_are_merged_at_once(place: Place) -> None:
    place.add("accent", "indian", 1)
    base = SlowToMerge()
    base.may_open.set()
    base.may_merge.set()
    models = models_of(place, base)

    models.warm([INDIAN])

    assert models.fetch(INDIAN).was_cached
    assert base.threads == {threading.get_ident()}


@pytest.mark.parametrize(
    ("error", "said", "merges"),
    [(OutOfMemoryError("full"), "No memory for a merged model", 2), (RuntimeError("a bug"), "cannot be merged", 1)],
)
def test_after_a_merge_that_failed_profiles_go_on_at_run_time(
    place: Place, caplog: pytest.LogCaptureFixture, error: Exception, said: str, merges: int
) -> None:
    place.add("accent", "indian", 1)
    base = SlowToMerge(error)
    base.may_open.set()
    base.may_merge.set()
    models = models_of(place, base)
    until(lambda: models.fetch(INDIAN).model is not base)

    until(lambda: models.ready(INDIAN) is not None or said in caplog.text)
    models.fetch(INDIAN)
    until(lambda: base.merges >= merges)

    assert models.fetch(INDIAN).key == INDIAN
    assert models.cached() == {}


def test_a_profile_that_is_damaged_when_it_is_merged_is_put_aside(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    place.add("gender", "male", 1)
    folder = place.add("accent", "indian", 2)
    base = SlowToMerge()
    models = models_of(place, base)
    both = ProfileKey.parse("gender-male+accent-indian")
    models.fetch(both)

    (folder / "adapter_model.safetensors").write_bytes(b"short")
    base.error = ProfileError("adapter_model.safetensors cannot be read")
    base.may_open.set()
    base.may_merge.set()
    until(lambda: models.ready(both) is not None or "is not used" in caplog.text)
    base.error = None

    until(lambda: models.ready(both) is not None or models.fetch(both).was_cached)
    assert models.fetch(both).key == ProfileKey.parse("gender-male")
    assert sum("cannot be read" in record.message for record in caplog.records) == 1


def test_without_a_form_for_run_time_profiles_the_base_hears_until_the_merge(
    place: Place, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.add("accent", "indian", 1)
    base = SlowToMerge()

    def refuse() -> FakeAdaptable:
        raise OutOfMemoryError("no room")

    monkeypatch.setattr(base, "adaptable", refuse)
    models = models_of(place, base)
    until(lambda: "not applied at run time" in caplog.text)

    assert models.fetch(INDIAN).model is base
    base.may_merge.set()
    until(lambda: models.fetch(INDIAN).was_cached)
    assert models.fetch(INDIAN).key == INDIAN


def recognise(recognizer: Recognizer, options: RecognitionOptions) -> Transcription:
    utterance = recognizer.open(options)
    utterance.feed(voice(1.5))
    return utterance.finish()


def test_an_utterance_tells_how_its_profiles_took_part(place: Place) -> None:
    place.add("accent", "indian", 1)
    checkpoint = read_checkpoint(place.model)
    base = OnnxWhisper.load(checkpoint, 1)
    models = MergedModels(base, ProfileLibrary([place.profiles], place.base), WEIGHTS, 10**9, waits=False)
    recognizer = Recognizer(base, checkpoint, VadSettings(), Voices(models, None))
    indian = RecognitionOptions("en", "accent-indian")

    first = recognise(recognizer, indian)
    until(lambda: models.ready(INDIAN) is not None)
    second = recognise(recognizer, indian)

    assert (first.profile_was_cached, second.profile_was_cached) == (False, True)
    assert (second.profile, second.profile_is_awaited) == ("accent-indian", False)
    assert recognise(recognizer, RecognitionOptions("en", "none")).profile_was_cached


def test_speech_that_goes_on_is_heard_by_the_merged_model_as_soon_as_that_is_ready(place: Place) -> None:
    place.add("accent", "indian", 1)
    checkpoint = read_checkpoint(place.model)
    base = OnnxWhisper.load(checkpoint, 1)
    models = MergedModels(base, ProfileLibrary([place.profiles], place.base), WEIGHTS, 10**9, waits=False)
    utterance = Recognizer(base, checkpoint, VadSettings(), Voices(models, None)).open(
        RecognitionOptions("en", "accent-indian")
    )

    utterance.feed(voice(4))
    until(lambda: models.ready(INDIAN) is not None)
    result = utterance.finish()

    assert result.profile == "accent-indian"
    assert (result.profile_was_cached, result.profile_is_awaited) == (False, False)


def test_an_engine_starts_while_its_form_for_run_time_profiles_is_being_opened(place: Place) -> None:
    place.add("accent", "indian", 1)

    engine = load_engine(EnginePlan(place.model, "tiny", (place.profiles,)))
    utterance = engine.open(RecognitionOptions("en", "accent-indian"))
    utterance.feed(voice(1.5))
    result = utterance.finish()

    assert result.profile in {"base", "accent-indian"}
    assert not result.profile_was_cached


def test_commands_without_a_server_wait_for_merged_models(place: Place) -> None:
    place.add("accent", "indian", 1)
    parser = argparse.ArgumentParser()
    add_options(parser, RECOGNISER_SECTIONS)
    arguments = parser.parse_args(["--asr-model", str(place.model), "--profiles-not-ready", "best_available"])

    assert load_recogniser(arguments).settings.profiles.waits


@pytest.mark.parametrize("key", ["accent-indian+one-for-all", "gender-female+accent-chinese+one-for-all"])
def test_bundled_profiles_bring_the_same_words_merged_and_at_run_time(corpus: Corpus, key: str) -> None:
    checkpoint = read_checkpoint(ROOT / "wyoming_piwhisper" / "models" / "home-en")
    base = OnnxWhisper.load(checkpoint, 1)
    library = ProfileLibrary([ROOT / "profiles"], BaseModel("home-en", checkpoint.weights))
    merged = MergedModels(base, library, WEIGHTS, 10**9)
    at_run_time = MergedModels(base, library, WEIGHTS, 0, waits=False)
    at_run_time.prepare()
    until(lambda: at_run_time.fetch(ProfileKey.parse(key)).model is not base)
    recognizers = (Recognizer(base, checkpoint, VadSettings(), Voices(one, None)) for one in (merged, at_run_time))
    clips = [path for path, _ in corpus.clips("speech_commands", "dev")[::4]]

    first, second = ([words(recognizer, path, key) for path in clips] for recognizer in recognizers)

    assert first == second
    assert any(first)


def words(recognizer: Recognizer, path: Path, key: str) -> str:
    utterance = recognizer.open(RecognitionOptions("en", key))
    utterance.feed(np.asarray(read_audio(path), np.float32))
    return utterance.finish().text
