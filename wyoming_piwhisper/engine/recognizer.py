"""An utterance on its way through the models: gate, voice, features, encoder, decoder."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import numpy as np

from wyoming_piwhisper.domain.audio import SAMPLE_RATE, Samples, seconds_of
from wyoming_piwhisper.domain.errors import OutOfMemoryError
from wyoming_piwhisper.domain.settings import VadSettings
from wyoming_piwhisper.domain.transcription import RecognitionOptions, Transcription
from wyoming_piwhisper.engine.checkpoint import WINDOW_SECONDS, Checkpoint
from wyoming_piwhisper.engine.clock import StageClock
from wyoming_piwhisper.engine.decoding import DecodedWindow, GreedyDecoder, SpeechModel, Steps, run
from wyoming_piwhisper.engine.features import FRAMES_PER_SECOND, HOP_SAMPLES, MelStream, Spectrogram, compress
from wyoming_piwhisper.engine.vad import SpeechGate, SpeechRegion
from wyoming_piwhisper.engine.voices import Voice, Voices
from wyoming_piwhisper.engine.windows import windows

ENOUGH_SPEECH_SAMPLES: Final = 3 * SAMPLE_RATE
"""With so much speech at hand the voice is listened to; the rest of the utterance would not change the choice."""


class Recognizer:
    """An `Engine` over any `SpeechModel`."""

    def __init__(
        self, model: SpeechModel, checkpoint: Checkpoint, vad: VadSettings, voices: Voices | None = None
    ) -> None:
        """Put the parts together; `model` was loaded from `checkpoint`, and without `voices` hears everybody."""
        self._model = model
        self._checkpoint = checkpoint
        self._vad = vad
        self._voices = voices
        self._decoder = GreedyDecoder(checkpoint.tokenizer, checkpoint.rules)

    def open(self, options: RecognitionOptions) -> "RecognizedUtterance":
        """Begin an utterance."""
        if self._voices is not None:
            self._voices.prepare()
        return RecognizedUtterance(self, SpeechGate(self._vad), MelStream(self._checkpoint.mel_bins), options)

    def find_windows(self, regions: list[SpeechRegion], samples: Samples) -> list[SpeechRegion]:
        """Regions with speech as windows that the model can hear at once."""
        return windows(regions, samples, self._checkpoint.context.longest_seconds)

    def listen(self, speech: Samples, options: RecognitionOptions, clock: StageClock) -> Voice:
        """Find out who speaks and which model is theirs."""
        return Voice(self._model) if self._voices is None else self._voices.listen(speech, options, clock)

    def renewed(self, voice: Voice) -> Voice:
        """The same voice on its own model, if that has become ready."""
        return voice if self._voices is None else self._voices.renewed(voice)

    def without_profiles(self, voice: Voice) -> Voice:
        """The same voice on the base model, with as much memory free as can be."""
        return voice if self._voices is None else self._voices.without_profiles(voice)

    def hear(
        self, model: SpeechModel, power: Spectrogram, language: str, clock: StageClock, draft: Sequence[int] = ()
    ) -> Steps[DecodedWindow]:
        """Recognise a window of Mel power (mel bins, frames), at most 30 s; `draft` holds the likely tokens."""
        seconds = power.shape[1] / FRAMES_PER_SECOND
        pad_seconds = self._checkpoint.context.pad_seconds
        pad = round((WINDOW_SECONDS - seconds if pad_seconds is None else pad_seconds) * FRAMES_PER_SECOND)
        with clock.stage("features"):
            spectrogram = compress(np.pad(power, ((0, 0), (0, max(0, pad)))))
        with clock.stage("encode"):
            session = model.encode(spectrogram)
        yield
        steps = self._decoder.steps(session, language, seconds, model.longest_answer, draft)
        while True:
            with clock.stage("decode"):
                try:
                    next(steps)
                except StopIteration as end:
                    window: DecodedWindow = end.value
                    return window
            yield


class RecognizedUtterance:
    """An `Utterance` of a `Recognizer`.

    Whenever the speaker pauses, what was said so far is heard ahead of time. If nothing follows, that is the answer; if
    more follows, its words are the draft for the next time.
    """

    def __init__(
        self, recognizer: Recognizer, gate: SpeechGate, stream: MelStream, options: RecognitionOptions
    ) -> None:
        """Begin with no sample heard."""
        self._recognizer = recognizer
        self._gate = gate
        self._stream = stream
        self._options = options
        self._language = options.language or "en"
        self._chunks: list[Samples] = []
        self._clock = StageClock()
        self._listened: tuple[int, Voice] | None = None
        self._heard: dict[SpeechRegion, DecodedWindow] = {}
        self._drafts: dict[int, tuple[int, ...]] = {}
        self._ahead: Steps[list[SpeechRegion]] | None = None
        self._ahead_of: list[SpeechRegion] = []

    def feed(self, samples: Samples) -> None:
        """Take the next samples; as soon as there is enough speech, choose the model while the person still talks."""
        self._chunks.append(samples)
        with self._clock.stage("vad"):
            self._gate.feed(samples)
        with self._clock.stage("features"):
            self._stream.feed(samples)
        if self._listened is None or self._listened[0] < ENOUGH_SPEECH_SAMPLES:
            regions = self._gate.regions()
            if _samples_in(regions) >= ENOUGH_SPEECH_SAMPLES:
                self._listen(regions, self._samples())

    def think(self) -> bool:
        """Hear what was said before a pause, a step at a time."""
        if not self._gate.pause_is_settled:
            return False
        regions = self._gate.regions()
        if regions != self._ahead_of:
            self._ahead, self._ahead_of = self._steps(regions, self._samples()), regions
        if self._ahead is None:
            return False
        try:
            next(self._ahead)
        except StopIteration:
            self._ahead = None
        return True

    def finish(self) -> Transcription:
        """Return the transcript of all samples fed."""
        samples = self._samples()
        regions = self._gate.regions()
        is_same = regions == self._ahead_of
        was_ready = is_same and self._ahead is None and bool(regions)
        found = run(self._ahead if is_same and self._ahead is not None else self._steps(regions, samples))
        heard = [self._heard[window] for window in found]
        spoken = [window for window in heard if window.text]
        transcription = Transcription(
            text=" ".join(window.text for window in spoken),
            language=self._language,
            audio_seconds=seconds_of(samples.size),
            speech_seconds=seconds_of(_samples_in(found)),
            no_speech_probability=min((window.no_speech_probability for window in heard), default=1.0),
            average_log_probability=_average_log_probability(spoken),
            stage_seconds=self._clock.seconds,
            was_ready=was_ready,
        )
        if self._listened is None:
            return transcription
        _, voice = self._listened
        return replace(
            transcription,
            profile=voice.profile,
            profile_was_cached=voice.was_cached,
            profile_is_awaited=voice.awaits is not None,
            traits=voice.traits,
        )

    def _steps(self, regions: list[SpeechRegion], samples: Samples) -> Steps[list[SpeechRegion]]:
        """Choose the voice and hear each window that was not heard so far; brings all windows."""
        found = self._recognizer.find_windows(regions, samples)
        if not found:
            return found
        voice = self._listen(regions, samples)
        yield
        for window in found:
            if window not in self._heard:
                draft = self._drafts.get(window.start, ())
                power = self._stream.power(window.start // HOP_SAMPLES, window.end // HOP_SAMPLES)
                decoded = yield from self._hear(voice, power, draft)
                self._heard[window] = decoded
                self._drafts[window.start] = decoded.tokens
        return found

    def _listen(self, regions: list[SpeechRegion], samples: Samples) -> Voice:
        """The voice of the first 3 s of speech; what was found in less is looked at again when there is more."""
        enough = min(ENOUGH_SPEECH_SAMPLES, _samples_in(regions))
        before = self._listened
        if before is not None and before[0] >= enough:
            self._listened = (before[0], self._recognizer.renewed(before[1]))
        else:
            speech = np.concatenate([samples[region.start : region.end] for region in regions])
            self._listened = (enough, self._recognizer.listen(speech, self._options, self._clock))
        voice = self._listened[1]
        if before is not None and before[1].profile != voice.profile:
            self._heard.clear()
        return voice

    def _hear(self, voice: Voice, power: Spectrogram, draft: Sequence[int]) -> Steps[DecodedWindow]:
        try:
            return (yield from self._recognizer.hear(voice.model, power, self._language, self._clock, draft))
        except OutOfMemoryError:
            voice = self._recognizer.without_profiles(voice)
            self._listened = (ENOUGH_SPEECH_SAMPLES, voice)
        return (yield from self._recognizer.hear(voice.model, power, self._language, self._clock))

    def _samples(self) -> Samples:
        return np.concatenate(self._chunks) if self._chunks else np.zeros(0, np.float32)


def _samples_in(regions: Sequence[SpeechRegion]) -> int:
    return sum(region.samples for region in regions)


def _average_log_probability(windows: list[DecodedWindow]) -> float:
    tokens = sum(len(window.tokens) for window in windows)
    if not tokens:
        return 0.0
    return sum(window.average_log_probability * len(window.tokens) for window in windows) / tokens
