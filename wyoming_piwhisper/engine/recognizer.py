"""An utterance on its way through the models: gate, voice, features, encoder, decoder."""

from dataclasses import replace
from typing import Final

import numpy as np

from wyoming_piwhisper.domain.audio import SAMPLE_RATE, Samples, seconds_of
from wyoming_piwhisper.domain.errors import OutOfMemoryError
from wyoming_piwhisper.domain.settings import VadSettings
from wyoming_piwhisper.domain.transcription import RecognitionOptions, Transcription
from wyoming_piwhisper.engine.checkpoint import WINDOW_SECONDS, Checkpoint
from wyoming_piwhisper.engine.clock import StageClock
from wyoming_piwhisper.engine.decoding import DecodedWindow, GreedyDecoder, SpeechModel
from wyoming_piwhisper.engine.features import log_mel
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
        return RecognizedUtterance(self, SpeechGate(self._vad), options)

    def find_windows(self, regions: list[SpeechRegion], samples: Samples) -> list[SpeechRegion]:
        """Regions with speech as windows that the model can hear at once."""
        return windows(regions, samples, self._checkpoint.context.longest_seconds)

    def listen(self, speech: Samples, options: RecognitionOptions, clock: StageClock) -> Voice:
        """Find out who speaks and which model is theirs."""
        return Voice(self._model) if self._voices is None else self._voices.listen(speech, options, clock)

    def without_profiles(self, voice: Voice) -> Voice:
        """The same voice on the base model, with as much memory free as can be."""
        return voice if self._voices is None else self._voices.without_profiles(voice)

    def hear(self, model: SpeechModel, samples: Samples, language: str, clock: StageClock) -> DecodedWindow:
        """Recognise one window: shape (n,), float32, 16 kHz, at most 30 s."""
        seconds = seconds_of(samples.size)
        pad_seconds = self._checkpoint.context.pad_seconds
        pad = int((WINDOW_SECONDS - seconds if pad_seconds is None else pad_seconds) * SAMPLE_RATE)
        with clock.stage("features"):
            spectrogram = log_mel(samples, self._checkpoint.mel_bins, max(0, pad))
        with clock.stage("encode"):
            session = model.encode(spectrogram)
        with clock.stage("decode"):
            return self._decoder.decode(session, language, seconds, model.longest_answer)


class RecognizedUtterance:
    """An `Utterance` of a `Recognizer`."""

    def __init__(self, recognizer: Recognizer, gate: SpeechGate, options: RecognitionOptions) -> None:
        """Begin with no sample heard."""
        self._recognizer = recognizer
        self._gate = gate
        self._options = options
        self._language = options.language or "en"
        self._chunks: list[Samples] = []
        self._clock = StageClock()
        self._voice: Voice | None = None

    def feed(self, samples: Samples) -> None:
        """Take the next samples; as soon as there is enough speech, choose the model while the person still talks."""
        self._chunks.append(samples)
        with self._clock.stage("vad"):
            self._gate.feed(samples)
        if self._voice is None:
            regions = self._gate.regions()
            if sum(region.samples for region in regions) >= ENOUGH_SPEECH_SAMPLES:
                self._voice = self._listen(regions, self._samples())

    def finish(self) -> Transcription:
        """Return the transcript of all samples fed."""
        samples = self._samples()
        regions = self._gate.regions()
        found = self._recognizer.find_windows(regions, samples)
        if found and self._voice is None:
            self._voice = self._listen(regions, samples)
        heard = [self._hear(self._voice, samples[window.start : window.end]) for window in found if self._voice]
        spoken = [window for window in heard if window.text]
        transcription = Transcription(
            text=" ".join(window.text for window in spoken),
            language=self._language,
            audio_seconds=seconds_of(samples.size),
            speech_seconds=seconds_of(sum(window.samples for window in found)),
            no_speech_probability=min((window.no_speech_probability for window in heard), default=1.0),
            average_log_probability=_average_log_probability(spoken),
            stage_seconds=self._clock.seconds,
        )
        if self._voice is None:
            return transcription
        voice = self._voice
        return replace(transcription, profile=voice.profile, profile_was_cached=voice.was_cached, traits=voice.traits)

    def _listen(self, regions: list[SpeechRegion], samples: Samples) -> Voice:
        speech = np.concatenate([samples[region.start : region.end] for region in regions])
        return self._recognizer.listen(speech, self._options, self._clock)

    def _hear(self, voice: Voice, samples: Samples) -> DecodedWindow:
        try:
            return self._recognizer.hear(voice.model, samples, self._language, self._clock)
        except OutOfMemoryError:
            self._voice = self._recognizer.without_profiles(voice)
        return self._recognizer.hear(self._voice.model, samples, self._language, self._clock)

    def _samples(self) -> Samples:
        return np.concatenate(self._chunks) if self._chunks else np.zeros(0, np.float32)


def _average_log_probability(windows: list[DecodedWindow]) -> float:
    tokens = sum(len(window.tokens) for window in windows)
    if not tokens:
        return 0.0
    return sum(window.average_log_probability * len(window.tokens) for window in windows) / tokens
