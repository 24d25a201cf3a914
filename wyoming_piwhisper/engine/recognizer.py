"""The models put together: who speaks, which model hears them, how much of the audio it is given."""

from dataclasses import replace
from typing import Final

import numpy as np

from wyoming_piwhisper.domain.audio import Samples
from wyoming_piwhisper.domain.settings import VadSettings
from wyoming_piwhisper.domain.transcription import RecognitionOptions
from wyoming_piwhisper.engine.beam_search import BeamDecoder
from wyoming_piwhisper.engine.checkpoint import WINDOW_SECONDS, Checkpoint
from wyoming_piwhisper.engine.clock import StageClock
from wyoming_piwhisper.engine.decoding import DecodedWindow, DecodingTask, SpeechModel, Steps
from wyoming_piwhisper.engine.features import FRAMES_PER_SECOND, MelStream, compress
from wyoming_piwhisper.engine.greedy_search import GreedyDecoder
from wyoming_piwhisper.engine.utterance import RecognizedUtterance
from wyoming_piwhisper.engine.vad import SpeechGate, SpeechRegion
from wyoming_piwhisper.engine.voices import Voice, Voices
from wyoming_piwhisper.engine.windows import Window, windows

UNTRAINED_PAD_SECONDS: Final = 1.28
"""Silence behind the speech for a model that was trained on 30 s; with less, such models loop more often."""


class Recognizer:
    """An `Engine` over any `SpeechModel`."""

    def __init__(
        self,
        model: SpeechModel,
        checkpoint: Checkpoint,
        vad: VadSettings,
        voices: Voices | None = None,
        *,
        context: str = "short",
        beam: int = 1,
    ) -> None:
        """Put the parts together; `model` was loaded from `checkpoint`, and without `voices` hears everybody.

        `context` is one of `domain.settings.CONTEXTS`, `beam` the number of answers that are searched side by side.
        """
        self._model = model
        self._context = context
        self._checkpoint = checkpoint
        self._vad = vad
        self._voices = voices
        parts = checkpoint.tokenizer, checkpoint.rules
        self._decoder = GreedyDecoder(*parts) if beam == 1 else BeamDecoder(*parts, beam)

    def open(self, options: RecognitionOptions) -> RecognizedUtterance:
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

    def hear(self, model: SpeechModel, window: Window, clock: StageClock) -> Steps[DecodedWindow]:
        """Recognise a window.

        Also a model that was not trained for a short context gets one; all that know the full one get it where the
        short one went wrong.
        """
        trained = self._checkpoint.context
        if self._context == "full":
            return (yield from self._hear(model, window, clock, WINDOW_SECONDS))
        pad_seconds = UNTRAINED_PAD_SECONDS if trained.pad_seconds is None else trained.pad_seconds
        knows_full = trained.pad_seconds is None or trained.knows_full
        heard = yield from self._hear(model, window, clock, pad_seconds, guarded=knows_full)
        if not heard.is_doubtful:
            return heard
        return (yield from self._hear(model, replace(window, draft=()), clock, WINDOW_SECONDS))

    def _hear(
        self, model: SpeechModel, window: Window, clock: StageClock, pad_seconds: float, *, guarded: bool = False
    ) -> Steps[DecodedWindow]:
        pad = round(min(pad_seconds, WINDOW_SECONDS - window.seconds) * FRAMES_PER_SECOND)
        with clock.stage("features"):
            spectrogram = compress(np.pad(window.power, ((0, 0), (0, max(0, pad)))))
        with clock.stage("encode"):
            session = model.encode(spectrogram)
        yield
        task = DecodingTask(window.language, window.seconds, model.longest_answer, window.draft, guarded)
        steps = self._decoder.steps(session, task)
        while True:
            with clock.stage("decode"):
                try:
                    next(steps)
                except StopIteration as end:
                    decoded: DecodedWindow = end.value
                    return decoded
            yield
