"""The way of an utterance through gate, features and model, with a model that only looks at what it is given."""

import json
from pathlib import Path

import numpy as np
import pytest
from checkpoints import write_checkpoint
from test_vad import silence, voice

from wyoming_piwhisper.domain.audio import SAMPLE_RATE, Samples
from wyoming_piwhisper.domain.engine_plan import EnginePlan
from wyoming_piwhisper.domain.errors import ModelFormatError
from wyoming_piwhisper.domain.profiles import BASE, ProfileKey
from wyoming_piwhisper.domain.settings import AsrSettings, VadSettings
from wyoming_piwhisper.domain.transcription import STAGES, RecognitionOptions, Speculation, Transcription
from wyoming_piwhisper.engine.checkpoint import read_checkpoint
from wyoming_piwhisper.engine.clock import StageClock
from wyoming_piwhisper.engine.decoding import Logits
from wyoming_piwhisper.engine.features import Spectrogram
from wyoming_piwhisper.engine.interface import Utterance
from wyoming_piwhisper.engine.loading import load_engine
from wyoming_piwhisper.engine.recognizer import Recognizer
from wyoming_piwhisper.engine.utterance import ENOUGH_SPEECH_SAMPLES
from wyoming_piwhisper.engine.voices import Voice

PROMPT = 2
SHORT = {"encoder_context": {"pad_seconds": 0.64, "longest_seconds": 4.0}}


class Listener:
    """A model that says the same each time and keeps the number of frames that it heard."""

    longest_answer = 448

    def __init__(self, tokens: list[int]) -> None:
        self._tokens = tokens
        self.frames: list[int] = []
        self.heard: list[Spectrogram] = []

    def encode(self, log_mel: Spectrogram) -> "Answer":
        self.heard.append(log_mel)
        self.frames.append(log_mel.shape[1])
        return Answer(self._tokens)


class Answer:
    def __init__(self, tokens: list[int]) -> None:
        self._tokens = tokens
        self._heard = 0

    def advance(self, tokens: list[int]) -> Logits:
        logits = np.zeros((len(tokens), 200), np.float32)
        for row in logits:
            self._heard += 1
            row[self._tokens[max(0, self._heard - PROMPT)] if self._heard >= PROMPT else 0] = 12
        return logits

    def rewind(self, tokens: int) -> None:
        self._heard -= tokens

    def branch(self, parents: list[int], tokens: list[int]) -> Logits:
        raise AssertionError("not asked for")


def recognise(
    folder: Path, samples: Samples, ours: dict[str, dict[str, float]] | None
) -> tuple[Transcription, list[int]]:
    write_checkpoint(folder, ours=ours)
    checkpoint = read_checkpoint(folder)
    model = Listener([*checkpoint.tokenizer.encode(" what time is it").ids, checkpoint.rules.end])
    utterance = Recognizer(model, checkpoint, VadSettings()).open(RecognitionOptions("en"))
    for start in range(0, samples.size, 1600):
        utterance.feed(samples[start : start + 1600])
    return utterance.finish(), model.frames


def test_silence_never_reaches_the_model(tmp_path: Path) -> None:
    result, frames = recognise(tmp_path, silence(3), SHORT)

    assert result.text == ""
    assert result.audio_seconds == 3
    assert result.speech_seconds == 0
    assert frames == []


def test_no_sample_at_all_is_an_empty_transcript(tmp_path: Path) -> None:
    result, _ = recognise(tmp_path, silence(0), SHORT)

    assert (result.text, result.audio_seconds) == ("", 0)


def test_a_short_command_is_heard_with_a_short_context(tmp_path: Path) -> None:
    result, (frames,) = recognise(tmp_path, np.concatenate([silence(1), voice(1.5), silence(1)]), SHORT)

    assert result.text == "what time is it"
    assert 150 + 64 <= frames <= 300 + 64
    assert set(result.stage_seconds) == set(STAGES) - {"traits", "merge"}


def opened(folder: Path) -> tuple[Utterance, Listener]:
    write_checkpoint(folder, ours=SHORT)
    checkpoint = read_checkpoint(folder)
    model = Listener([*checkpoint.tokenizer.encode(" what time is it").ids, checkpoint.rules.end])
    return Recognizer(model, checkpoint, VadSettings()).open(RecognitionOptions("en")), model


def thought(utterance: Utterance) -> int:
    """Pieces of work that were done ahead of time."""
    pieces = 0
    while utterance.think():
        pieces += 1
    return pieces


def test_what_was_said_before_a_pause_is_heard_in_the_pause(tmp_path: Path) -> None:
    utterance, model = opened(tmp_path)
    utterance.feed(voice(1.5))
    assert thought(utterance) == 0
    utterance.feed(silence(0.5))
    assert thought(utterance) > 3
    assert len(model.frames) == 1

    utterance.feed(silence(0.5))
    assert thought(utterance) == 0
    result = utterance.finish()

    assert result.was_ready
    assert result.text == "what time is it"
    assert len(model.frames) == 1


def test_what_is_heard_ahead_is_what_would_be_heard_at_the_end(tmp_path: Path) -> None:
    heard = []
    for ahead in (True, False):
        utterance, model = opened(tmp_path)
        noise = np.random.default_rng(0).normal(0, 1e-3, SAMPLE_RATE).astype(np.float32)
        for samples in (voice(1.2), *np.split(noise, 100)):
            utterance.feed(samples)
            if ahead:
                thought(utterance)
        utterance.finish()
        heard.append(model.heard)

    assert len(heard[0]) == 1
    np.testing.assert_array_equal(heard[0][0], heard[1][0])


def test_what_follows_a_pause_is_heard_with_what_came_before(tmp_path: Path) -> None:
    utterance, model = opened(tmp_path)
    plain, _ = opened(tmp_path)
    for samples in (voice(1.2), silence(0.5), voice(1.2), silence(0.5)):
        utterance.feed(samples)
        plain.feed(samples)
        thought(utterance)

    result, expected = utterance.finish(), plain.finish()

    assert len(model.frames) == 2
    assert model.frames[1] > model.frames[0]
    assert (result.text, result.speech_seconds) == (expected.text, expected.speech_seconds)
    assert (result.was_ready, expected.was_ready) == (True, False)


def test_a_voice_that_was_guessed_in_an_early_pause_is_listened_to_again_while_it_speaks(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, ours=SHORT)
    checkpoint = read_checkpoint(tmp_path)
    heard: list[int] = []

    class Watched(Recognizer):
        def listen(self, speech: Samples, options: RecognitionOptions, clock: StageClock) -> Voice:
            heard.append(speech.size)
            return super().listen(speech, options, clock)

    model = Listener([*checkpoint.tokenizer.encode(" what time is it").ids, checkpoint.rules.end])
    utterance = Watched(model, checkpoint, VadSettings()).open(RecognitionOptions("en"))
    utterance.feed(np.concatenate([voice(1.2), silence(0.5)]))
    thought(utterance)
    assert len(heard) == 1

    utterance.feed(voice(3.5))
    assert len(heard) == 2
    utterance.feed(voice(1.0))
    utterance.finish()

    assert len(heard) == 2
    assert heard[0] < ENOUGH_SPEECH_SAMPLES <= heard[1]


def test_work_that_was_left_off_is_finished_when_an_answer_is_owed(tmp_path: Path) -> None:
    utterance, model = opened(tmp_path)
    utterance.feed(np.concatenate([voice(1.5), silence(0.5)]))
    assert utterance.think()
    assert utterance.think()

    assert utterance.finish().text == "what time is it"
    assert len(model.frames) == 1


def test_speech_longer_than_a_window_is_heard_in_parts(tmp_path: Path) -> None:
    result, frames = recognise(tmp_path, voice(10), SHORT)

    assert len(frames) >= 3
    assert max(frames) <= 400 + 64
    assert result.text == " ".join(["what time is it"] * len(frames))


def test_a_whole_engine_loads_from_a_folder_and_answers(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, ours=SHORT)
    engine = load_engine(EnginePlan(tmp_path, asr=AsrSettings(device="cpu", threads=1)))
    utterance = engine.open(RecognitionOptions("en"))
    utterance.feed(voice(1))

    assert utterance.finish().audio_seconds == pytest.approx(1, abs=1 / SAMPLE_RATE)


@pytest.mark.parametrize("name", ["config.json", "generation_config.json", "tokenizer.json"])
@pytest.mark.parametrize("content", ["", "[]", '{"model_type"'])
def test_damaged_small_files_are_named(tmp_path: Path, name: str, content: str) -> None:
    write_checkpoint(tmp_path)
    (tmp_path / name).write_text(content)

    with pytest.raises(ModelFormatError, match=name.replace(".", r"\.")):
        read_checkpoint(tmp_path)


def test_a_size_missing_in_the_configuration_is_named(tmp_path: Path) -> None:
    write_checkpoint(tmp_path)
    path = tmp_path / "config.json"
    path.write_text(json.dumps({key: value for key, value in json.loads(path.read_text()).items() if key != "d_model"}))

    with pytest.raises(ModelFormatError, match="d_model"):
        load_engine(EnginePlan(tmp_path))


def test_a_model_for_30_s_gets_a_short_context_first_and_the_full_one_where_that_goes_wrong(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, ours=None)
    checkpoint = read_checkpoint(tmp_path)
    words = checkpoint.tokenizer.encode(" what time is it").ids
    samples = np.concatenate([silence(1), voice(1.5), silence(1)])

    def heard(tokens: list[int], context: str) -> tuple[str, list[int]]:
        model = Listener(tokens)
        utterance = Recognizer(model, checkpoint, VadSettings(), context=context).open(RecognitionOptions("en"))
        utterance.feed(samples)
        return utterance.finish().text, model.frames

    text, (frames,) = heard([*words, checkpoint.rules.end], "short")
    assert text == "what time is it"
    assert 150 + 128 <= frames <= 300 + 128

    _, (first, second) = heard(words * 20, "short")
    assert (first, second) == (frames, 3000)

    assert heard([*words, checkpoint.rules.end], "full") == (text, [3000])


def test_a_model_that_was_tuned_to_a_short_context_still_has_the_full_one_to_fall_back_on(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, ours={"encoder_context": {"pad_seconds": 0.64, "knows_full": True}})
    checkpoint = read_checkpoint(tmp_path)
    model = Listener(checkpoint.tokenizer.encode(" what time is it").ids * 20)
    utterance = Recognizer(model, checkpoint, VadSettings()).open(RecognitionOptions("en"))
    utterance.feed(np.concatenate([silence(1), voice(1.5), silence(1)]))
    utterance.finish()

    assert model.frames[1:] == [3000]
    assert model.frames[0] <= 300 + 64


def test_a_command_is_answered_some_time_after_its_last_word(tmp_path: Path) -> None:
    utterance, _ = opened(tmp_path)
    utterance.feed(voice(1.5))
    silent = 0
    while (found := utterance.endpoint()) is None:
        utterance.feed(silence(0.03))
        thought(utterance)
        silent += 1

    assert 0.2 <= 0.03 * silent <= 0.6
    assert (found.text, found.was_ready) == ("what time is it", True)


def test_a_pause_is_not_the_end_while_it_is_not_heard(tmp_path: Path) -> None:
    utterance, model = opened(tmp_path)
    utterance.feed(np.concatenate([voice(1.5), silence(2)]))

    assert utterance.endpoint() is None
    assert model.frames == []


@pytest.mark.parametrize(("samples", "text"), [(silence(8), ""), (voice(15), "what time is it")])
def test_nobody_waits_for_ever(tmp_path: Path, samples: Samples, text: str) -> None:
    utterance, _ = opened(tmp_path)
    utterance.feed(samples[: -SAMPLE_RATE // 2])
    assert utterance.endpoint() is None
    utterance.feed(samples[-SAMPLE_RATE // 2 :])

    found = utterance.endpoint()

    assert found is not None
    assert found.text.startswith(text)


def test_it_is_counted_what_became_of_work_ahead_of_time(tmp_path: Path) -> None:
    utterance, _ = opened(tmp_path)
    for samples in (voice(1), silence(0.4), voice(1), silence(0.4), voice(1)):
        utterance.feed(samples)
        thought(utterance)
    utterance.feed(silence(0.4))
    utterance.think()
    utterance.feed(voice(1))
    utterance.feed(silence(0.4))
    thought(utterance)

    assert utterance.finish().speculation == Speculation(kept=1, verified=2, dropped=1)


class StandingIn:
    """Voices whose own model becomes ready while its stand-in has heard all that was said."""

    def __init__(self, base: Listener, merged: Listener) -> None:
        self._base = base
        self._merged = merged
        self.is_ready = False

    def prepare(self) -> None:
        pass

    def listen(self, *_: object) -> Voice:
        return Voice(self._base, was_cached=False, awaits=ProfileKey.parse("accent-indian"))

    def renewed(self, voice: Voice) -> Voice:
        return Voice(self._merged, "accent-indian", was_cached=False) if self.is_ready else voice


@pytest.mark.parametrize("ends_itself", [False, True])
def test_what_all_was_heard_ahead_is_not_heard_again_by_another_model(tmp_path: Path, *, ends_itself: bool) -> None:
    write_checkpoint(tmp_path, ours=SHORT)
    checkpoint = read_checkpoint(tmp_path)
    base, merged = (
        Listener([*checkpoint.tokenizer.encode(text).ids, checkpoint.rules.end])
        for text in (" what time is it", " what is")
    )
    voices = StandingIn(base, merged)
    recognizer = Recognizer(base, checkpoint, VadSettings(), voices)  # type: ignore[arg-type]
    utterance = recognizer.open(RecognitionOptions("en"))
    for samples in (voice(1.5), silence(0.4)):
        utterance.feed(samples)
        thought(utterance)
    voices.is_ready = True
    utterance.feed(silence(1.5))

    result = utterance.endpoint() if ends_itself else utterance.finish()

    assert result is not None
    assert (result.text, result.was_ready, result.profile) == ("what time is it", True, BASE)
    assert merged.frames == []
