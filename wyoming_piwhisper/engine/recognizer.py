"""An utterance on its way through the models: gate, features, encoder, decoder."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from wyoming_piwhisper.domain.audio import SAMPLE_RATE, Samples, seconds_of
from wyoming_piwhisper.domain.settings import VadSettings
from wyoming_piwhisper.domain.transcription import RecognitionOptions, Transcription
from wyoming_piwhisper.engine.checkpoint import WINDOW_SECONDS, Checkpoint
from wyoming_piwhisper.engine.decoding import DecodedWindow, GreedyDecoder, SpeechModel
from wyoming_piwhisper.engine.features import log_mel
from wyoming_piwhisper.engine.vad import SpeechGate, SpeechRegion
from wyoming_piwhisper.engine.windows import windows


class Recognizer:
    """An `Engine` over any `SpeechModel`."""

    def __init__(self, model: SpeechModel, checkpoint: Checkpoint, vad: VadSettings) -> None:
        """Put the parts together; `model` was loaded from `checkpoint`."""
        self._model = model
        self._checkpoint = checkpoint
        self._vad = vad
        self._decoder = GreedyDecoder(checkpoint.tokenizer, checkpoint.rules)

    def open(self, options: RecognitionOptions) -> "RecognizedUtterance":
        """Begin an utterance."""
        return RecognizedUtterance(self, SpeechGate(self._vad), options.language or "en")

    def find_windows(self, regions: list[SpeechRegion], samples: Samples) -> list[SpeechRegion]:
        """Regions with speech as windows that the model can hear at once."""
        return windows(regions, samples, self._checkpoint.context.longest_seconds)

    def hear(self, samples: Samples, language: str, clock: "StageClock") -> DecodedWindow:
        """Recognise one window: shape (n,), float32, 16 kHz, at most 30 s."""
        seconds = seconds_of(samples.size)
        pad_seconds = self._checkpoint.context.pad_seconds
        pad = int((WINDOW_SECONDS - seconds if pad_seconds is None else pad_seconds) * SAMPLE_RATE)
        with clock.stage("features"):
            spectrogram = log_mel(samples, self._checkpoint.mel_bins, max(0, pad))
        with clock.stage("encode"):
            session = self._model.encode(spectrogram)
        with clock.stage("decode"):
            return self._decoder.decode(session, language, seconds, self._model.longest_answer)


class RecognizedUtterance:
    """An `Utterance` of a `Recognizer`."""

    def __init__(self, recognizer: Recognizer, gate: SpeechGate, language: str) -> None:
        """Begin with no sample heard."""
        self._recognizer = recognizer
        self._gate = gate
        self._language = language
        self._chunks: list[Samples] = []
        self._clock = StageClock()

    def feed(self, samples: Samples) -> None:
        """Take the next samples."""
        self._chunks.append(samples)
        with self._clock.stage("vad"):
            self._gate.feed(samples)

    def finish(self) -> Transcription:
        """Return the transcript of all samples fed."""
        samples = np.concatenate(self._chunks) if self._chunks else np.zeros(0, np.float32)
        found = self._recognizer.find_windows(self._gate.regions(), samples)
        heard = [
            self._recognizer.hear(samples[window.start : window.end], self._language, self._clock) for window in found
        ]
        spoken = [window for window in heard if window.text]
        return Transcription(
            text=" ".join(window.text for window in spoken),
            language=self._language,
            audio_seconds=seconds_of(samples.size),
            speech_seconds=seconds_of(sum(window.samples for window in found)),
            no_speech_probability=min((window.no_speech_probability for window in heard), default=1.0),
            average_log_probability=_average_log_probability(spoken),
            stage_seconds=self._clock.seconds,
        )


class StageClock:
    """Wall-clock seconds by stage."""

    def __init__(self) -> None:
        """Begin at zero."""
        self.seconds: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Add what passes inside to the stage `name`."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - started


def _average_log_probability(windows: list[DecodedWindow]) -> float:
    tokens = sum(len(window.tokens) for window in windows)
    if not tokens:
        return 0.0
    return sum(window.average_log_probability * len(window.tokens) for window in windows) / tokens
